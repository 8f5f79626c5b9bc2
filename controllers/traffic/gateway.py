"""HTTPRoutes of the Gateway API, v1. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import controller_runtime as ctrl

from ..resources.meta import metadata
from ..resources.wire import JSON, at, integer, mapping, maps, text
from .route import CANARY, HTTP_PORT, STABLE, Home
from .routing import Acceptance, Pair, Place, Sides, pair

GROUP: Final = "gateway.networking.k8s.io"
HTTP_ROUTE: Final = ctrl.Kind(group=GROUP, version="v1", kind="HTTPRoute", plural="httproutes")


class HTTPRoutes:
    """See Dialect."""

    kind = HTTP_ROUTE
    missing = "install the CRDs of the Gateway API, v1, or use traffic.provider Envoy"

    def own(self, home: Home, sides: Sides) -> JSON:
        parents = [item.to_wire() for item in home.route.gateways]
        backends = [{"name": name, "port": HTTP_PORT, "weight": weight} for name, weight in sides]
        spec: JSON = {"parentRefs": parents, "rules": [{"backendRefs": backends}]}
        if home.route.hostnames:
            spec["hostnames"] = list(home.route.hostnames)
        meta = metadata(home.owner, home.owner.name)
        return {"apiVersion": HTTP_ROUTE.api_version, "kind": "HTTPRoute", "metadata": meta, "spec": spec}

    def backends(self, route: Mapping[str, object]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for rule in maps(at(route, "spec", "rules")):
            for ref in maps(rule.get("backendRefs")):
                name = text(ref.get("name"))
                found[name] = max(found.get(name, 0), integer(ref.get("weight"), 1))
        return found

    def pairs(self, route: Mapping[str, object], home: Home) -> tuple[Pair, ...] | str:
        names = {home.alias(STABLE): STABLE, home.alias(CANARY): CANARY}
        found: list[Pair] = []
        chosen = home.route.rule
        for number, rule in enumerate(_list(at(route, "spec", "rules"))):
            if chosen and rule.get("name") != chosen:
                continue
            backends = []
            for index, ref in enumerate(_list(rule.get("backendRefs"))):
                name = text(ref.get("name"))
                side = names.get(name) if _service(ref, home.namespace) else None
                path = f"/spec/rules/{number}/backendRefs/{index}"
                backends.append((name, side, Place(path, integer(ref.get("weight"), 1))))
            where = f"HTTPRoute {home.key}: rule {number}"
            two = pair(backends, where, noun="backend", own="a rule")
            if isinstance(two, str):
                return two
            found += [two] if two else []
        if found:
            return tuple(found)
        where = f"rule {chosen}" if chosen else "any rule"
        field = "rule" if chosen else "name"
        return (
            f"traffic.route.{field} {chosen or home.route.name}: HTTPRoute {home.key} does not have both "
            f"backends in {where}: add backendRefs {home.alias(STABLE)} and {home.alias(CANARY)}, port "
            f"{HTTP_PORT}"
        )

    def accepted(self, route: Mapping[str, object]) -> tuple[Acceptance, str]:
        """Accepted and ResolvedRefs of every parent, of this generation. ResolvedRefs may lag behind a new
        Service, so that False is waited for; Accepted False is a word on the route itself.
        """
        namespace = text(at(route, "metadata", "namespace"))
        parents = list(maps(at(route, "spec", "parentRefs")))
        if not parents:
            return "Pending", "the HTTPRoute has no parentRefs: attach it to a Gateway"
        for parent in parents:
            state, why = self._parent(route, _parent(parent, namespace))
            if state != "Accepted":
                return state, why
        return "Accepted", ""

    def _parent(self, route: Mapping[str, object], parent: tuple[object, ...]) -> tuple[Acceptance, str]:
        generation = integer(at(route, "metadata", "generation"))
        namespace = text(at(route, "metadata", "namespace"))
        name = f"{parent[1]} {parent[2]}/{parent[3]}"
        said = [
            entry
            for entry in maps(at(route, "status", "parents"))
            if _parent(mapping(entry.get("parentRef")), namespace) == parent
        ]
        if not said:
            return "Pending", f"{name} has not said anything of the HTTPRoute: is its controller running?"
        answers = [self._said(entry, generation, name) for entry in said]
        for state in ("Refused", "Accepted"):
            for answer in answers:
                if answer[0] == state:
                    return answer
        return answers[0]

    def _said(self, entry: Mapping[str, object], generation: int, name: str) -> tuple[Acceptance, str]:
        conditions = {text(item.get("type")): item for item in maps(entry.get("conditions"))}
        for wanted in ("Accepted", "ResolvedRefs"):
            found = conditions.get(wanted)
            if found is None:
                return "Pending", f"{name} has not said {wanted} of the HTTPRoute yet"
            seen = found.get("observedGeneration")
            if not isinstance(seen, int):
                return "Pending", f"{name} says {wanted} without observedGeneration: it cannot be verified"
            if seen < generation:
                return "Pending", f"{name} has seen generation {seen} of the HTTPRoute, {generation} is there"
            if found.get("status") != "True":
                told = f"{text(found.get('reason'))}: {text(found.get('message'))}".strip(": ")
                words = f"{name} says {wanted} {text(found.get('status'))} of the HTTPRoute ({told})"
                return "Refused" if wanted == "Accepted" else "Pending", words
        return "Accepted", ""


def _list(value: object) -> Iterator[Mapping[str, object]]:
    """The items of a list, each at its place."""
    return (mapping(item) for item in value) if isinstance(value, list) else iter(())


def _service(ref: Mapping[str, object], namespace: str) -> bool:
    kind, group = text(ref.get("kind")) or "Service", text(ref.get("group"))
    return kind == "Service" and not group and (text(ref.get("namespace")) or namespace) == namespace


def _parent(ref: Mapping[str, object], namespace: str) -> tuple[object, ...]:
    """A reference with its defaults, so that one that the server filled in equals one that is short."""
    return (
        text(ref.get("group"), GROUP),
        text(ref.get("kind")) or "Gateway",
        text(ref.get("namespace")) or namespace,
        text(ref.get("name")),
        text(ref.get("sectionName")),
        integer(ref.get("port")),
    )
