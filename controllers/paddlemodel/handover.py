"""The PaddleService that a PaddleModel makes of itself: its serving block, with the artefact pinned. Pure."""

from collections.abc import Mapping

import controller_runtime as ctrl
from api.v1alpha1 import PaddleModelSpec

from ..applied import stamped
from ..kinds import (
    ANNOTATION_MODEL_GENERATION,
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    PADDLE_SERVICE,
)
from .source import Wanted

#: Of spec.serving, what belongs to the one model rather than to the service.
MODEL_SETTINGS = ("priority", "latencySLAMilliseconds", "batching")


def paddle_service(
    model: ctrl.Object, spec: PaddleModelSpec, wanted: Wanted, artifact: Mapping[str, object]
) -> dict[str, object]:
    """The body to apply. Equal specs and equal artefacts give equal specs, whatever else happened."""
    serving = dict(model.spec.get("serving") or {})
    serving.pop("enabled", None)
    settings = {key: serving.pop(key) for key in MODEL_SETTINGS if key in serving}
    pinned: dict[str, object] = {
        "modelName": model.name,
        "uid": model.uid,
        "version": spec.version,
        "framework": model.spec.get("framework"),
        "digest": artifact.get("digest") or "",
        "source": artifact.get("resolved"),
    }
    if wanted.checksum:
        pinned["checksum"] = wanted.checksum
    if wanted.secret:
        pinned["secretRef"] = {"name": wanted.secret}
    if wanted.ca_secret:
        pinned["caSecretRef"] = {"name": wanted.ca_secret}
    for key in ("inputs", "outputs"):
        if model.spec.get(key):
            pinned[key] = model.spec[key]
    return stamped(
        {
            "apiVersion": PADDLE_SERVICE.api_version,
            "kind": PADDLE_SERVICE.kind,
            "metadata": {
                "name": model.name,
                "namespace": model.namespace,
                "labels": {LABEL_MANAGED_BY: FIELD_MANAGER},
                "annotations": {ANNOTATION_MODEL_GENERATION: str(model.generation)},
                "ownerReferences": [ctrl.owner_reference(model)],
            },
            "spec": {**serving, "models": [{"name": model.name, **settings, "pinned": pinned}]},
        }
    )
