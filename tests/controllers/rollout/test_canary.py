"""The canary's table, row by row, in the order in which a run meets it."""

from dataclasses import replace

import pytest

from controllers.analysis.eprocess import Evidence
from controllers.analysis.tally import Verdict
from controllers.analysis.verdict import Ledger
from controllers.rollout.canary import (
    Canary,
    Ending,
    Ensure,
    Facts,
    Found,
    Pause,
    Phase,
    Pods,
    Route,
    Scale,
    SetWeight,
    StartAnalysis,
    Verb,
)

from .test_canary_desk import Desk, at, events


def test_a_good_run_from_the_first_look_to_the_end() -> None:
    desk = Desk()
    seen = []
    for _ in range(40):
        decision = desk.go()
        seen += [t.after for t in decision.transitions if t.after is not t.before]
        if desk.state.phase is Phase.Idle:
            break
    assert seen == [
        Phase.Preparing,
        *(Phase.Shifting, Phase.Analysing),
        *(Phase.Shifting, Phase.Analysing, Phase.Paused),
        *(Phase.Promoting, Phase.Soaking, Phase.Draining, Phase.Idle),
    ]
    assert desk.state.stable == "new"
    assert desk.state.history[-1].ending is Ending.Promoted
    assert desk.state.traffic.weights == (("new", 100),)
    assert desk.look().effects == (Scale(revision="old", replicas=0),)
    assert desk.look().waits_for == ""


def test_no_candidate_before_the_route_is_known_to_be_all_stable() -> None:
    desk = Desk(facts=Facts(now=1e6, wanted="new", pods={"old": Pods(spec=4, ready=4)}), route=Route.Pending)
    assert desk.look().effects == (SetWeight(weights=(("old", 100),), change=1),)
    desk.route = Route.Verified
    assert desk.look(1).effects == (Ensure(revision="new"), Scale(revision="new", replicas=1))


def test_both_pairs_stand_in_one_write() -> None:
    decision = at(Phase.Preparing).look(1)
    assert SetWeight(weights=(("old", 95), ("new", 5)), change=2) in decision.effects


@pytest.mark.parametrize("pods", [Pods(spec=1), Pods(spec=1, ready=0, unready_for=1000)])
def test_no_weight_before_a_pod_is_ready(pods: Pods) -> None:
    desk = at(Phase.Preparing)
    decision = desk.look(1, pods={**desk.facts.pods, "new": pods})
    assert desk.state.phase is Phase.Preparing
    assert decision.waits_for == "1 ready pods of new, 0 are"
    assert events(desk.look(600)) == ["overdue", "candidate without traffic"]
    assert desk.state.history[-1].ending is Ending.NotReady
    assert desk.state.rejected == ("new",)


def test_a_higher_weight_waits_for_the_pods_that_carry_it() -> None:
    desk = at(Phase.Analysing)
    decision = desk.verdict(Verdict.Passed, pods={**desk.facts.pods, "new": Pods(spec=1, ready=1)})
    assert decision.effects == (Scale(revision="new", replicas=2),)
    assert desk.look(599).waits_for == "2 ready pods of new, 1 are"
    assert desk.state.traffic.share("new") == 5
    desk.look(2)
    assert (desk.state.phase, desk.state.ending) == (Phase.RollingBack, Ending.NotReady)


def test_nothing_that_may_have_traffic_is_scaled_away_whatever_the_state_says() -> None:
    desk = Desk()
    desk.state = replace(
        desk.state, traffic=desk.state.traffic.ask((("old", 95), ("lost", 5)), 1.0), rejected=("new",)
    )
    assert Scale(revision="lost", replicas=0) not in desk.look(pods={"lost": Pods(spec=1, ready=1)}).effects


def test_the_readiness_path_must_answer_first() -> None:
    desk = at(Phase.Preparing)
    assert desk.look(1, checked=False).waits_for == "the readiness path of every pod of new"
    desk.look(1, checked=True)
    assert desk.state.phase is Phase.Shifting


def test_a_weight_is_analysed_only_after_it_was_verified_and_has_settled() -> None:
    desk = at(Phase.Preparing)
    desk.route = Route.Pending
    desk.state = replace(desk.state, traffic=desk.state.traffic.verified(desk.facts.now))
    desk.look(1)
    assert "traffic provider to verify old 95 %, new 5 %" in desk.look(100).waits_for
    desk.route = Route.Verified
    desk.look(1)
    assert desk.look(14).waits_for == "15 s after the weight was verified"
    decision = desk.look(1)
    (started,) = decision.effects
    assert isinstance(started, StartAnalysis)
    assert (started.name, started.weight, started.baseline) == ("svc-new-1-0-1", 5, "old")


