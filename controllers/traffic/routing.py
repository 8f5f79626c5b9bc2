"""What is to be written next so that a route carries a split. Pure.

One step at a time, from what is there: whoever does the step and asks again arrives, wherever the last one
stopped. A weight above 0 is only ever given to a Service with a ready endpoint of the right revision, and a
Service of a user's route is only turned to another revision while its weight is 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import controller_runtime as ctrl

from ..applied import needs_apply, stamped
from ..resources.wire import JSON, at, maps, text
from .route import CANARY, STABLE, Home
from .split import Split

#: (name of the Service, percent).
Sides = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A backend in a route: JSON pointer and present weight."""

    pointer: str
    weight: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The two backends of one rule."""

    stable: Place
    canary: Place


def pair(
    backends: Iterable[tuple[str, str | None, Place]], where: str, *, noun: str, own: str
) -> Pair | str | None:
    """The two of a rule's backends (name, side, place) that are ours; None without both, or what is wrong.

    where, noun, own: how the rule, a backend and another rule are called.
    """
    sides: dict[str, Place] = {}
    others: list[str] = []
    for name, side, place in backends:
        if side is None:
            others += [name] if place.weight else []
        elif side in sides:
            return f"{where} names {name} twice: name it once"
        else:
            sides[side] = place
    if len(sides) < 2:
        return None
    if others:
        return (
            f"{where} has a third {noun} {others[0]} with a weight, so that no share could be told: give it "
            f"weight 0, or {own} of its own"
        )
    return Pair(sides[STABLE], sides[CANARY])


Acceptance = Literal["Accepted", "Pending", "Refused"]


class Dialect(Protocol):
    """How one kind of route says it. Pure."""

    @property
    def kind(self) -> ctrl.Kind: ...

    @property
    def missing(self) -> str:
        """What to do where the server does not know the kind."""
        ...

    def own(self, home: Home, sides: Sides) -> JSON:
        """The route of ours."""
        ...

    def backends(self, route: Mapping[str, object]) -> Mapping[str, int]:
        """Highest weight by name of the Service, in a route of ours."""
        ...

    def pairs(self, route: Mapping[str, object], home: Home) -> tuple[Pair, ...] | str:
        """Where the user's route names both backends; or why it cannot be used, in one line."""
        ...

    def accepted(self, route: Mapping[str, object]) -> tuple[Acceptance, str]:
        """What the implementation says of the route as it is now, and why."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """The Service of a user's route. revision: that it selects; "" for all pods of the service."""

    ours: bool
    revision: str = ""
    uid: str = ""
    resource_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """known: the server has the kind. ready: revisions of the ready endpoints, by name of the Service."""

    known: bool = True
    route: Mapping[str, object] | None = None
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    ready: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a route of ours."""

    body: JSON = field(hash=False)


@dataclass(frozen=True, slots=True)
class Patch:
    """A JSON patch of weights, of the user's route as it was seen. raised: sides that get more."""

    patch: tuple[JSON, ...] = field(hash=False)
    raised: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Make:
    """Create the Service of a side; it selects all pods of the service."""

    side: str


@dataclass(frozen=True, slots=True)
class Point:
    """Have the Service of a side select the pods of `revision`, "" for all."""

    side: str
    revision: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be written. lost: nor could it be, until somebody does something."""

    reason: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The route is as wanted."""


Step = Apply | Patch | Make | Point | Wait | Done

NAMED: Final = {STABLE: "stable", CANARY: "candidate"}


def title(dialect: Dialect, home: Home) -> str:
    return f"{dialect.kind.kind} {home.key}"


def foreign(dialect: Dialect, home: Home, seen: Seen) -> str:
    """Why a route of ours is not ours, or ""."""
    if seen.route is None or ctrl.Object(dict(seen.route)).controller_uid == home.owner.uid:
        return ""
    name = title(dialect, home)
    return f"{name} is there and is not this service's: delete it, or name it in traffic.route.name"


def absent(dialect: Dialect, home: Home) -> str:
    """That the user's route is not there."""
    name = title(dialect, home)
    return f"traffic.route.name {home.route.name}: {name} does not exist: create it, or correct the name"


def home_step(dialect: Dialect, home: Home, seen: Seen) -> Step:
    """What leads the route to the service, whatever its revisions are."""
    if home.route.own:
        return _own(dialect, home, ((home.owner.name, 100),), seen, gated=False)
    for side in (STABLE, CANARY):
        alias = seen.aliases.get(side)
        if (wrong := _alias(home, side, alias)) is not None:
            return wrong
        if alias is not None and alias.revision:
            return Point(side, "")
    return Done()


def split_step(dialect: Dialect, home: Home, split: Split, seen: Seen) -> Step:
    """What brings the split into the route next."""
    if not home.route.own:
        return _users(dialect, home, split, seen)
    weights = [(split.stable.hash, 100 - split.weight)]
    if split.candidate is not None:
        weights.append((split.candidate.hash, split.weight))
    sides = tuple((home.service(revision), weight) for revision, weight in weights if weight)
    return _own(dialect, home, sides, seen, gated=True)


def _own(dialect: Dialect, home: Home, sides: Sides, seen: Seen, *, gated: bool) -> Step:
    if why := foreign(dialect, home, seen):
        return Wait(why, lost=True)
    body = stamped(dialect.own(home, sides))
    if not needs_apply(body, seen.route):
        return Done()
    given = dialect.backends(seen.route) if seen.route is not None else {}
    for name, _ in sides:
        if gated and not given.get(name) and not seen.ready.get(name):
            return Wait(f"Service {name} has no ready endpoint")
    return Apply(body)


