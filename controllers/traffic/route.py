"""Routes of the cluster's own (HTTPRoute, VirtualService), as values. Pure.

Two ways. A route of ours: named after the service, its backends are the Services of revisions. A route of the
user's: only weights of two backends in it are ours, `<service>-stable` and `<service>-canary`, whose names
never change; which pods those two Services select does, and only while their weight is 0 (or all pods are
of one revision). At rest, neither leads to a revision: to Service <name>, or to all pods of the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import controller_runtime as ctrl

from ..resources.meta import Owner, child_name
from ..resources.wire import JSON, mapping, maps, text

#: Service ports that a route leads to.
HTTP_PORT: Final = 80

STABLE: Final = "stable"
CANARY: Final = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What a route of ours is attached to. namespace: "" for the route's own."""

    name: str
    namespace: str = ""
    section: str = ""

    def to_wire(self) -> JSON:
        """As a parentRef has it, and `spec.traffic.route`; without empty values."""
        return {
            "name": self.name,
            **({"namespace": self.namespace} if self.namespace else {}),
            **({"sectionName": self.section} if self.section else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRef:
    """`spec.traffic.route`. name: of the user's route; "" for one of ours, on `gateways` and for `hostnames`.

    rule: the rule of the user's route whose weights are ours; "" for every one that has both backends.
    """

    name: str = ""
    rule: str = ""
    gateways: tuple[Gateway, ...] = ()
    hostnames: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        return not self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A service and its route."""

    owner: Owner
    route: RouteRef

    @property
    def namespace(self) -> str:
        return self.owner.namespace

    @property
    def key(self) -> ctrl.Key:
        return ctrl.Key(self.owner.namespace, self.route.name or self.owner.name)

    def alias(self, side: str) -> str:
        """The Service that a user's route names for STABLE or CANARY."""
        return f"{self.owner.name}-{side}"

    def service(self, revision: str) -> str:
        return child_name(self.owner.name, revision)


def route(traffic: Mapping[str, object]) -> RouteRef:
    """That of `spec.traffic`, or of `status.traffic`."""
    raw = mapping(traffic.get("route"))
    names = raw.get("hostnames")
    return RouteRef(
        name=text(raw.get("name")),
        rule=text(raw.get("rule")),
        gateways=tuple(
            Gateway(
                name=text(item.get("name")),
                namespace=text(item.get("namespace")),
                section=text(item.get("sectionName")),
            )
            for item in maps(raw.get("gateways"))
        ),
        hostnames=tuple(text(item) for item in names if item) if isinstance(names, list) else (),
    )


def route_to_wire(ref: RouteRef) -> JSON:
    """The reverse, without empty values."""
    wire: JSON = {}
    if ref.name:
        wire["name"] = ref.name
    if ref.rule:
        wire["rule"] = ref.rule
    if ref.gateways:
        wire["gateways"] = [item.to_wire() for item in ref.gateways]
    if ref.hostnames:
        wire["hostnames"] = list(ref.hostnames)
    return wire