def test_evidence_goes_on_from_step_to_step() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Passed)
    desk.facts = replace(desk.facts, found=None)
    desk.until(Phase.Analysing)
    started = desk.look().effects[-1]
    assert isinstance(started, StartAnalysis)
    assert started.ledger == Ledger({"m/errors": Evidence(windows=1)})


@pytest.mark.parametrize("field", ["run", "step", "attempt"])
def test_a_verdict_of_another_run_step_or_attempt_is_dropped(field: str) -> None:
    desk = at(Phase.Analysing)
    state = desk.state
    ours = Found(run=state.run, step=state.step, attempt=state.attempt, verdict=Verdict.Failed)
    desk.look(1, found=replace(ours, **{field: getattr(ours, field) + 1}))
    assert (desk.state.phase, desk.state.ending) == (Phase.Analysing, None)
    desk.look(1, found=ours)
    assert (desk.state.phase, desk.state.ending) == (Phase.RollingBack, Ending.AnalysisFailed)


def test_a_failed_step_rolls_back_at_once_and_the_candidate_stays_up_until_drained() -> None:
    desk = at(Phase.Analysing)
    decision = desk.verdict(Verdict.Failed)
    assert events(decision) == ["failed", "stable can take it"]
    assert SetWeight(weights=(("old", 100), ("new", 0)), change=3) in decision.effects
    assert not any(isinstance(effect, Scale) for effect in decision.effects)
    desk.look(1)
    assert desk.state.phase is Phase.Draining
    assert desk.state.history[-1].reason == "numbers"
    decision = desk.look(29)
    assert decision.waits_for.endswith("s for the last requests of new")
    assert Scale(revision="new", replicas=0) not in decision.effects
    assert Scale(revision="new", replicas=0) in desk.look(2).effects
    assert "retry: new was rejected (numbers)" in desk.look(1).waits_for


def test_a_route_that_is_never_verified_keeps_a_rolled_back_candidate_up_for_ever() -> None:
    desk = at(Phase.Analysing)
    for route in (Route.Unreachable, Route.Refused, Route.Pending):
        desk.route = route
        decision = desk.verdict(Verdict.Failed, 100_000)
        assert desk.state.phase is Phase.RollingBack
        assert isinstance(decision.effects[0], SetWeight)
        assert not any(isinstance(effect, Scale) for effect in decision.effects)
        assert "traffic provider" in decision.waits_for


@pytest.mark.parametrize(
    ("route", "phase", "ending"),
    [
        (Route.Refused, Phase.RollingBack, Ending.TrafficRefused),
        (Route.Pending, Phase.RollingBack, Ending.TrafficNotVerified),
        (Route.Unreachable, Phase.Paused, None),
    ],
)
def test_a_shift_that_does_not_come_about(route: Route, phase: Phase, ending: Ending | None) -> None:
    desk = at(Phase.Shifting)
    assert desk.state.traffic.in_flight
    desk.route = route
    desk.look(301)
    assert (desk.state.phase, desk.state.ending) == (phase, ending)
    if phase is Phase.Paused:
        assert desk.state.pause is Pause.TrafficProvider
        desk.route = Route.Verified
        desk.look(1)
        assert (desk.state.phase, desk.state.attempt) == (Phase.Shifting, 2)


def test_a_provider_gone_before_the_first_step_is_not_the_candidates_fault() -> None:
    desk = Desk(route=Route.Unreachable)
    desk.look()
    desk.look(601)
    assert (desk.state.phase, desk.state.pause) == (Phase.Paused, Pause.TrafficProvider)
    assert "the traffic provider" in desk.look().waits_for
    desk.route = Route.Verified
    desk.look(1)
    assert desk.state.phase in (Phase.Preparing, Phase.Shifting)


@pytest.mark.parametrize(
    "phase", [Phase.Shifting, Phase.Analysing, Phase.Paused, Phase.Promoting, Phase.Soaking]
)
@pytest.mark.parametrize("pods", [Pods(spec=1, unready_for=10), Pods(spec=1, ready=1, broken="CrashLoop")])
def test_a_candidate_that_goes_down_is_sent_back_without_prometheus(phase: Phase, pods: Pods) -> None:
    desk = at(phase)
    desk.look(1, pods={**desk.facts.pods, "new": pods}, metrics=False, found=None)
    assert (desk.state.phase, desk.state.ending) == (Phase.RollingBack, Ending.Unhealthy)


def test_a_short_gap_is_waited_out() -> None:
    desk = at(Phase.Analysing)
    decision = desk.look(1, pods={**desk.facts.pods, "new": Pods(spec=1, unready_for=4)}, found=None)
    assert desk.state.phase is Phase.Analysing
    assert decision.look_again == 6


