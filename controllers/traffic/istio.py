"""VirtualServices of Istio, v1. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import controller_runtime as ctrl

from ..resources.meta import metadata
from ..resources.service import service_ports
from ..resources.wire import JSON, at, integer, mapping, maps, text
from .route import CANARY, HTTP_PORT, STABLE, Home
from .routing import Acceptance, Pair, Place, Sides, pair

VIRTUAL_SERVICE: Final = ctrl.Kind(
    group="networking.istio.io", version="v1", kind="VirtualService", plural="virtualservices"
)


class VirtualServices:
    """See Dialect."""

    kind = VIRTUAL_SERVICE
    missing = "install Istio 1.22 or later, or use traffic.provider Envoy"

    def own(self, home: Home, sides: Sides) -> JSON:
        """On gateways: everything to the HTTP port. In the mesh: each port of Service <name> to itself."""
        domain = f"{home.namespace}.svc.cluster.local"

        def to(port: int) -> list[JSON]:
            return [
                {"destination": {"host": f"{name}.{domain}", "port": {"number": port}}, "weight": weight}
                for name, weight in sides
            ]

        spec: JSON
        if home.route.gateways:
            gateways = [f"{item.namespace or home.namespace}/{item.name}" for item in home.route.gateways]
            hosts = list(home.route.hostnames) or ["*"]
            spec = {"hosts": hosts, "gateways": gateways, "http": [{"route": to(HTTP_PORT)}]}
        else:
            ports = [integer(port.get("port")) for port in service_ports()]
            rules = [{"match": [{"port": port}], "route": to(port)} for port in ports]
            hosts = list(home.route.hostnames) or [f"{home.owner.name}.{domain}"]
            spec = {"hosts": hosts, "http": rules}
        meta = metadata(home.owner, home.owner.name)
        kind = VIRTUAL_SERVICE
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": spec}

    def backends(self, route: Mapping[str, object]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for rule in maps(at(route, "spec", "http")):
            for entry in maps(rule.get("route")):
                name = text(at(entry, "destination", "host")).partition(".")[0]
                found[name] = max(found.get(name, 0), _weight(rule, entry))
        return found

    def pairs(self, route: Mapping[str, object], home: Home) -> tuple[Pair, ...] | str:
        found: list[Pair] = []
        chosen = home.route.rule
        for number, rule in enumerate(_list(at(route, "spec", "http"))):
            if chosen and rule.get("name") != chosen:
                continue
            destinations = []
            for index, entry in enumerate(_list(rule.get("route"))):
                host = text(at(entry, "destination", "host"))
                place = Place(f"/spec/http/{number}/route/{index}", _weight(rule, entry))
                destinations.append((host, _side(host, home), place))
            where = f"VirtualService {home.key}: http[{number}]"
            two = pair(destinations, where, noun="destination", own="an entry")
            if isinstance(two, str):
                return two
            found += [two] if two else []
        if found:
            return tuple(found)
        where = f"the http entry {chosen}" if chosen else "any http entry"
        field = "rule" if chosen else "name"
        return (
            f"traffic.route.{field} {chosen or home.route.name}: VirtualService {home.key} does not have "
            f"both destinations in {where}: add hosts {home.alias(STABLE)} and {home.alias(CANARY)}"
        )

    def accepted(self, route: Mapping[str, object]) -> tuple[Acceptance, str]:
        """Istio writes a status only where it was told to; where it did, it is believed."""
        status = mapping(route.get("status"))
        for item in maps(status.get("conditions")):
            if item.get("type") == "Reconciled" and item.get("status") != "True":
                told = text(item.get("message")) or text(item.get("reason"))
                return "Pending", f"Istio has not brought the VirtualService to all proxies yet ({told})"
        for item in maps(status.get("validationMessages")):
            if item.get("level") in ("ERROR", 3):
                code = text(at(item, "type", "code"))
                return "Pending", f"Istio calls the VirtualService wrong ({code}): see `istioctl analyze`"
        return "Accepted", ""


def _weight(rule: Mapping[str, object], entry: Mapping[str, object]) -> int:
    """Without one, the only destination gets everything, and one of several nothing."""
    alone = len(list(maps(rule.get("route")))) == 1
    return integer(entry.get("weight"), 100 if alone else 0)


def _side(host: str, home: Home) -> str | None:
    """STABLE or CANARY for a name of their Services: short, with the namespace, or whole."""
    for side in (STABLE, CANARY):
        name = f"{home.alias(side)}.{home.namespace}"
        if host in (home.alias(side), name, f"{name}.svc") or host.startswith(f"{name}.svc."):
            return side
    return None


def _list(value: object) -> Iterator[Mapping[str, object]]:
    """The items of a list, each at its place."""
    return (mapping(item) for item in value) if isinstance(value, list) else iter(())
