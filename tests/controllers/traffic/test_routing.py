"""What is written next, and what never is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.traffic.gateway import HTTPRoutes
from controllers.traffic.istio import VirtualServices
from controllers.traffic.route import CANARY, STABLE
from controllers.traffic.routing import (
    Alias,
    Apply,
    Dialect,
    Done,
    Make,
    Patch,
    Point,
    Seen,
    Wait,
    drift,
    home_step,
    split_step,
)

from .routes import MINE, OWN, Cluster, http_route, split, virtual_service

GATEWAY, ISTIO = HTTPRoutes(), VirtualServices()
BOTH = pytest.mark.parametrize("dialect", [GATEWAY, ISTIO], ids=["gateway", "istio"])


def live(dialect: Dialect, body: dict[str, object]) -> dict[str, object]:
    """What the server made of a route of ours."""
    return body | {"metadata": {**body["metadata"], "resourceVersion": "1", "generation": 1}}  # type: ignore[dict-item]


@BOTH
def test_a_route_of_ours_gets_both_weights_in_one_write(dialect: Dialect) -> None:
    ready = {"svc-a": frozenset({"a"}), "svc-b": frozenset({"b"})}
    step = split_step(dialect, OWN, split("a", "b", 20), Seen(ready=ready))
    assert isinstance(step, Apply)
    assert dialect.backends(step.body) == {"svc-a": 80, "svc-b": 20}
    after = Seen(route=live(dialect, step.body), ready=ready)
    assert split_step(dialect, OWN, split("a", "b", 20), after) == Done()
    # At weight 0 the candidate is in no route at all.
    back = split_step(dialect, OWN, split("a", "b", 0), after)
    assert isinstance(back, Apply)
    assert dialect.backends(back.body) == {"svc-a": 100}


@BOTH
def test_no_weight_without_a_ready_endpoint(dialect: Dialect) -> None:
    step = split_step(dialect, OWN, split("a", "b", 20), Seen(ready={"svc-a": frozenset({"a"})}))
    assert step == Wait("Service svc-b has no ready endpoint")
    # What has a weight already may be given less, or another: nobody is helped by a route that stays.
    there = live(dialect, dialect.own(OWN, (("svc-a", 80), ("svc-b", 20))))
    step = split_step(dialect, OWN, split("a", "b", 10), Seen(route=there))
    assert isinstance(step, Apply)


@BOTH
def test_at_rest_a_route_of_ours_leads_to_the_service(dialect: Dialect) -> None:
    step = home_step(dialect, OWN, Seen())
    assert isinstance(step, Apply)
    assert dialect.backends(step.body) == {"svc": 100}
    assert home_step(dialect, OWN, Seen(route=live(dialect, step.body))) == Done()


@BOTH
def test_a_route_of_ours_that_is_not_ours_stays_as_it_is(dialect: Dialect) -> None:
    step = split_step(dialect, OWN, split("a"), Seen(route={"metadata": {"name": "svc"}}))
    assert isinstance(step, Wait)
    assert step.lost
    assert "is not this service's: delete it, or name it in traffic.route.name" in step.reason


def test_only_weights_are_patched_and_only_of_what_was_seen() -> None:
    aliases = {STABLE: Alias(ours=True, revision="a"), CANARY: Alias(ours=True, revision="b")}
    ready = {"svc-stable": frozenset({"a"}), "svc-canary": frozenset({"b"})}
    for dialect, raw, stable, canary in (
        (GATEWAY, http_route(100, 0), "/spec/rules/1/backendRefs/0", "/spec/rules/1/backendRefs/1"),
        (ISTIO, virtual_service(100), "/spec/http/0/route/0", "/spec/http/0/route/1"),
    ):
        step = split_step(
            dialect, MINE, split("a", "b", 5, home=MINE), Seen(route=raw, aliases=aliases, ready=ready)
        )
        assert isinstance(step, Patch)
        assert step.patch == (
            {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": f"{stable}/weight", "value": 95},
            {"op": "add", "path": f"{canary}/weight", "value": 5},
        )
        assert step.raised == (CANARY,)


@pytest.mark.parametrize(
    ("mine", "other", "weights", "wanted", "step"),
    [
        # the beginning of a run: all pods are stable's, whatever the user's weights are
        ("", "", (50, 50), ("a", "", 0), Point(STABLE, "a")),
        ("a", "", (50, 50), ("a", "", 0), (100, 0)),
        ("a", "", (100, 0), ("a", "", 0), Done()),
        # the candidate's Service is turned while its weight is 0, then it gets one
        ("a", "", (100, 0), ("a", "b", 5), Point(CANARY, "b")),
        ("a", "b", (100, 0), ("a", "b", 5), (95, 5)),
        ("a", "b", (95, 5), ("a", "b", 5), Done()),
        # promotion: the stable side has no weight, so that it may be turned
        ("a", "b", (0, 100), ("b", "", 0), Point(STABLE, "b")),
        ("b", "b", (0, 100), ("b", "", 0), (100, 0)),
        # roll-back
        ("a", "b", (50, 50), ("a", "b", 0), (100, 0)),
        # the next candidate
        ("a", "b", (100, 0), ("a", "c", 5), Point(CANARY, "c")),
        # somebody set weights by hand in the middle of a promotion, or of the next run
        ("a", "b", (100, 0), ("b", "", 0), (0, 100)),
        ("a", "b", (50, 50), ("a", "c", 5), (100, 0)),
        ("a", "x", (100, 0), ("b", "", 0), Point(CANARY, "b")),
        ("a", "x", (50, 50), ("b", "", 0), Point(STABLE, "b")),
    ],
)
def test_the_way_of_a_users_route(
    mine: str, other: str, weights: tuple[int, int], wanted: tuple[str, str, int], step: object
) -> None:
    world = Cluster(GATEWAY, {STABLE: weights[0], CANARY: weights[1]}, {STABLE: mine, CANARY: other})
    world.pods = {"a"} if not mine else {"a", "b", "c"}
    found = split_step(GATEWAY, MINE, split(*wanted, home=MINE), world.seen())
    if isinstance(step, tuple):
        assert isinstance(found, Patch)
        world.do(found)
        assert (world.weights[STABLE], world.weights[CANARY]) == step
    else:
        assert found == step


def test_the_services_of_a_users_route_are_made_first_and_never_taken() -> None:
    wanted = split("a", home=MINE)
    route = http_route()
    assert home_step(GATEWAY, MINE, Seen(route=route)) == Make(STABLE)
    ours = {STABLE: Alias(ours=True)}
    assert home_step(GATEWAY, MINE, Seen(aliases=ours)) == Make(CANARY)
    strange = ours | {CANARY: Alias(ours=False)}
    for step in (
        home_step(GATEWAY, MINE, Seen(aliases=strange)),
        split_step(GATEWAY, MINE, wanted, Seen(route=route, aliases=strange)),
    ):
        assert isinstance(step, Wait)
        assert "Service svc-canary is there and is not this service's" in step.reason
    turned = {STABLE: Alias(ours=True, revision="a"), CANARY: Alias(ours=True, revision="b")}
    assert home_step(GATEWAY, MINE, Seen(aliases=turned)) == Point(STABLE, "")


@pytest.mark.parametrize("ready", [set(), {"a", "b"}, {"a"}])
def test_a_turned_service_gets_a_weight_once_only_its_revision_answers(ready: set[str]) -> None:
    aliases = {STABLE: Alias(ours=True, revision="a"), CANARY: Alias(ours=True, revision="b")}
    seen = Seen(
        route=http_route(100, 0),
        aliases=aliases,
        ready={"svc-stable": frozenset({"a"}), "svc-canary": frozenset(ready)},
    )
    step = split_step(GATEWAY, MINE, split("a", "b", 5, home=MINE), seen)
    assert isinstance(step, Wait)
    assert "Service svc-canary needs ready endpoints of revision b and no other" in step.reason
    # Weights that are there already stay, whatever becomes of the pods: that is the canary's to decide.
    kept = replace(seen, route=http_route(95, 5))
    assert split_step(GATEWAY, MINE, split("a", "b", 5, home=MINE), kept) == Done()


def test_nothing_is_turned_before_the_gateway_has_the_weight_of_0() -> None:
    world = Cluster(GATEWAY, {STABLE: 0, CANARY: 100}, {STABLE: "a", CANARY: "b"}, {"a", "b"})
    seen = replace(world.seen(), route=http_route(0, 100, accepted=False))
    step = split_step(GATEWAY, MINE, split("b", home=MINE), seen)
    assert isinstance(step, Wait)
    assert "has not said anything" in step.reason


REVISIONS = ("a", "b", "c", "d")


def turns(world: Cluster, wanted: object, met: set[str]) -> None:
    for _ in range(8):
        step = wanted(world.seen())  # type: ignore[operator]
        if not world.do(step):
            break
        met |= world.traffic()
    assert wanted(world.seen()) == Done(), step  # type: ignore[operator]


@given(st.lists(st.tuples(st.lists(st.integers(1, 100), max_size=3), st.booleans()), max_size=4))
def test_requests_only_meet_what_the_machine_asked_for(runs: list[tuple[list[int], bool]]) -> None:
    """Run after run, promoted or rolled back: at no step is anybody led to nobody, or to another revision."""
    stable, candidate = 0, 0
    world = Cluster(GATEWAY, pods={REVISIONS[0]})
    turns(world, lambda seen: home_step(GATEWAY, MINE, seen), set())
    for weights, promoted in runs:
        now, candidate = REVISIONS[stable % 4], candidate + 1
        new = REVISIONS[candidate % 4]
        if new == now:
            continue
        met: set[str] = set()
        turns(world, lambda seen, now=now: split_step(GATEWAY, MINE, split(now, home=MINE), seen), met)
        assert met <= {now}
        world.pods.add(new)
        for weight in sorted(weights) + ([100] if promoted else [0]):
            aim = split(now, new, weight, home=MINE)
            turns(world, lambda seen, aim=aim: split_step(GATEWAY, MINE, aim, seen), met)
        assert met <= {now, new}
        end, gone = (new, now) if promoted else (now, new)
        met.clear()
        turns(world, lambda seen, end=end: split_step(GATEWAY, MINE, split(end, home=MINE), seen), met)
        assert met <= {end}
        world.pods = {end}
        met.clear()
        turns(world, lambda seen: home_step(GATEWAY, MINE, seen), met)
        assert met <= {end}, gone
        assert world.weights == {STABLE: 100, CANARY: 0}
        stable = candidate if promoted else stable


@given(
    st.tuples(st.integers(0, 100), st.integers(0, 100)),
    st.tuples(st.sampled_from(("", *REVISIONS)), st.sampled_from(("", *REVISIONS))),
    st.sampled_from(REVISIONS[:2]),
    st.integers(0, 100),
)
def test_whatever_others_made_of_it_the_split_comes_back(
    weights: tuple[int, int], aliases: tuple[str, str], stable: str, weight: int
) -> None:
    """Of any weights and Services; only pods of strangers behind all pods are waited for."""
    pods = {stable} if not aliases[0] else set(REVISIONS)
    pods |= {"c"} if aliases[0] else set()
    world = Cluster(GATEWAY, dict(zip((STABLE, CANARY), weights, strict=True)), {}, pods)
    world.aliases = dict(zip((STABLE, CANARY), aliases, strict=True))
    candidate = "c" if "c" in pods else ""
    aim = split(stable, candidate, weight if candidate else 0, home=MINE)
    turns(world, lambda seen: split_step(GATEWAY, MINE, aim, seen), set())
    assert world.weights == {STABLE: 100 - aim.weight, CANARY: aim.weight}
    assert world.aliases[STABLE] == stable
    assert not aim.weight or world.aliases[CANARY] == candidate


def test_drift_names_who_wrote_and_what_to_do() -> None:
    seen = Seen(route=http_route(100, 0))
    aim = split("a", "b", 20, home=MINE)
    words = drift(GATEWAY, MINE, seen, aim, Patch(()))
    assert words == (
        "HTTPRoute default/shop was changed by argocd; a 80 %, b 20 % is written again: have nobody else set "
        "these weights"
    )
    assert "was deleted (a 80 %, b 20 % was in force)" in drift(GATEWAY, OWN, Seen(), aim, Apply({}))
    assert "Service svc-canary was changed" in drift(GATEWAY, MINE, seen, aim, Point(CANARY, "b"))
    assert drift(GATEWAY, MINE, seen, aim, Wait("why")) == "why"
