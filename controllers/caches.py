"""What the operator keeps in memory: our kinds whole, the core kinds only where they carry our label."""

from __future__ import annotations

from collections.abc import Callable

import controller_runtime as ctrl

from .kinds import MANAGED_SELECTOR, PADDLE_MODEL, PADDLE_SERVICE

#: The index of PaddleServices by the PaddleModels that they refer to, as "namespace/name".
BY_MODEL = "paddle-model"

MANAGED_KINDS = (ctrl.DEPLOYMENT, ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.POD, ctrl.PDB, ctrl.NETWORK_POLICY)


def _without(field: str) -> Callable[[ctrl.JSON], ctrl.JSON]:
    def shrink(raw: ctrl.JSON) -> ctrl.JSON:
        raw.pop(field, None)
        return raw

    return shrink


def _config_map(raw: ctrl.JSON) -> ctrl.JSON:
    """One that never changes is looked at for its labels only; of pods that change in place it is read."""
    return _without("data")(raw) if raw.get("immutable") else raw


#: What nobody reads is not kept: the largest part of a Pod and of most ConfigMaps.
TRANSFORMS = {ctrl.POD: _without("spec"), ctrl.CONFIG_MAP: _config_map}


def referenced_models(service: ctrl.Object) -> list[str]:
    """Names of the PaddleModels that a PaddleService refers to (its own pinned one is no reference)."""
    names: list[str] = []
    for entry in service.spec.get("models") or []:
        reference = entry.get("modelRef") if isinstance(entry, dict) else None
        if isinstance(reference, dict) and reference.get("name"):
            names.append(str(reference["name"]))
    return names


def by_model(service: ctrl.Object) -> list[str]:
    """The values of the index BY_MODEL."""
    return [str(ctrl.Key(service.namespace, name)) for name in referenced_models(service)]


def configure(manager: ctrl.Manager) -> None:
    """Declares every informer before the manager starts; secrets are never among them."""
    manager.cache.watch(PADDLE_MODEL)
    manager.cache.watch(PADDLE_SERVICE, indexes={BY_MODEL: by_model})
    for kind in MANAGED_KINDS:
        manager.cache.watch(kind, labels=MANAGED_SELECTOR, transform=TRANSFORMS.get(kind))