@pytest.mark.parametrize(
    ("ready", "candidate", "share"),
    [(0, 4, 100), (1, 4, 69), (2, 4, 38), (3, 4, 0), (4, 4, 0), (1, 0, 0), (0, 0, 100)],
)
def test_a_roll_back_follows_what_stable_can_carry(ready: int, candidate: int, share: int) -> None:
    desk = at(Phase.Soaking)
    pods = {"old": Pods(spec=4, ready=ready), "new": Pods(spec=4, ready=candidate)}
    desk.verdict(Verdict.Failed, pods=pods)
    assert desk.state.traffic.share("new") == share
    if share:
        desk.look(1)
        assert desk.look(1).waits_for == f"ready pods of old: {ready} of 4"
        desk.look(1, pods={**pods, "old": Pods(spec=4, ready=4)})
        assert desk.state.traffic.share("new") == 0


def test_a_small_share_goes_back_to_whatever_stable_has() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Failed, pods={"old": Pods(spec=4, ready=1), "new": Pods(spec=4, ready=4)})
    assert desk.state.traffic.share("new") == 0


def test_a_third_revision_waits_until_the_second_is_off_the_route() -> None:
    desk = at(Phase.Analysing)
    decision = desk.look(1, wanted="third", found=None)
    assert events(decision) == ["superseded", "stable can take it"]
    desk.look(1)
    assert desk.state.phase is Phase.Draining
    desk.look(31)
    desk.look(1)
    assert (desk.state.candidate, desk.state.run, desk.state.step) == ("third", 2, 0)
    assert desk.state.rejected == ()


def test_back_to_stable_is_no_rejection_and_the_same_again_is_a_new_run() -> None:
    desk = at(Phase.Analysing)
    desk.look(1, wanted="old", found=None)
    desk.look(1)
    desk.look(31)
    assert (desk.state.phase, desk.state.history[-1].ending) == (Phase.Idle, Ending.Reverted)
    desk.look(1, wanted="new")
    assert (desk.state.candidate, desk.state.run) == ("new", 2)


def test_a_rejected_revision_comes_back_only_by_retry_with_new_evidence() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Failed)
    desk.look(1)
    desk.look(31)
    for _ in range(3):
        desk.look(1000)
    assert desk.state.phase is Phase.Idle
    desk.command(Verb.Retry, run=7)
    assert desk.state.phase is Phase.Idle
    assert desk.state.answer == "nothing to do in phase Idle, run 1"
    desk.command(Verb.Retry)
    assert (desk.state.run, desk.state.attempt, desk.state.ledger) == (1, 2, Ledger())
    assert desk.until(Phase.Analysing).look().effects[-1] == StartAnalysis(
        name="svc-new-1-0-2",
        run=1,
        step=0,
        attempt=2,
        candidate="new",
        baseline="old",
        weight=5,
        ledger=Ledger(),
    )


def test_a_clock_set_back_delays_nothing_for_long() -> None:
    desk = at(Phase.Soaking)
    desk.look(-86_400, found=None)
    desk.verdict(Verdict.Passed, 301)
    assert desk.state.phase is Phase.Draining


def test_the_soak_needs_both_its_time_and_a_verdict() -> None:
    desk = at(Phase.Soaking)
    desk.verdict(Verdict.Passed, 290)
    assert desk.state.phase is Phase.Soaking
    desk.look(100_000, found=None)
    assert desk.state.phase is Phase.Soaking
    desk.verdict(Verdict.Passed)
    assert desk.state.stable == "new"


def test_the_first_revision_has_no_steps() -> None:
    desk = Desk(state=Canary(), facts=Facts(now=1e6, wanted="new"))
    assert desk.look().effects == (Ensure(revision="new"), Scale(revision="new", replicas=4))
    assert desk.look().waits_for == "4 ready pods of new, 0 are"
    desk.look(1, pods={"new": Pods(spec=4, ready=3)})
    assert desk.state.stable == ""
    desk.look(1, pods={"new": Pods(spec=4, ready=4)})
    assert (desk.state.stable, desk.state.phase) == ("new", Phase.Idle)


def test_a_reason_is_one_line_that_a_status_can_keep() -> None:
    desk = at(Phase.Analysing)
    state = desk.state
    told = Found(
        run=state.run,
        step=state.step,
        attempt=state.attempt,
        verdict=Verdict.Failed,
        reason="a\n" + "b" * 5000,
    )
    desk.look(1, found=told)
    assert desk.state.reason == "a " + "b" * 507 + "..."
    assert len(desk.state.reason) == 512
