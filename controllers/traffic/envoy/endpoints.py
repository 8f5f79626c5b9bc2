"""Who answers for a revision, from EndpointSlices. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ...kinds import LABEL_REVISION, LABEL_SERVICE
from ...resources.wire import at, integer, mapping, maps, text

Protocol = Literal["http", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("http", "grpc")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    ip: str
    port: int


#: Ready addresses by revision and protocol, sorted, each once.
Endpoints = Mapping[str, Mapping[Protocol, tuple[Address, ...]]]


def service_of(raw: Mapping[str, object]) -> str:
    """The PaddleService whose revision an EndpointSlice is about, or ""."""
    labels = mapping(at(raw, "metadata", "labels"))
    return text(labels.get(LABEL_SERVICE)) if text(labels.get(LABEL_REVISION)) else ""


def endpoints(slices: Iterable[Mapping[str, object]]) -> Endpoints:
    """The ready endpoints of each revision in `slices` (of one service).

    A slice carries the labels of its Service, so the one of Service <name>, which has no revision, is left
    out. Pods that terminate are left out: they still answer what they have, and get nothing new. A revision
    whose slices are empty is there, with no addresses.
    """
    found: dict[str, dict[Protocol, set[Address]]] = {}
    for one in slices:
        revision = text(at(one, "metadata", "labels", LABEL_REVISION))
        if not revision:
            continue
        sides = found.setdefault(revision, {protocol: set() for protocol in PROTOCOLS})
        numbers = {text(port.get("name")): integer(port.get("port")) for port in maps(one.get("ports"))}
        for endpoint in maps(one.get("endpoints")):
            conditions = mapping(endpoint.get("conditions"))
            if conditions.get("ready") is False or conditions.get("terminating") is True:
                continue
            listed = endpoint.get("addresses")
            ips = [text(ip) for ip in listed] if isinstance(listed, list) else []
            for protocol in PROTOCOLS:
                port = numbers.get(protocol, 0)
                sides[protocol].update(Address(ip, port) for ip in ips if ip and port)
    return {
        revision: {protocol: tuple(sorted(sides[protocol])) for protocol in PROTOCOLS}
        for revision, sides in found.items()
    }
