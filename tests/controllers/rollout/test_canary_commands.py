"""What persons and doubts do to a run: commands, pauses, policies, edits of the plan."""

from dataclasses import replace

import pytest

from controllers.analysis.tally import Verdict
from controllers.rollout.canary import (
    Command,
    Ending,
    Found,
    Pause,
    Phase,
    Pods,
    Promote,
    Route,
    SetWeight,
    Step,
    Verb,
    command,
)

from .test_canary_desk import PLAN, at


@pytest.mark.parametrize(
    ("verdict", "metrics", "pause"),
    [
        (Verdict.Inconclusive, True, Pause.Inconclusive),
        (Verdict.Unavailable, True, Pause.Inconclusive),
        (Verdict.Unavailable, False, Pause.MetricsUnavailable),
    ],
)
@pytest.mark.parametrize("phase", [Phase.Analysing, Phase.Soaking])
def test_doubt_pauses_and_waits(verdict: Verdict, metrics: bool, pause: Pause, phase: Phase) -> None:
    desk = at(phase)
    weights = desk.state.traffic.weights
    desk.verdict(verdict, metrics=metrics)
    decision = desk.look(100_000)
    assert (desk.state.phase, desk.state.pause) == (Phase.Paused, pause)
    assert desk.state.traffic.weights == weights
    assert decision.waits_for.startswith("a person" if pause is Pause.Inconclusive else "Prometheus")
    desk.look(1, metrics=True)
    assert (desk.state.phase is Phase.Paused) == (pause is Pause.Inconclusive)


def test_policies_roll_back_instead() -> None:
    desk = at(Phase.Analysing, plan=replace(PLAN, on_no_data="Rollback"))
    desk.verdict(Verdict.Unavailable)
    assert desk.state.ending is Ending.NoData
    desk = at(Phase.Analysing, plan=replace(PLAN, on_deadline="Rollback"))
    decision = desk.verdict(Verdict.Inconclusive)
    assert decision.look_again == 1800
    desk.look(1800)
    assert desk.state.ending is Ending.NotDecided


def test_a_hook_holds_a_step_and_says_so() -> None:
    desk = at(Phase.Analysing)
    decision = desk.verdict(Verdict.Passed, hold="hook approve answers 403")
    assert decision.waits_for == "hook approve answers 403"
    desk.verdict(Verdict.Passed, hold="")
    assert desk.state.step == 1


@pytest.mark.parametrize(
    "phase", [Phase.Preparing, Phase.Shifting, Phase.Analysing, Phase.Promoting, Phase.Soaking]
)
def test_pause_and_resume_at_any_time(phase: Phase) -> None:
    desk = at(phase)
    share = desk.state.traffic.share("new")
    desk.command(Verb.Pause)
    assert "a person (paused by command)" in desk.look(10_000).waits_for
    assert desk.state.traffic.share("new") == share
    desk.command(Verb.Resume)
    assert desk.state.active
    desk.until(Phase.Idle)
    assert desk.state.stable == "new"


@pytest.mark.parametrize(
    "phase", [Phase.Preparing, Phase.Shifting, Phase.Analysing, Phase.Paused, Phase.Promoting, Phase.Soaking]
)
def test_abort_at_any_time(phase: Phase) -> None:
    desk = at(phase)
    desk.command(Verb.Abort)
    desk.until(Phase.Idle)
    assert desk.state.stable == "old"
    assert desk.state.rejected == ("new",)
    assert desk.state.history[-1].ending is Ending.Aborted


def test_promote_ends_one_step_and_promote_full_all_of_them() -> None:
    desk = at(Phase.Analysing)
    desk.facts = replace(desk.facts, found=None)
    desk.command(Verb.Promote)
    assert (desk.state.phase, desk.state.step) == (Phase.Shifting, 1)
    desk = at(Phase.Preparing)
    desk.facts = replace(desk.facts, pods={**desk.facts.pods, "new": Pods(spec=1, ready=1)}, found=None)
    desk.command(Verb.PromoteFull)
    assert desk.look(1).waits_for == "4 ready pods of new, 1 are"
    desk.look(1, pods={**desk.facts.pods, "new": Pods(spec=4, ready=4)})
    assert desk.state.traffic.share("new") == 100
    desk.look(1)
    assert desk.state.phase is Phase.Soaking
    desk.command(Verb.PromoteFull)
    assert desk.state.stable == "new"
    assert Promote(stable="new") in desk.look().effects


def test_a_command_is_done_once_and_only_for_its_run() -> None:
    desk = at(Phase.Analysing)
    desk.command(Verb.Abort, run=99)
    assert desk.state.phase is Phase.Analysing
    desk.command(Verb.Pause)
    before = desk.state
    desk.look(1)
    assert desk.state == before


@pytest.mark.parametrize(
    ("steps", "step"),
    [((3, 5, 50), 1), ((5, 60), 0), ((1, 2), 1), ((50,), 0)],
)
def test_edited_steps_go_on_at_the_first_one_not_below_the_weight(steps: tuple[int, ...], step: int) -> None:
    desk = at(Phase.Analysing)
    desk.plan = replace(PLAN, steps=tuple(Step(weight) for weight in steps))
    desk.look(1, found=None)
    assert (desk.state.step, desk.state.attempt) == (step, 2)


def test_edited_steps_end_a_pause_but_not_a_persons() -> None:
    shorter = replace(PLAN, steps=(Step(5), Step(60)))
    desk = at(Phase.Paused)
    assert desk.state.pause is Pause.Step
    desk.plan = shorter
    desk.look(1, found=None)
    assert (desk.state.phase, desk.state.step) == (Phase.Shifting, 1)
    desk = at(Phase.Analysing)
    desk.command(Verb.Pause)
    desk.plan = shorter
    desk.look(1, found=None)
    assert (desk.state.phase, desk.state.steps) == (Phase.Paused, (5, 60))


def test_no_verdict_of_the_old_steps_fits_the_new_ones() -> None:
    desk = at(Phase.Soaking, plan=replace(PLAN, steps=(Step(5), Step(50), Step(100))))
    assert (desk.state.step, desk.state.attempt) == (3, 1)
    desk.plan = PLAN
    desk.look(1, found=Found(run=1, step=2, attempt=1, verdict=Verdict.Failed))
    assert (desk.state.phase, desk.state.step, desk.state.attempt) == (Phase.Soaking, 2, 2)


def test_a_route_that_somebody_changed_is_written_again_and_the_step_begins_anew() -> None:
    desk = at(Phase.Analysing)
    desk.route = Route.Drifted
    decision = desk.look(1, found=None)
    assert (desk.state.phase, desk.state.attempt) == (Phase.Shifting, 2)
    assert SetWeight(weights=(("old", 95), ("new", 5)), change=3) in decision.effects
    assert desk.state.traffic.most("new") == 100


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("promote/3/abc", Command(Verb.Promote, 3, "abc")),
        (" promote-full/12/x ", Command(Verb.PromoteFull, 12, "x")),
        ("", None),
        ("promote", None),
        ("destroy/3/abc", None),
        ("abort/x/abc", None),
        ("abort/٣/abc", None),
        ("abort/3/", None),
        ("abort/3/" + "x" * 65, None),
        ("abort/1234567890/x", None),
    ],
)
def test_commands_as_text(text: str, found: Command | None) -> None:
    assert command(text) == found
