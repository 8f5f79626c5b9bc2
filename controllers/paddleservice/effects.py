"""What a decision wants done on the API server, as values; and doing it, in order.

Each effect can be done twice, or not at all if the process ends, without harm: the next pass decides anew
from what is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import controller_runtime as ctrl

from ..kinds import PADDLE_SERVICE
from ..resources.meta import Owner, Rendered
from .observed import Foreign


@dataclass(frozen=True, slots=True)
class Create:
    """POST. An object of that name that is not ours stops the pass (ForeignObject)."""

    object: Rendered


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply over an object that is ours."""

    object: Rendered


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a revision's replicas through /scale."""

    key: ctrl.Key
    replicas: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object with this UID, and only if it is still as it was seen."""

    kind: ctrl.Kind
    key: ctrl.Key
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Annotate:
    """Merge annotations into a Deployment of this UID. Its pods are untouched."""

    key: ctrl.Key
    uid: str
    annotations: Mapping[str, str] = field(hash=False)


Effect = Create | Apply | Scale | Delete | Annotate


class ForeignObject(Exception):
    """An object that we were to create is there and belongs to someone else."""

    def __init__(self, found: Foreign) -> None:
        super().__init__(f"{found.kind} {found.name} is not ours")
        self.found = found


def foreign(owner: Owner, obj: ctrl.Object) -> Foreign | None:
    """How `obj` is not ours; None if it is."""
    if obj.controller_uid == owner.uid:
        return None
    predecessor = any(
        reference.get("controller")
        and reference.get("kind") == PADDLE_SERVICE.kind
        and str(reference.get("apiVersion", "")).startswith(f"{PADDLE_SERVICE.group}/")
        and reference.get("name") == owner.name
        for reference in obj.owner_references
    )
    return Foreign(obj.kind.kind, obj.name, predecessor)


async def act(client: ctrl.Client, owner: Owner, effects: Iterable[Effect]) -> None:
    """Do `effects` one after the other. Raises ForeignObject and the client's errors; stops at the first."""
    for effect in effects:
        match effect:
            case Create(wanted):
                await _create(client, owner, wanted)
            case Apply(wanted):
                await client.apply(wanted.body)
            case Scale(key, replicas):
                await client.scale(ctrl.DEPLOYMENT, key, replicas)
            case Delete(kind, key, uid, version):
                # A cache that lags may call idle what was scaled up again a moment ago.
                await client.delete(kind, key, uid=uid, resource_version=version)
            case Annotate(key, uid, annotations):
                patch = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
                await client.patch(ctrl.DEPLOYMENT, key, patch, type="merge")


async def _create(client: ctrl.Client, owner: Owner, wanted: Rendered) -> None:
    try:
        await client.create(wanted.body)
    except ctrl.AlreadyExists:
        # Ours after all: the cache had not seen it yet. Anybody else's is never written over.
        there = await client.get_live(wanted.kind, wanted.key)
        found = foreign(owner, there) if there is not None else None
        if found is not None:
            raise ForeignObject(found) from None
