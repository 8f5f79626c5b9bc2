"""All that the routers of one namespace are to hold. Pure: equal input gives equal bytes and equal versions.

Bodies are Envoy's JSON; the ADS server turns them into protobuf, the routers' fall-back file holds them as
they are. Every name begins with the service, so one service's part never depends on another's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ...resources.wire import JSON
from ..split import Split
from .clusters import aggregate, assignment, cluster
from .endpoints import PROTOCOLS, Endpoints, Protocol
from .listeners import listener
from .routes import Sides, route_configuration


class Kind(StrEnum):
    """The types of resources, by their URL, in the order in which they must arrive."""

    Cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    Endpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    Listener = "type.googleapis.com/envoy.config.listener.v3.Listener"
    Route = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """version: a hash of the body. service: whose it is."""

    kind: Kind
    name: str
    version: str
    service: str
    body: JSON = field(hash=False, compare=False)


Resources = Mapping[Kind, Mapping[str, Resource]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One service's resources, and what they came from. effective: the candidate's share as routed: 0 when
    it has no ready endpoint, whatever the split says.
    """

    split: Split
    effective: int
    resources: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    parts: Mapping[str, Part] = field(default_factory=dict)
    resources: Resources = field(default_factory=lambda: {kind: {} for kind in Kind})

    def part(self, service: str) -> Part | None:
        return self.parts.get(service)


EMPTY: Final = Snapshot()


def part(split: Split, found: Endpoints, *, address: str = "0.0.0.0") -> Part:
    """The resources of one service; `address` is what its listeners bind.

    Clusters exist for both sides of the split and for every other revision that still has endpoints: a router
    that was configured by an earlier leader may point at one of those until its routes are replaced.
    """
    stable, service = split.stable.hash, split.service.name
    candidate = split.candidate.hash if split.candidate is not None else ""
    alive = {revision for revision, sides in found.items() if any(sides.values())}
    revisions = sorted({stable, *alive} | ({candidate} if candidate else set()))
    resources: dict[Kind, dict[str, Resource]] = {kind: {} for kind in Kind}

    def add(kind: Kind, name: str, body: JSON) -> None:
        resources[kind][name] = Resource(
            kind=kind, name=name, version=version(body), service=service, body=body
        )

    effective = split.weight
    for offset, protocol in enumerate(PROTOCOLS):
        for revision in revisions:
            name = cluster_name(service, revision, protocol)
            addresses = found.get(revision, {}).get(protocol, ())
            add(Kind.Cluster, name, cluster(name, protocol))
            add(Kind.Endpoint, name, assignment(name, revision, addresses))
            fallen = fallback_name(service, revision, protocol)
            others = [cluster_name(service, stable, protocol)] if revision != stable else []
            add(Kind.Cluster, fallen, aggregate(fallen, [name, *others]))
        reachable = bool(candidate and found.get(candidate, {}).get(protocol))
        if protocol == "http" and not reachable:
            effective = 0
        sides = Sides(
            stable=cluster_name(service, stable, protocol),
            candidate=fallback_name(service, candidate, protocol) if reachable and split.weight else "",
        )
        own = f"{service}/{protocol}"
        add(Kind.Route, own, route_configuration(own, split, sides))
        add(Kind.Listener, own, listener(own, own, address=address, port=split.port + offset))
    return Part(split=split, effective=effective, resources=resources)


def compose(parts: Iterable[Part], before: Snapshot = EMPTY) -> Snapshot:
    """The snapshot of a namespace. Two services on one port: the one whose name comes first keeps it.

    A type in which nothing differs from `before` is the very same mapping, which is how streams see at once
    that there is nothing to compare.
    """
    merged: dict[Kind, Mapping[str, Resource]] = {}
    found: dict[Kind, dict[str, Resource]] = {kind: {} for kind in Kind}
    chosen: dict[str, Part] = {}
    taken: set[int] = set()
    for one in sorted(parts, key=lambda item: item.split.service.name):
        if one.split.port in taken:
            continue
        taken.add(one.split.port)
        chosen[one.split.service.name] = one
        for kind, resources in one.resources.items():
            found[kind].update(resources)
    for kind in Kind:
        same = found[kind] == before.resources[kind]
        merged[kind] = before.resources[kind] if same else found[kind]
    return Snapshot(parts=chosen, resources=merged)


def cluster_name(service: str, revision: str, protocol: Protocol) -> str:
    """The cluster of one revision's pods."""
    return f"{service}/{revision}/{protocol}"


def fallback_name(service: str, revision: str, protocol: Protocol) -> str:
    """The cluster of a revision's pods, and of stable's when there is none."""
    return f"{cluster_name(service, revision, protocol)}/or-stable"


def version(body: object) -> str:
    """16 hex digits over the canonical JSON of `body`."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
