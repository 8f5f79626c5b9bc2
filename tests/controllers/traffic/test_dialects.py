"""How HTTPRoutes and VirtualServices say it: backends of people, and what is made of them."""

import copy

import pytest

from controllers.traffic import Home, RouteRef
from controllers.traffic.gateway import HTTPRoutes
from controllers.traffic.istio import VirtualServices
from controllers.traffic.route import Gateway, route, route_to_wire
from controllers.traffic.routing import Pair, Place

from .routes import MINE, OWN, OWNER, http_route, parent, virtual_service

GATEWAY, ISTIO = HTTPRoutes(), VirtualServices()


def test_the_pair_is_found_in_the_rule_that_has_both() -> None:
    assert GATEWAY.pairs(http_route(90, 10), MINE) == (
        Pair(Place("/spec/rules/1/backendRefs/0", 90), Place("/spec/rules/1/backendRefs/1", 10)),
    )
    assert ISTIO.pairs(virtual_service(), MINE) == (
        Pair(Place("/spec/http/0/route/0", 100), Place("/spec/http/0/route/1", 0)),
    )


def test_a_named_rule_only() -> None:
    raw = http_route()
    raw["spec"]["rules"].append(copy.deepcopy(raw["spec"]["rules"][1]) | {"name": "other"})  # type: ignore[index]
    assert len(GATEWAY.pairs(raw, MINE)) == 2
    home = Home(owner=OWNER, route=RouteRef(name="shop", rule="other"))
    found = GATEWAY.pairs(raw, home)
    assert [pair.stable.pointer for pair in found] == ["/spec/rules/2/backendRefs/0"]  # type: ignore[union-attr]
    home = Home(owner=OWNER, route=RouteRef(name="shop", rule="none"))
    assert GATEWAY.pairs(raw, home) == (
        "traffic.route.rule none: HTTPRoute default/shop does not have both backends in rule none: add "
        "backendRefs svc-stable and svc-canary, port 80"
    )
    assert ISTIO.pairs(virtual_service(), home) == (
        "traffic.route.rule none: VirtualService default/shop does not have both destinations in the http "
        "entry none: add hosts svc-stable and svc-canary"
    )


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ({"name": "third", "weight": 1}, "third backend third with a weight"),
        ({"name": "svc-stable", "weight": 1}, "names svc-stable twice: name it once"),
        ({"name": "svc-stable", "namespace": "other", "weight": 1}, "third backend svc-stable"),
        ({"name": "svc-stable", "kind": "Bucket", "weight": 1}, "third backend svc-stable"),
        ({"name": "third", "weight": 0}, ""),
    ],
)
def test_another_backend_in_the_rule(ref: dict[str, object], words: str) -> None:
    raw = http_route()
    raw["spec"]["rules"][1]["backendRefs"].append(ref)  # type: ignore[index]
    found = GATEWAY.pairs(raw, MINE)
    assert words in found if words else isinstance(found, tuple)


def test_another_destination_in_the_entry() -> None:
    for host, words in (("third", "third destination third"), ("svc-stable", "names svc-stable twice")):
        raw = virtual_service()
        raw["spec"]["http"][0]["route"].append({"destination": {"host": host}, "weight": 1})  # type: ignore[index]
        assert words in ISTIO.pairs(raw, MINE)


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ([parent(3)], "Accepted", ""),
        (
            [],
            "Pending",
            "Gateway infra/gw has not said anything of the HTTPRoute: is its controller running?",
        ),
        ([parent(2)], "Pending", "has seen generation 2 of the HTTPRoute, 3 is there"),
        ([parent(3, accepted="False")], "Refused", "says Accepted False of the HTTPRoute (R: m)"),
        ([parent(3, resolved="False")], "Pending", "says ResolvedRefs False of the HTTPRoute (R: m)"),
        # an entry that a controller of the past left behind, and one of the present
        ([parent(1), parent(3)], "Accepted", ""),
        ([parent(3), parent(3, accepted="False")], "Refused", "Accepted False"),
        ([parent(1, accepted="False"), parent(3)], "Accepted", ""),
    ],
)
def test_every_parent_has_to_accept_this_generation(
    said: list[dict[str, object]], state: str, words: str
) -> None:
    raw = http_route(generation=3)
    raw["status"] = {"parents": said}
    found = GATEWAY.accepted(raw)
    assert found[0] == state
    assert words in found[1]


def test_one_of_two_parents_is_not_enough() -> None:
    raw = http_route()
    raw["spec"]["parentRefs"].append({"name": "gw", "namespace": "infra", "sectionName": "https"})  # type: ignore[index]
    assert GATEWAY.accepted(raw)[0] == "Pending"
    del raw["spec"]["parentRefs"]  # type: ignore[attr-defined]
    assert GATEWAY.accepted(raw) == ("Pending", "the HTTPRoute has no parentRefs: attach it to a Gateway")


def test_a_condition_without_a_generation_verifies_nothing() -> None:
    raw = http_route()
    entry = parent(1)
    del entry["conditions"][0]["observedGeneration"]  # type: ignore[index]
    raw["status"] = {"parents": [entry]}
    assert "without observedGeneration" in GATEWAY.accepted(raw)[1]
    entry["conditions"] = []
    assert "has not said Accepted of the HTTPRoute yet" in GATEWAY.accepted(raw)[1]


def test_what_istio_says_is_believed_where_it_says_something() -> None:
    raw = virtual_service()
    assert ISTIO.accepted(raw) == ("Accepted", "")
    raw["status"] = {"conditions": [{"type": "Reconciled", "status": "False", "message": "1/2 proxies"}]}
    assert ISTIO.accepted(raw) == (
        "Pending",
        "Istio has not brought the VirtualService to all proxies yet (1/2 proxies)",
    )
    raw["status"] = {"validationMessages": [{"level": "ERROR", "type": {"code": "IST0101"}}]}
    assert "IST0101" in ISTIO.accepted(raw)[1]


def test_the_routes_of_ours() -> None:
    home = Home(
        owner=OWNER,
        route=RouteRef(gateways=(Gateway(name="gw", section="web"),), hostnames=("a.example",)),
    )
    spec = GATEWAY.own(home, (("svc-a", 100),))["spec"]
    assert spec == {
        "parentRefs": [{"name": "gw", "sectionName": "web"}],
        "hostnames": ["a.example"],
        "rules": [{"backendRefs": [{"name": "svc-a", "port": 80, "weight": 100}]}],
    }
    spec = ISTIO.own(home, (("svc-a", 100),))["spec"]
    assert spec["gateways"] == ["default/gw"]  # type: ignore[index]
    assert spec["hosts"] == ["a.example"]  # type: ignore[index]
    mesh = Home(owner=OWNER, route=RouteRef())
    spec = ISTIO.own(mesh, (("svc-a", 80), ("svc-b", 20)))["spec"]
    assert spec["hosts"] == ["svc.default.svc.cluster.local"]  # type: ignore[index]
    assert [rule["match"][0]["port"] for rule in spec["http"]] == [80, 8080, 9000]  # type: ignore[index]
    for rule in spec["http"]:  # type: ignore[index]
        port = {"number": rule["match"][0]["port"]}
        assert rule["route"] == [
            {"destination": {"host": f"svc-{name}.default.svc.cluster.local", "port": port}, "weight": weight}
            for name, weight in (("a", 80), ("b", 20))
        ]


def test_a_route_survives_the_status() -> None:
    for ref in (OWN.route, MINE.route, RouteRef(name="a", rule="b"), RouteRef(hostnames=("x",))):
        assert route({"route": route_to_wire(ref)}) == ref
    assert route({}) == RouteRef()
