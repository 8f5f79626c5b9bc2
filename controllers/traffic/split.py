"""What is to be split, and how, as values. Pure.

A split is complete: whoever holds the newest one needs nothing of the past. It goes to the status as JSON
before it goes to a provider, so that a new leader serves what the old one served.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import controller_runtime as ctrl

from ..resources.wire import JSON, at, integer, mapping, maps, text
from .route import RouteRef, route, route_to_wire

#: Ports of the routers that belong to services: two each, HTTP and gRPC.
FIRST_PORT: Final = 20000
LAST_PORT: Final = 29999
#: The header by which people choose a side, and the one that names a user.
EXPERIMENT_HEADER: Final = "x-model-exp"
USER_HEADER: Final = "x-user-id"

Side = Literal["Canary", "Stable"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~-]{1,255}")  # a token of HTTP, without the backtick
_COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{0,1024}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")
_OURS = frozenset({EXPERIMENT_HEADER, USER_HEADER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One side. versions: of its models, by which `x-model-exp` may name it."""

    hash: str
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A header or cookie with exactly this value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserShare:
    """percent of the users, chosen by a salted hash of the header `x-user-id`."""

    percent: int
    salt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Exactly one of the three."""

    header: Value | None = None
    cookie: Value | None = None
    user: UserShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    match: Match
    to: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`weight` percent of the requests to `candidate`, the rest to `stable`; rules come before the weight.

    port: the first of the service's two listener ports (HTTP; gRPC is the next), 0 for a provider without.
    candidate: None while there is none; weight is 0 then. At weight 0 the candidate is in no route at all: no
    rule reaches it. change: grows with every difference; two splits of one service with the same change are
    equal. route: of a provider that splits by a route of the cluster's own; None for others.
    """

    service: ctrl.Key
    uid: str
    port: int
    change: int
    stable: Revision
    candidate: Revision | None = None
    weight: int = 0
    rules: tuple[Rule, ...] = ()
    route: RouteRef | None = None

    def __post_init__(self) -> None:
        """ValueError for a split that means nothing."""
        if not 0 <= self.weight <= 100 or (self.weight and self.candidate is None):
            raise ValueError(
                f"weight {self.weight} with candidate {self.candidate}: give 0 to 100 of a candidate"
            )
        if self.candidate is not None and self.candidate.hash == self.stable.hash:
            raise ValueError(
                f"revision {self.stable.hash} is both sides: give the candidate another one, or None"
            )


def rules(spec: Mapping[str, object]) -> tuple[Rule, ...]:
    """The rules of a PaddleService's spec, in its order; those that match on nothing are left out."""
    found = []
    for entry in maps(at(spec, "traffic", "rules")):
        match = _match(mapping(entry.get("match")))
        if match is not None:
            found.append(Rule(match=match, to="Stable" if entry.get("to") == "Stable" else "Canary"))
    return tuple(found)


def refusal(wanted: tuple[Rule, ...]) -> str:
    """Why these rules cannot be followed, in one line that says what to do; "" if they can."""
    if sum(1 for rule in wanted if rule.match.user is not None) > 1:
        return "traffic.rules: only one userHash rule is supported: give one percent, and one salt"
    for rule in wanted:
        match = rule.match
        if sum(item is not None for item in (match.header, match.cookie, match.user)) != 1:
            return "traffic.rules: a match needs exactly one of header, cookie and userHash"
        for kind, item, allowed in (
            ("header", match.header, _HEADER_VALUE),
            ("cookie", match.cookie, _COOKIE_VALUE),
        ):
            if item is None:
                continue
            if not _NAME.fullmatch(item.name):
                return f"traffic.rules: {kind} {item.name[:64]!r} is no name that HTTP allows"
            if not allowed.fullmatch(item.value) or item.value != item.value.strip():
                return f"traffic.rules: the value of {kind} {item.name!r} has characters that cannot be sent"
        if match.header is not None and match.header.name.lower() in _OURS:
            return f"traffic.rules: header {match.header.name} has a meaning of its own; choose another"
        if match.user is not None and not 1 <= match.user.percent <= 100:
            return f"traffic.rules: userHash of {match.user.percent} %: give 1 to 100"
    return ""


def to_wire(split: Split) -> JSON:
    """JSON for `status.traffic`, without the service's own name and UID, and without empty values."""
    wire: JSON = {"change": split.change, "stable": _side_to_wire(split.stable)}
    if split.port:
        wire["port"] = split.port
    if split.candidate is not None:
        wire["candidate"] = _side_to_wire(split.candidate)
        wire["weight"] = split.weight
    if split.rules:
        wire["rules"] = [{"match": _match_to_wire(rule.match), "to": rule.to} for rule in split.rules]
    if split.route is not None:
        wire["route"] = route_to_wire(split.route)
    return wire


def from_wire(service: ctrl.Key, uid: str, raw: Mapping[str, object]) -> Split | None:
    """The reverse; None where there is no split, or none that can be read."""
    stable, candidate = _side(mapping(raw.get("stable"))), _side(mapping(raw.get("candidate")))
    if stable is None:
        return None
    try:
        return Split(
            service=service,
            uid=uid,
            port=integer(raw.get("port")),
            change=integer(raw.get("change")),
            stable=stable,
            candidate=candidate,
            weight=integer(raw.get("weight")) if candidate is not None else 0,
            rules=rules({"traffic": {"rules": raw.get("rules")}}),
            route=route(raw) if isinstance(raw.get("route"), Mapping) else None,
        )
    except ValueError:
        return None


def _side(raw: Mapping[str, object]) -> Revision | None:
    name = text(raw.get("revision"))
    versions = raw.get("versions")
    listed = versions if isinstance(versions, list) else []
    return Revision(hash=name, versions=tuple(text(item) for item in listed if item)) if name else None


def _side_to_wire(side: Revision) -> JSON:
    wire: JSON = {"revision": side.hash}
    return wire | {"versions": list(side.versions)} if side.versions else wire


def _match(raw: Mapping[str, object]) -> Match | None:
    header, cookie, user = (mapping(raw.get(name)) for name in ("header", "cookie", "userHash"))
    if not (header or cookie or user):
        return None
    return Match(
        header=_value(header),
        cookie=_value(cookie),
        user=UserShare(percent=integer(user.get("percent")), salt=text(user.get("salt"))) if user else None,
    )


def _value(raw: Mapping[str, object]) -> Value | None:
    return Value(name=text(raw.get("name")), value=text(raw.get("value"))) if raw else None


def _match_to_wire(match: Match) -> JSON:
    wire: JSON = {}
    for name, item in (("header", match.header), ("cookie", match.cookie)):
        if item is not None:
            wire[name] = {"name": item.name, "value": item.value}
    if match.user is not None:
        wire["userHash"] = {"percent": match.user.percent, "salt": match.user.salt}
    return wire
