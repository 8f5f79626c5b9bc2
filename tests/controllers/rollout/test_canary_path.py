"""The switch to the routers and back, row by row; and sizes where pods are the weight."""

from dataclasses import replace

import pytest

from controllers.rollout.canary import (
    Canary,
    Decision,
    Endpoints,
    Ensure,
    Facts,
    Path,
    Pause,
    Phase,
    Pods,
    Remove,
    Route,
    Scale,
    Select,
    SetWeight,
    Stamp,
    Step,
    Traffic,
    Verb,
    Way,
    counts,
)

from .test_canary_desk import PLAN, Desk, events

SWITCHED = replace(PLAN, means="Switched")
OLD = {"old": Pods(spec=4, ready=4)}


def desk(**more: object) -> Desk:
    return Desk(plan=SWITCHED, facts=Facts(now=1e6, wanted="new", pods=OLD), **more)  # type: ignore[arg-type]


def routed() -> Desk:
    """A run whose clients are on the routers; no candidate pod yet."""
    one = desk()
    one.look()
    one.look(1)
    one.look(1, endpoints=Endpoints.Routers)
    one.look(15)
    assert one.state.path.way is Way.Routed
    return one


def scales(decision: Decision) -> dict[str, int]:
    return {effect.revision: effect.replicas for effect in decision.effects if isinstance(effect, Scale)}


def test_there_step_by_step_and_the_candidate_last() -> None:
    one = desk(route=Route.Pending)
    decision = one.look()
    assert one.state.path.way is Way.Opening
    assert decision.effects == (SetWeight(weights=(("old", 100),), change=1),)
    assert "the routers to take the route" in one.look(7).waits_for
    one.route = Route.Verified
    assert one.look(1).effects == (Select(routers=True),)
    assert one.look(1, endpoints=Endpoints.Mixed).effects == (Select(routers=True),)
    assert "lead to the routers, for 1 s" in one.look().waits_for
    assert one.look(1, endpoints=Endpoints.Routers).effects == ()
    decision = one.look(14)
    assert decision.waits_for == "1 s for every client to follow to the routers"
    assert decision.look_again == 1
    one.look(0, endpoints=Endpoints.Mixed)
    one.look(5, endpoints=Endpoints.Routers)
    assert one.look(14).effects == (), "somebody edited the Service: the time begins anew"
    assert one.look(1).effects == (Ensure(revision="new"), Scale(revision="new", replicas=1))
    assert one.state.deadline == one.facts.now + 600, "the candidate's time begins here"


def test_a_candidate_that_is_there_already_does_not_grow_before_clients_are_on_the_routers() -> None:
    one = desk(route=Route.Verified)
    one.facts = replace(one.facts, pods={**OLD, "new": Pods(spec=0)})
    for _ in range(4):
        assert scales(one.look(5)) == {}
    assert one.state.path.way is Way.Entering


def test_back_only_when_all_pods_are_stables() -> None:
    one = routed()
    one.command(Verb.Abort)
    pods = {**OLD, "new": Pods(spec=1, ready=1)}
    assert scales(one.look(31, pods=pods)) == {"new": 0}
    for left in (Pods(spec=1, ready=0), Pods(spec=0, ready=1)):
        one.look(1, pods={**OLD, "new": left})
        assert (one.state.phase, one.state.path.way) == (Phase.Idle, Way.Routed)
    decision = one.look(1, pods={**OLD, "new": Pods()})
    assert (one.state.path.way, decision.effects) == (Way.Leaving, (Select(routers=False),))
    one.look(1, endpoints=Endpoints.Pods)
    assert one.look(14).effects == ()
    change = one.state.traffic.change
    assert one.look(1).effects == (Remove(change=change),)
    one.look(1, removed=True)
    assert one.state.at_rest
    assert (one.state.path, one.state.traffic.weights, one.state.traffic.change) == (Path(), (), change)


@pytest.mark.parametrize("route", [Route.Pending, Route.Refused, Route.Unreachable])
def test_a_route_that_never_came_to_be_holds_up_no_end_of_a_run(route: Route) -> None:
    """Routers that cannot start, or refuse: nobody was led to them, so nobody needs their word."""
    one = desk(route=route)
    one.look()
    one.look(5)
    assert one.state.path.way is Way.Opening
    decision = one.command(Verb.Abort)
    assert (one.state.phase, one.state.path.way) == (Phase.Draining, Way.Closing)
    assert decision.effects == (Remove(change=1),)
    one.look(1, removed=True)
    one.look(30)
    assert one.state.at_rest


