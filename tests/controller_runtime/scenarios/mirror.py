"""The controller of the scenarios: every ConfigMap with role=owner gets a child with the same data."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import controller_runtime as ctrl
from controller_runtime.testing import Envtest

OWNER = {"role": "owner"}
CHILD = {"role": "child"}


class Mirror:
    """Applies and deletes children; notes every breach of "one worker a key" in `breaches`."""

    def __init__(self, client: ctrl.Client) -> None:
        self.client = client
        self.calls: Counter[ctrl.Key] = Counter()
        self.uids: dict[ctrl.Key, str] = {}
        self.breaches: list[str] = []
        self._running: set[ctrl.Key] = set()

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        if request in self._running:
            self.breaches.append(f"{request} in two workers")
        self._running.add(request)
        self.calls[request] += 1
        try:
            return await self._act(request)
        finally:
            self._running.discard(request)

    async def _act(self, request: ctrl.Key) -> ctrl.Result:
        owner = await self.client.get(ctrl.CONFIG_MAP, request)
        if owner is not None and owner.labels.get("role") != "owner":
            return ctrl.Result()
        name = ctrl.Key(request.namespace, f"{request.name}-child")
        child = await self.client.get(ctrl.CONFIG_MAP, name)
        if child is not None and (owner is None or child.controller_uid != owner.uid):
            # An earlier owner's, which is not to be adopted.
            await self.client.delete(ctrl.CONFIG_MAP, name, uid=child.uid)
            child = None
        if owner is None:
            return ctrl.Result()
        self.uids[request] = owner.uid
        data = owner.raw.get("data")
        if child is None or child.raw.get("data") != data:
            metadata = {
                "name": name.name,
                "namespace": name.namespace,
                "labels": CHILD,
                "ownerReferences": [ctrl.owner_reference(owner)],
            }
            await self.client.apply(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            )
        return ctrl.Result()


def add_mirror(manager: ctrl.Manager, *, workers: int = 10) -> Mirror:
    manager.cache.watch(ctrl.CONFIG_MAP, labels="role in (owner,child)")
    mirror = Mirror(manager.client)
    ctrl.controller(manager, "mirror").manages(ctrl.CONFIG_MAP, when=ctrl.has_labels(OWNER)).owns(
        ctrl.CONFIG_MAP
    ).complete(mirror, workers=workers)
    return mirror


def owner(namespace: str, name: str, value: str = "1") -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace, "labels": OWNER}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


async def converged(client: ctrl.Client, namespace: str, *, seconds: float = 60.0) -> dict[str, str]:
    """Wait until the children are exactly the owners' copies; returns {owner: value}."""
    difference = "no look yet"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                found = await client.list_live(ctrl.CONFIG_MAP, namespace=namespace)
                owners = {item.name: item for item in found if item.labels.get("role") == "owner"}
                children = [item for item in found if item.labels.get("role") == "child"]
                wanted = {f"{name}-child": (one.uid, one.raw["data"]) for name, one in owners.items()}
                present = {item.name: (item.controller_uid, item.raw["data"]) for item in children}
                if wanted == present:
                    return {name: one.raw["data"]["value"] for name, one in owners.items()}
                difference = _differ(wanted, present)
                await asyncio.sleep(0.1)
    raise AssertionError(f"not converged after {seconds:g} s: {difference}")


def _differ(wanted: Mapping[str, object], present: Mapping[str, object]) -> str:
    names = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    return ", ".join(f"{name}: {present.get(name)} for {wanted.get(name)}" for name in names[:5])


async def eventually(condition: Callable[[], Awaitable[object]], *, seconds: float = 20.0) -> None:
    """Like `until`, for a condition that has to ask."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is not ours to signal
            await asyncio.sleep(0.03)


def metric(manager: ctrl.Manager, name: str, **labels: str) -> float:
    return manager.metrics.registry.get_sample_value(name, labels) or 0.0


def requests(env: Envtest, agent: str, verbs: Sequence[str], namespace: str) -> list[Mapping[str, object]]:
    """What the audit log says that `agent` asked, in order."""
    return [
        event
        for event in env.audit_events()
        if str(event.get("userAgent", "")).startswith(agent)
        and event["verb"] in verbs
        and (event.get("objectRef") or {}).get("namespace") == namespace
    ]
