"""What a decision wants done on the API server, as values; and doing it, in order.

Each effect can be done twice, or not at all if the process ends, without harm: the next pass decides anew
from what is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import controller_runtime as ctrl

from ..conditions import one_line
from ..kinds import PADDLE_SERVICE
from ..reasons import Reason
from ..resources.meta import Owner, Rendered
from ..resources.wire import JSON, mapping
from ..traffic import Home, Provider, RouteProvider, Split
from .observed import Foreign, Refusal


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
    """Set a revision's replicas through /scale. resource_version: only of the Deployment as it was seen."""

    key: ctrl.Key
    replicas: int
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Shift:
    """Hand the split, which is in the status, to the traffic provider of this name."""

    provider: str
    split: Split


@dataclass(frozen=True, slots=True)
class Unroute:
    """Have the provider forget the service: nobody comes that way any more."""

    provider: str
    change: int


@dataclass(frozen=True, slots=True)
class GoHome:
    """Have the route lead to the service, whatever its revisions are."""

    provider: str
    home: Home


@dataclass(frozen=True, slots=True)
class Retire:
    """Delete a route of ours that nothing asks for any more."""

    provider: str
    home: Home


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object with this UID, and only if it is still as it was seen."""

    kind: ctrl.Kind
    key: ctrl.Key
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge fields into the object with this UID."""

    kind: ctrl.Kind
    key: ctrl.Key
    uid: str
    fields: Mapping[str, object] = field(hash=False)


Effect = Create | Apply | Scale | Delete | Merge | Shift | Unroute | GoHome | Retire


class ForeignObject(Exception):
    """An object that we were to create is there and belongs to someone else."""

    def __init__(self, found: Foreign) -> None:
        super().__init__(f"{found.kind} {found.name} is not ours")
        self.found = found


#: How every line of a Refusal begins.
REFUSED = "the API server refuses "


class Refused(Exception):
    """The API server does not let an effect happen, and would not if it were done again at once."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _target(effect: Effect) -> str:
    match effect:
        case Create(wanted) | Apply(wanted):
            return f"{wanted.kind.kind} {wanted.key.name}"
        case Delete(kind, key) | Merge(kind, key):
            return f"{kind.kind} {key.name}"
        case Scale(key):
            return f"{ctrl.DEPLOYMENT.kind} {key.name}"
        case Shift(provider) | Unroute(provider) | GoHome(provider) | Retire(provider):
            return f"route of {provider}"


def refusal(effect: Effect, error: ctrl.Invalid | ctrl.Forbidden) -> Refusal:
    """What the server said, in one line; the object is named once."""
    invalid = isinstance(error, ctrl.Invalid)
    _, _, detail = error.message.partition(" is invalid: " if invalid else " is forbidden: ")
    line = one_line(f"{REFUSED}{_target(effect)}: {detail or error.message}")
    return Refusal(Reason.InvalidSpec if invalid else Reason.PodRefused, line)


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


async def act(
    client: ctrl.Client,
    owner: Owner,
    effects: Iterable[Effect],
    providers: Mapping[str, Provider] | None = None,
) -> None:
    """Do `effects` one after the other, and stop at the first that fails.

    providers: of traffic, by name. Raises ForeignObject, Refused and the client's errors; Forbidden only
    where the namespace goes.
    """
    for effect in effects:
        try:
            await _do(client, owner, effect, providers or {})
        except ctrl.Invalid as error:
            raise Refused(refusal(effect, error)) from error
        except ctrl.Forbidden as error:
            if error.namespace_terminating:
                raise
            raise Refused(refusal(effect, error)) from error


async def _do(client: ctrl.Client, owner: Owner, effect: Effect, providers: Mapping[str, Provider]) -> None:
    match effect:
        case Create(wanted):
            await _create(client, owner, wanted)
        case Apply(wanted):
            await client.apply(wanted.body)
        case Scale(key, replicas, ""):
            await client.scale(ctrl.DEPLOYMENT, key, replicas)
        case Scale(key, replicas, version):
            # Who decided on an older state must not take pods that have got traffic since.
            body: JSON = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
            await client.patch(ctrl.DEPLOYMENT, key, body, type="merge", subresource="scale")
        case Delete(kind, key, uid, version):
            # A cache that lags may call idle what was scaled up again a moment ago.
            await client.delete(kind, key, uid=uid, resource_version=version)
        case Merge(kind, key, uid, fields):
            await _merge(client, kind, key, uid, fields)
        case Shift(provider, split) if provider in providers:
            await providers[provider].apply(split)
        case Unroute(provider) if provider in providers:
            await providers[provider].remove(owner.key, owner.uid)
        case GoHome(provider, home) if isinstance(there := providers.get(provider), RouteProvider):
            await there.go_home(home)
        case Retire(provider, home) if isinstance(there := providers.get(provider), RouteProvider):
            await there.retire(home)
        case Shift() | Unroute() | GoHome() | Retire():
            pass  # there is no proxy: the sizes are the split


async def _create(client: ctrl.Client, owner: Owner, wanted: Rendered) -> None:
    try:
        await client.create(wanted.body)
    except ctrl.AlreadyExists:
        there = await client.get_live(wanted.kind, wanted.key)
        if there is None:
            return
        found = foreign(owner, there)
        if found is not None:  # anybody else's is never written over
            raise ForeignObject(found) from None
        # Ours after all: the cache had not seen it yet, or it lost the labels that the cache chooses by.
        labels = dict(ctrl.Object(wanted.body).labels)
        if not labels.items() <= there.labels.items():
            await _merge(client, wanted.kind, wanted.key, there.uid, {"metadata": {"labels": labels}})


async def _merge(
    client: ctrl.Client, kind: ctrl.Kind, key: ctrl.Key, uid: str, fields: Mapping[str, object]
) -> None:
    patch = {**fields, "metadata": {**mapping(fields.get("metadata")), "uid": uid}}
    await client.patch(kind, key, patch, type="merge")