def test_a_run_that_comes_while_clients_leave_turns_them_back() -> None:
    one = routed()
    one.command(Verb.Abort)
    one.look(31)
    one.look(1)
    assert one.state.path.way is Way.Leaving
    one.command(Verb.Retry)
    assert (one.state.phase, one.state.path.way) == (Phase.Preparing, Way.Entering)
    one.look(1)
    one.look(15)
    assert one.state.path.way is Way.Routed


def test_a_run_that_comes_while_the_route_is_removed_asks_for_another() -> None:
    one = desk()
    closing = Traffic(weights=(("old", 100),), change=5, asked_at=1.0, verified_at=2.0)
    one.state = Canary(stable="old", traffic=closing, path=Path(way=Way.Closing, since=1.0))
    decision = one.look()
    assert (one.state.phase, one.state.path.way) == (Phase.Preparing, Way.Closing)
    assert decision.effects == (Remove(change=5),)
    decision = one.look(1, removed=True)
    assert one.state.path.way is Way.Opening
    assert decision.effects == (SetWeight(weights=(("old", 100),), change=6),)


@pytest.mark.parametrize("route", [Route.Pending, Route.Refused, Route.Unreachable])
def test_routers_that_do_not_come_are_not_the_candidates_fault(route: Route) -> None:
    one = desk(route=route)
    one.look()
    one.look(601)
    assert (one.state.phase, one.state.pause) == (Phase.Paused, Pause.TrafficProvider)
    assert one.state.rejected == ()
    one.route = Route.Verified
    one.look(1)
    one.look(1, endpoints=Endpoints.Routers)
    one.look(15)
    assert one.state.phase is Phase.Preparing


def test_a_weight_is_stamped_on_the_deployment_before_it_is_asked_for() -> None:
    one = routed()
    one.look(1)
    ready = {**OLD, "new": Pods(spec=1, ready=1)}
    decision = one.look(1, pods=ready)
    weight = SetWeight(weights=(("old", 95), ("new", 5)), change=2)
    assert decision.effects == (Stamp(revision="new", change=2), weight)
    one.route = Route.Pending
    assert one.look(1, pods={**OLD, "new": replace(ready["new"], change=2)}).effects == (weight,)


def test_pods_are_the_weight() -> None:
    assert [counts(4, weight) for weight in (0, 5, 25, 50, 90, 100)] == [
        (4, 0),
        (4, 1),
        (3, 1),
        (2, 2),
        (1, 4),
        (0, 4),
    ]
    assert counts(1, 5) == (1, 1)
    assert all(sum(counts(n, w)) >= n for n in range(1, 12) for w in range(101))


def test_without_a_proxy_what_grows_is_ready_before_the_other_shrinks() -> None:
    plan = replace(PLAN, means="Pods", steps=(Step(50),))
    one = Desk(plan=plan, facts=Facts(now=1e6, wanted="new", pods=OLD))
    one.look()
    decision = one.look(1)
    assert events(decision) == ["verified", "candidate ready", "ready for the weight"]
    assert scales(decision) == {"new": 2}
    one.route = Route.Pending
    for spec, ready, sizes in ((2, 0, {}), (2, 1, {"old": 3}), (2, 2, {"old": 2})):
        pods = {"old": Pods(spec=4, ready=4), "new": Pods(spec=spec, ready=ready, unready_for=100)}
        assert scales(one.look(1, pods=pods)) == sizes
    assert one.state.phase is Phase.Shifting, "pods that start are no candidate that went down"
    one.command(Verb.Abort)
    back = one.look(1, pods={"old": Pods(spec=2, ready=2), "new": Pods(spec=2, ready=2)})
    assert scales(back)["old"] == 4


def test_another_providers_weights_are_none_that_the_routers_have() -> None:
    one = desk(route=Route.Pending)
    known = Traffic(
        weights=(("old", 100),), change=7, asked_at=1.0, verified_at=2.0, possible=(("old", 100),)
    )
    one.state = Canary(stable="old", traffic=known)
    decision = one.look()
    assert one.state.path.way is Way.Opening
    assert decision.effects == (SetWeight(weights=(("old", 100),), change=8),)
    back = Desk(plan=PLAN, facts=Facts(now=1e6, wanted="new", pods=OLD), route=Route.Pending)
    back.state = Canary(stable="old", traffic=Traffic(change=7, verified_at=2.0))
    assert back.look().effects == (SetWeight(weights=(("old", 100),), change=8),)
