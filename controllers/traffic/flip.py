"""Where the Service <name> of a PaddleService sends to: its pods, or the routers. Pure.

The switch is one write of selector and target ports together. It is a merge patch, because the Service was
"""

from collections.abc import Iterable, Mapping

from ..resources.meta import Owner, selector
from ..resources.wire import JSON, at, integer, mapping, maps
from .provider import Backend

#: Names of the Service's ports that carry gRPC; all others carry HTTP.
GRPC = "grpc"


def ports(plain: Iterable[Mapping[str, object]], backend: Backend | None) -> list[JSON]:
    """The Service's ports (as for the direct path) with their targets at `backend`; None leaves them."""
    if backend is None:
        return [dict(port) for port in plain]
    return [
        {**port, "targetPort": backend.grpc if port.get("name") == GRPC else backend.http} for port in plain
    ]


def merge_patch(
    live: Mapping[str, object], owner: Owner, plain: Iterable[Mapping[str, object]], backend: Backend | None
) -> JSON:
    """The merge patch that points `live` (the Service as it is) at `backend`, or at the pods for None."""
    wanted: JSON = dict(selector(owner.name) if backend is None else backend.selector)
    gone: JSON = {key: None for key in mapping(at(live, "spec", "selector")) if key not in wanted}
    return {"spec": {"selector": gone | wanted, "ports": ports(plain, backend)}}


def points_at(live: Mapping[str, object], owner: Owner, backend: Backend | None) -> bool:
    """Whether `live` selects exactly this and its targets are there."""
    wanted = selector(owner.name) if backend is None else backend.selector
    if dict(mapping(at(live, "spec", "selector"))) != dict(wanted):
        return False
    targets: set[object] = {backend.http, backend.grpc} if backend is not None else {"http", GRPC}
    return {port.get("targetPort") for port in maps(at(live, "spec", "ports"))} <= targets


def settled(slices: Iterable[Mapping[str, object]], backend: Backend | None, pods: Iterable[str]) -> bool:
    """Whether the EndpointSlices of Service <name> name only what the switch is to: ready addresses among
    `pods` (names of the routers, or of the serving pods), and for routers only their listener ports.

    kube-proxy follows within moments; callers wait 15 s more before they rely on it.
    """
    allowed, found = set(pods), 0
    numbers = {backend.http, backend.grpc} if backend is not None else set()
    for one in slices:
        if numbers and any(integer(port.get("port")) not in numbers for port in maps(one.get("ports"))):
            return False
        for endpoint in maps(one.get("endpoints")):
            if at(endpoint, "conditions", "ready") is False:
                continue
            if at(endpoint, "targetRef", "name") not in allowed:
                return False
            found += 1
    return found > 0