def _alias(home: Home, side: str, alias: Alias | None) -> Step | None:
    if alias is None:
        return Make(side)
    if alias.ours:
        return None
    return Wait(f"Service {home.alias(side)} is there and is not this service's: delete or rename it", True)


def _users(dialect: Dialect, home: Home, split: Split, seen: Seen) -> Step:
    if seen.route is None:
        return Wait(absent(dialect, home), lost=True)
    pairs = dialect.pairs(seen.route, home)
    if isinstance(pairs, str):
        return Wait(pairs, lost=True)
    for side in (STABLE, CANARY):
        if (wrong := _alias(home, side, seen.aliases.get(side))) is not None:
            return wrong
    stable, candidate = split.stable.hash, split.candidate.hash if split.candidate is not None else ""
    mine, other = seen.aliases[STABLE].revision, seen.aliases[CANARY].revision
    if mine != stable:
        return _turn_stable(dialect, home, seen, pairs, stable)
    if split.weight and other != candidate:
        # The weight goes to stable before the other Service selects anything else.
        if any(pair.canary.weight for pair in pairs):
            return _weigh(home, seen, pairs, {STABLE: (100, stable), CANARY: (0, "")})
        return _quiet(dialect, seen, Point(CANARY, candidate))
    return _weigh(
        home, seen, pairs, {STABLE: (100 - split.weight, stable), CANARY: (split.weight, candidate)}
    )


def _turn_stable(dialect: Dialect, home: Home, seen: Seen, pairs: tuple[Pair, ...], stable: str) -> Step:
    """The Service of the stable side selects another revision, or all pods."""
    mine, other = seen.aliases[STABLE].revision, seen.aliases[CANARY].revision
    turn = Point(STABLE, stable)
    if not any(pair.stable.weight for pair in pairs):
        return _quiet(dialect, seen, turn)
    if not mine:  # all pods: at the beginning of a run they are of one revision
        strange = seen.ready.get(home.alias(STABLE), frozenset()) - {stable}
        return Wait(f"pods of {', '.join(sorted(strange))} still answer") if strange else turn
    if other == stable:  # a promotion, and somebody gave the old revision its weight back
        return _weigh(home, seen, pairs, {STABLE: (0, mine), CANARY: (100, stable)})
    if not any(pair.canary.weight for pair in pairs):
        return _quiet(dialect, seen, Point(CANARY, stable))
    return turn


def _quiet(dialect: Dialect, seen: Seen, turn: Point) -> Step:
    """`turn` once the implementation has the weight of 0 that it rests on."""
    state, why = dialect.accepted(seen.route or {})
    return turn if state == "Accepted" else Wait(why)


def _weigh(home: Home, seen: Seen, pairs: tuple[Pair, ...], wanted: Mapping[str, tuple[int, str]]) -> Step:
    """Write the weights that are others; wanted: (weight, revision) by side."""
    patch: list[JSON] = []
    raised: list[str] = []
    for pair in pairs:
        for side, place in ((STABLE, pair.stable), (CANARY, pair.canary)):
            weight, revision = wanted[side]
            if place.weight == weight:
                continue
            if weight > place.weight:
                ready = seen.ready.get(home.alias(side), frozenset())
                if ready != {revision}:
                    found = ", ".join(sorted(ready)) or "none"
                    words = f"ready endpoints of revision {revision} and no other, {found} are"
                    return Wait(f"Service {home.alias(side)} needs {words}")
                raised.append(side)
            patch.append({"op": "add", "path": f"{place.pointer}/weight", "value": weight})
    if not patch:
        return Done()
    version = at(seen.route, "metadata", "resourceVersion")
    # A replace with the version as it was seen makes the whole patch conditional: 409 if it moved on.
    condition: JSON = {"op": "replace", "path": "/metadata/resourceVersion", "value": version}
    return Patch((condition, *patch), tuple(dict.fromkeys(raised)))


def writer(route: Mapping[str, object]) -> str:
    """Who wrote the route last, by its field managers; "" if nobody says."""
    entries = [item for item in maps(at(route, "metadata", "managedFields")) if not item.get("subresource")]
    latest = max(entries, key=lambda item: text(item.get("time")), default=None)
    return text(latest.get("manager")) if latest is not None else ""


def pending(dialect: Dialect, home: Home, step: Step) -> str:
    """What a split that is on its way waits for."""
    match step:
        case Wait(reason):
            return reason
        case Make(side) | Point(side):
            return f"Service {home.alias(side)} to be turned to it"
        case _:
            return f"the weights in {title(dialect, home)} to be written"


def drift(dialect: Dialect, home: Home, seen: Seen, split: Split, step: Step) -> str:
    """What is not as it was verified, and what to do."""
    name = title(dialect, home)
    wanted = f"{split.stable.hash} {100 - split.weight} %"
    if split.candidate is not None:
        wanted += f", {split.candidate.hash} {split.weight} %"
    if seen.route is None:
        return f"{name} was deleted ({wanted} was in force): leave it to the operator while a canary is on"
    if isinstance(step, Wait):
        return step.reason
    if isinstance(step, Point | Make):
        side = home.alias(step.side)
        return f"Service {side} was changed by somebody else: leave it to the operator while a canary is on"
    who = writer(seen.route)
    by = f" by {who}" if who else ""
    return f"{name} was changed{by}; {wanted} is written again: have nobody else set these weights"
