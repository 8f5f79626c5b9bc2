"""The Replicas provider: no proxy. Who has more pods gets more requests, and that is all it can do."""

from collections.abc import Mapping

import controller_runtime as ctrl

from ..kinds import LABEL_REVISION, LABEL_ROLE, LABEL_SERVICE, ROLE_SERVER
from ..resources.wire import at, maps
from .provider import Backend, Pending, Refused, Verification, Verified
from .split import Split


def effective(ready: Mapping[str, int], stable: str, candidate: str) -> float:
    """The candidate's real share in percent, when each ready pod gets as much as any other."""
    total = ready.get(stable, 0) + ready.get(candidate, 0)
    return 100.0 * ready.get(candidate, 0) / total if total else 0.0


def pods_for(weight: int, replicas: int) -> tuple[int, int]:
    """(stable, candidate): how many pods of `replicas` come nearest to `weight` percent, at least one each
    where the weight is between 0 and 100.
    """
    if weight <= 0:
        return replicas, 0
    if weight >= 100:
        return 0, replicas
    total = max(2, replicas)
    candidate = min(total - 1, max(1, round(total * weight / 100)))
    return total - candidate, candidate


def judge(split: Split, ready: Mapping[str, int]) -> Verification:
    """Whether the pods are as the split has it, as near as pods can be. Pure."""
    change = split.change
    if split.rules:
        return Refused(
            change=change,
            reason="traffic.rules need a proxy: use provider Envoy, or remove the rules",
        )
    if split.candidate is None or split.weight == 0:
        left = ready.get(split.candidate.hash, 0) if split.candidate is not None else 0
        if left:
            return Pending(change=change, reason=f"{left} pods of the candidate still get requests")
        return Verified(change=change, effective=0.0)
    share = effective(ready, split.stable.hash, split.candidate.hash)
    total = ready.get(split.stable.hash, 0) + ready.get(split.candidate.hash, 0)
    if not ready.get(split.candidate.hash, 0):
        return Pending(change=change, reason=f"no pod of revision {split.candidate.hash} is ready")
    if split.weight < 100 and not ready.get(split.stable.hash, 0):
        return Pending(change=change, reason=f"no pod of revision {split.stable.hash} is ready")
    if abs(share - split.weight) > 100.0 / total:  # one pod more or less
        ask = f"{share:.0f} % by {total} ready pods, {split.weight} % asked for"
        return Pending(change=change, reason=f"the candidate gets {ask}")
    return Verified(change=change, effective=share)


class ReplicasProvider:
    """Reads ready pods from the cache; changes nothing, because the sizes are the caller's."""

    def __init__(self, client: ctrl.Client) -> None:
        self._client = client

    async def apply(self, split: Split) -> None:
        return

    async def verify(self, split: Split) -> Verification:
        labels = {LABEL_SERVICE: split.service.name, LABEL_ROLE: ROLE_SERVER}
        ready: dict[str, int] = {}
        for pod in await self._client.list(ctrl.POD, namespace=split.service.namespace, labels=labels):
            conditions = maps(at(pod.raw, "status", "conditions"))
            up = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
            if up and not pod.deleting:
                revision = pod.labels.get(LABEL_REVISION, "")
                ready[revision] = ready.get(revision, 0) + 1
        return judge(split, ready)

    async def remove(self, service: ctrl.Key, uid: str) -> None:
        return

    def backend(self, split: Split) -> Backend | None:
        return None

    def port(self, service: ctrl.Key, uid: str, known: int) -> int:
        return 0
