"""The providers GatewayAPI and Istio: reads what `routing` decides on, does its next step, and asks again."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

import controller_runtime as ctrl

from ..kinds import LABEL_REVISION, LABEL_SERVICE
from ..resources.meta import Owner, selector
from ..resources.service import alias_service
from ..resources.wire import JSON, at, mapping, maps, text
from . import routing
from .gateway import HTTP_ROUTE
from .istio import VIRTUAL_SERVICE
from .provider import Backend, Drifted, Pending, Refused, Unreachable, Verification, Verified
from .route import CANARY, STABLE, Home, RouteRef
from .routing import Alias, Dialect, Seen
from .split import Split

#: The label by which EndpointSlices name their Service.
SERVICE_NAME: Final = "kubernetes.io/service-name"
#: Seconds for a proxy to hear of the endpoints of a Service that was turned, before it gets a weight.
DWELL: Final = 2.0
#: Steps of one call: no split needs more.
_MOST: Final = 6
_WRITES: Final = ("get", "create", "patch", "delete")


def _clock() -> float:
    return asyncio.get_running_loop().time()


class Routes:
    """One kind of route. Reads live, because others write it too, and its CRD may come and go.

    Remembers only the highest change of a service, why its last write was refused, and when its Services were
    turned.
    """

    rules: ClassVar[tuple[ctrl.Rule, ...]] = (
        ctrl.Rule(HTTP_ROUTE.group, (HTTP_ROUTE.plural,), _WRITES),
        ctrl.Rule(VIRTUAL_SERVICE.group, (VIRTUAL_SERVICE.plural,), _WRITES),
    )

    def __init__(
        self,
        client: ctrl.Client,
        dialect: Dialect,
        *,
        dwell: float = DWELL,
        clock: Callable[[], float] = _clock,
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._dwell = dwell
        self._clock = clock
        self._trouble: dict[str, str] = {}
        self._turned: dict[tuple[str, str], float] = {}
        self._change: dict[str, int] = {}

    async def apply(self, split: Split) -> None:
        """See Provider."""
        home = _home(split)
        if split.change < self._change.get(split.uid, 0):
            return
        self._change[split.uid] = split.change
        await self._go(home, lambda seen: routing.split_step(self._dialect, home, split, seen))

    async def verify(self, split: Split) -> Verification:
        home, change = _home(split), split.change
        try:
            seen = await self._see(home)
        except (ctrl.ApiError, ctrl.TransportError) as error:
            return Unreachable(change=change, reason=self._said("read", home, error))
        gone = seen.route is None and not (home.route.own and seen.known)
        if gone and not split.weight:
            return Verified(change=change, effective=0.0)  # nobody comes by a route that is not there
        if not seen.known:
            return Unreachable(change=change, reason=self._unknown())
        step = routing.split_step(self._dialect, home, split, seen)
        if isinstance(step, routing.Done):
            self._trouble.pop(home.owner.uid, None)
            assert seen.route is not None
            return self._answer(split.change, float(split.weight), seen.route)
        if why := self._trouble.get(home.owner.uid):
            return Unreachable(change=change, reason=why)
        return Drifted(
            change=change,
            reason=routing.drift(self._dialect, home, seen, split, step),
            waits=routing.pending(self._dialect, home, step),
            lost=isinstance(step, routing.Wait) and step.lost,
        )

    async def remove(self, service: ctrl.Key, uid: str) -> None:
        """The route is at home already; what is remembered goes."""
        self._forget(uid)

    def backend(self, split: Split) -> Backend | None:
        return None

    def port(self, service: ctrl.Key, uid: str, known: int) -> int:
        return 0

    async def problem(self, home: Home) -> str:
        try:
            seen = await self._see(home)
        except (ctrl.ApiError, ctrl.TransportError) as error:
            return self._said("read", home, error)
        if not seen.known:
            return self._unknown()
        if home.route.own:
            return routing.foreign(self._dialect, home, seen)
        if seen.route is None:
            return routing.absent(self._dialect, home)
        pairs = self._dialect.pairs(seen.route, home)
        return pairs if isinstance(pairs, str) else ""

    async def go_home(self, home: Home) -> None:
        await self._go(home, lambda seen: routing.home_step(self._dialect, home, seen))

    async def at_home(self, home: Home) -> Verification:
        try:
            seen = await self._see(home)
        except (ctrl.ApiError, ctrl.TransportError) as error:
            return Unreachable(change=0, reason=self._said("read", home, error))
        if not seen.known and home.route.own:
            return Drifted(change=0, reason=self._unknown(), lost=True)
        step = routing.home_step(self._dialect, home, seen)
        if isinstance(step, routing.Done):
            self._trouble.pop(home.owner.uid, None)
            if not home.route.own:
                return Verified(change=0, effective=0.0)  # its weights are the user's again
            assert seen.route is not None
            return self._answer(0, 0.0, seen.route)
        if why := self._trouble.get(home.owner.uid):
            return Unreachable(change=0, reason=why)
        return Pending(change=0, reason=routing.pending(self._dialect, home, step))

    async def retire(self, home: Home) -> None:
        self._forget(home.owner.uid)
        there = await self._route(home)
        if home.route.own and there is not None and there.controller_uid == home.owner.uid:
            await self._client.delete(self._dialect.kind, home.key, uid=there.uid)

    async def retired(self, home: Home) -> bool:
        try:
            there = await self._route(home)
        except (ctrl.ApiError, ctrl.TransportError):
            return False
        return not home.route.own or there is None or there.controller_uid != home.owner.uid

    # -- inside

    def _answer(self, change: int, effective: float, route: Mapping[str, object]) -> Verification:
        state, why = self._dialect.accepted(route)
        match state:
            case "Accepted":
                return Verified(change=change, effective=effective)
            case "Refused":
                return Refused(change=change, reason=why)
            case _:
                return Pending(change=change, reason=why)

    async def _go(self, home: Home, decide: Callable[[Seen], routing.Step]) -> None:
        """Step after step, until one waits or is refused. The reason stays until the route is as wanted."""
        uid = home.owner.uid
        try:
            for _ in range(_MOST):
                seen = await self._see(home)
                if not seen.known and home.route.own:
                    return
                step = decide(seen)
                if isinstance(step, routing.Done) or not await self._do(home, step, seen):
                    break
            self._trouble.pop(uid, None)
        except ctrl.Conflict:
            return  # somebody else wrote it: what is there now is looked at again
        except (ctrl.ApiError, ctrl.TransportError) as error:
            self._trouble[uid] = self._said("write", home, error)

    async def _do(self, home: Home, step: routing.Step, seen: Seen) -> bool:
        """Whether anything was written."""
        match step:
            case routing.Apply(body):
                await self._client.apply(_conditional(body, seen.route))
            case routing.Patch(patch, raised):
                if any(self._fresh(home, side) for side in raised):
                    return False
                await self._client.patch(self._dialect.kind, home.key, patch, type="json")
            case routing.Make(side):
                try:
                    await self._client.create(alias_service(home.owner, home.alias(side)).body)
                except ctrl.AlreadyExists:
                    return False
            case routing.Point(side, revision):
                await self._point(home, side, revision, seen.aliases[side])
            case _:
                return False
        return True

    def _fresh(self, home: Home, side: str) -> bool:
        """Whether proxies may not have heard yet what the Service selects now."""
        turned = self._turned.get((home.owner.uid, side))
        return turned is not None and self._clock() < turned + self._dwell

    async def _point(self, home: Home, side: str, revision: str, alias: Alias) -> None:
        # A merge leaves the old keys: the label of the revision is taken away by name.
        wanted: JSON = {LABEL_REVISION: revision or None, **selector(home.owner.name)}
        body: JSON = {
            "metadata": {"uid": alias.uid, "resourceVersion": alias.resource_version},
            "spec": {"selector": wanted},
        }
        await self._client.patch(ctrl.SERVICE, ctrl.Key(home.namespace, home.alias(side)), body)
        self._turned[home.owner.uid, side] = self._clock()

    def _forget(self, uid: str) -> None:
        self._trouble.pop(uid, None)
        self._change.pop(uid, None)
        for side in (STABLE, CANARY):
            self._turned.pop((uid, side), None)

    async def _route(self, home: Home) -> ctrl.Object | None:
        return await self._client.get_live(self._dialect.kind, home.key)

    async def _see(self, home: Home) -> Seen:
        route = await self._route(home)
        known = route is not None or await self._known()
        aliases: dict[str, Alias] = {}
        ready: dict[str, frozenset[str]] = {}
        if not home.route.own:
            for side in (STABLE, CANARY):
                key = ctrl.Key(home.namespace, home.alias(side))
                there = await self._client.get_live(ctrl.SERVICE, key)
                if there is not None:
                    aliases[side] = _alias(there, home.owner)
        for name, revisions in await self._ready(home):
            ready[name] = ready.get(name, frozenset()) | revisions
        raw = None if route is None else route.raw
        return Seen(known=known, route=raw, aliases=aliases, ready=ready)

    async def _known(self) -> bool:
        """Whether the server has the kind at all. Asked only where a route was not found."""
        kind = self._dialect.kind
        try:
            body = await self._client.request("GET", f"/apis/{kind.api_version}")
        except ctrl.NotFound:
            return False
        return any(item.get("name") == kind.plural for item in maps(body.get("resources")))

    async def _ready(self, home: Home) -> Iterable[tuple[str, frozenset[str]]]:
        """Revisions of the ready endpoints, by the Services of this service."""
        pods = await self._client.list(ctrl.POD, namespace=home.namespace, labels=selector(home.owner.name))
        by_name = {pod.name: pod.labels.get(LABEL_REVISION, "") for pod in pods}
        slices = await self._client.list(
            ctrl.ENDPOINT_SLICE, namespace=home.namespace, labels={LABEL_SERVICE: home.owner.name}
        )
        return [
            (
                one.labels.get(SERVICE_NAME, ""),
                frozenset(
                    by_name.get(text(at(endpoint, "targetRef", "name")), "")
                    for endpoint in maps(one.raw.get("endpoints"))
                    if at(endpoint, "conditions", "ready") is not False
                ),
            )
            for one in slices
        ]

    def _unknown(self) -> str:
        kind = self._dialect.kind
        return f"this cluster has no {kind.kind} ({kind.api_version}): {self._dialect.missing}"

    def _said(self, verb: str, home: Home, error: ctrl.ControllerRuntimeError) -> str:
        told = error.message if isinstance(error, ctrl.ApiError) else str(error)
        remedy = ": see config/rbac" if isinstance(error, ctrl.Forbidden) and "webhook" not in told else ""
        line = " ".join(told.split())[:300]
        return f"{routing.title(self._dialect, home)} cannot be {_PAST[verb]} ({line}){remedy}"


_PAST: Final = {"read": "read", "write": "written"}


def _home(split: Split) -> Home:
    owner = Owner(split.service.namespace, split.service.name, split.uid)
    return Home(owner=owner, route=split.route or RouteRef())


def _conditional(body: JSON, route: Mapping[str, object] | None) -> JSON:
    """Only over the route as it was seen: 409 if it moved on."""
    if route is None:
        return body
    version = at(route, "metadata", "resourceVersion")
    return {**body, "metadata": {**mapping(body["metadata"]), "resourceVersion": version}}


def _alias(there: ctrl.Object, owner: Owner) -> Alias:
    chosen = mapping(at(there.raw, "spec", "selector"))
    return Alias(
        ours=there.controller_uid == owner.uid and not there.deleting,
        revision=text(chosen.get(LABEL_REVISION)),
        uid=there.uid,
        resource_version=there.resource_version,
    )
