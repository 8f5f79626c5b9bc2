"""What a person sees, word for word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.errors import CliError
from cli.explain import explain
from cli.reading import Reading, read
from cli.status import good, history, line, status
from controllers.analysis.tally import Verdict
from controllers.rollout.canary import Canary, Phase, Pods, Route, Verb
from tests.cli.objects import analysis, others, pod, service
from tests.controllers.rollout.test_canary_desk import Desk, at


def reading(desk: Desk, *extra: dict[str, object], later: float = 5.0, **options: str) -> Reading:
    """What is seen of the desk's service, `later` seconds after its last pass."""
    return read(service(desk, **options), [*others(desk), *extra], desk.facts.now + later)


def shown(lines: list[str]) -> str:
    return "\n" + "\n".join(lines) + "\n"


def test_a_step_under_analysis() -> None:
    desk = at(Phase.Analysing)
    seen = reading(desk, analysis(desk))
    assert (
        shown(status(seen))
        == """
Service:    default/svc
Phase:      Analysing, step 1 of 3, run 1, attempt 1, for 5 s
Stable:     old  v1.0.0           95 %  4/4 ready
Candidate:  new  v1.1.0            5 %  4/4 ready
Steps:      [5] 50 100 %
Weight:     [##......................................] 5 %, verified by Envoy 25 s ago
Windows:    + +  2 of 3 in a row passed; open for 39 s, 1 looks
Evidence:   0.83 of 100 against the candidate
Last look:  m: 34 requests of the candidate, 50 are needed
               requests  errors   slow     p50    p95    p99
  m candidate        34   0.0 %  0.4 %  8.2 ms  14 ms  31 ms
  m baseline       1203   1.2 %  0.4 %  8.2 ms      -  31 ms
Waits for:  the analysis of this step, attempt 1
"""
    )
    assert explain(seen) == (
        "svc: run 1, Analysing at 5 % (step 1 of 3): waits for the analysis of this step, attempt 1; "
        "2 of 3 windows in a row passed, E 0.8 of 100; "
        "last look: m: 34 requests of the candidate, 50 are needed; next look in 21 s"
    )
    assert line(seen) == (
        "Analysing; step 1 of 3, weight 5 %; passes 2/3; candidate 34 requests, 0.0 % errors, p95 14 ms; "
        "baseline 1203 requests, 1.2 % errors, p95 -; waits for the analysis of this step, attempt 1"
    )


def test_a_window_that_has_just_begun_has_nothing_to_tell() -> None:
    desk = at(Phase.Analysing)
    seen = reading(desk, analysis(desk, models=[{"name": "m", "candidate": {}, "baseline": {}}]))
    assert line(seen) == (
        "Analysing; step 1 of 3, weight 5 %; passes 2/3; waits for the analysis of this step, attempt 1"
    )


def test_a_rolled_back_run() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Failed)
    desk.look(1)
    seen = reading(desk)
    assert (
        shown(status(seen))
        == """
Service:    default/svc
Phase:      Draining, step 1 of 3, run 1, attempt 1, for 5 s
Stable:     old  v1.0.0          100 %  4/4 ready
Draining:   new  v1.1.0     no traffic  4/4 ready
Ending:     AnalysisFailed: numbers
Waits for:  25 s for the last requests of new
"""
    )
    assert explain(seen) == (
        "svc: run 1, AnalysisFailed: numbers; draining new (v1.1.0): "
        "waits for 25 s for the last requests of new"
    )
    desk.look(40)
    seen = reading(desk)
    assert (
        shown(status(seen))
        == """
Service:    default/svc
Phase:      Idle
Stable:     old  v1.0.0          100 %  4/4 ready
Waits for:  a new revision, or the command retry: new was rejected (numbers)
Last run:   1, AnalysisFailed 45 s ago: numbers
"""
    )
    assert explain(seen) == (
        "svc: no canary runs; waits for a new revision, or the command retry: new was rejected (numbers)"
    )
    assert (
        shown(history(seen))
        == """
RUN   REVISION   VERSION   OUTCOME          STEP   TOOK        ENDED      WHY
1.1   new        v1.1.0    AnalysisFailed   1      1 min 1 s   45 s ago   numbers
"""
    )
    assert not good(seen)
    again = desk.command(Verb.Retry)
    assert again.state.active
    assert history(reading(desk, later=65))[-1].startswith("1.2   new        v1.1.0    ")


def test_a_promoted_run_at_rest() -> None:
    desk = at(Phase.Draining)
    desk.until(Phase.Idle)
    seen = reading(desk)
    assert explain(seen) == (
        "svc: no canary runs; new (v1.1.0) has all requests; run 1 ended 45 s ago: "
        "Promoted (every step has passed)"
    )
    assert good(seen)
    assert line(seen) == "Idle"


def test_a_pod_that_blocks_is_named() -> None:
    desk = at(Phase.Preparing)
    desk.look(1, pods={"old": Pods(spec=4, ready=4), "new": Pods(spec=1)})
    blocked = pod("svc-new-x", "new", ready=False, why="containers with unready status: [server]")
    old = pod("svc-old-x", "old", ready=False, why="not this one")
    seen = read(service(desk), [*others(desk)[:5], old, blocked], desk.facts.now)
    assert explain(seen) == (
        "svc: run 1, Preparing new (v1.1.0) at 0 %: waits for 1 ready pods of new, 0 are; "
        "pod svc-new-x is not ready: containers with unready status: [server]; "
        "rolled back in 9 min 59 s otherwise"
    )
    named = "1 ready pods of new, 0 are: pod svc-new-x cannot be scheduled: no room"
    seen = read(service(desk, message=named), [*others(desk)[:5], blocked], desk.facts.now)
    assert explain(seen) == (
        f"svc: run 1, Preparing new (v1.1.0) at 0 %: waits for {named}; rolled back in 9 min 59 s otherwise"
    )
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
    status_of_pod = {"containerStatuses": [{**waiting, "restartCount": 3}]}
    seen = read(service(desk), [*others(desk)[:5], {**blocked, "status": status_of_pod}], desk.facts.now)
    assert "pod svc-new-x CrashLoopBackOff after 3 restarts: back-off 10s;" in explain(seen)
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
    seen = read(service(desk), [*others(desk)[:5], {**blocked, "status": unscheduled}], desk.facts.now)
    assert "pod svc-new-x is not scheduled: Unschedulable;" in explain(seen)


def test_weights_that_are_not_verified_and_weights_that_settle() -> None:
    desk = at(Phase.Preparing)
    desk.look(1)
    desk.route = Route.Pending
    seen = reading(desk)
    assert explain(seen) == (
        "svc: run 1, Shifting at 5 % (step 1 of 3): waits for the traffic provider to verify old 95 %, "
        "new 5 %, asked for 5 s ago; rolled back in 4 min 55 s otherwise"
    )
    assert "asked for 5 s ago, not verified by Envoy yet" in shown(status(seen))
    assert "weight 5 % unverified" in line(seen)
    desk.route = Route.Verified
    desk.look()
    assert explain(reading(desk)) == (
        "svc: run 1, Shifting at 5 % (step 1 of 3): waits for 15 s after the weight was verified; 10 s to go"
    )


def test_a_person_who_paused_and_what_the_operator_answered() -> None:
    desk = at(Phase.Analysing)
    desk.command(Verb.Pause)
    seen = reading(desk)
    assert "Phase:      Paused (User), step 1 of 3" in shown(status(seen))
    assert "Command:    pause: done" in status(seen)
    assert explain(seen).endswith("waits for a person (paused by command): promote, resume or abort")


def test_an_inconclusive_run_shows_what_is_missing() -> None:
    desk = at(Phase.Analysing)
    desk.verdict(Verdict.Inconclusive)
    counts = {"windows": 3, "passes": 0, "undecided": 3, "blind": 0, "failed": False}
    seen = reading(desk, analysis(desk, counts=counts, nextLookTime=""))
    assert explain(seen).endswith(
        "0 of 3 windows in a row passed, 3 undecided in a row, E 0.8 of 100; "
        "last look: m: 34 requests of the candidate, 50 are needed"
    )


def test_an_analysis_of_another_attempt_is_not_shown() -> None:
    desk = at(Phase.Analysing)
    seen = reading(desk, analysis(desk, attempt=7))
    assert seen.analysis == {}
    assert explain(seen).endswith("; the analysis has not begun")


def test_the_operator_knows_more_and_its_numbers_are_older() -> None:
    desk = at(Phase.Soaking)
    decision = desk.look(1)
    assert "at 100 %" in decision.waits_for
    old = decision.waits_for
    assert reading(desk, message=old, later=60).waits != old
    assert reading(desk, message=old, later=60).waits.endswith("s at 100 %")
    said = f"canary new is Soaking, waiting for {old}"
    assert reading(desk, message=said, later=60).waits == reading(desk, message=old, later=60).waits
    hooked = "the hook smoke of step 2: 503"
    assert reading(desk, message=hooked).waits == hooked
    stale = reading(desk, message=hooked, reason="CanaryShifting")
    assert stale.waits != hooked


def test_at_rest_only_a_refusal_is_the_operators_to_tell() -> None:
    desk = at(Phase.Draining)
    desk.until(Phase.Idle)
    refused = "--prometheus is not set: no server could judge the run"
    assert reading(desk, message=refused, reason="CanaryRefused").waits == refused
    assert reading(desk, message="run 1: rolled back", reason="CanaryRolledBack").waits == ""


def test_a_service_without_any_canary() -> None:
    raw = service(Desk())
    raw["status"] = {"stableRevision": "old", "updatedRevision": "old"}
    seen = read(raw, [], 0.0, trouble="pods and analyses are not shown: forbidden")
    assert (
        explain(seen) == "svc: no canary runs; old has all requests; change the model's version to start one"
    )
    assert history(seen) == ["svc has had no canary yet"]
    assert status(seen)[-1] == "Note:       pods and analyses are not shown: forbidden"
    raw["status"] = {}
    assert "no revision is stable yet" in explain(read(raw, [], 0.0)) or "waits for" in explain(
        read(raw, [], 0.0)
    )


def test_a_status_that_cannot_be_read_is_one_line() -> None:
    raw = service(Desk())
    raw["status"] = {"canary": {"phase": "Flying"}}
    with pytest.raises(CliError, match=r"status.canary.phase cannot be read: 'Flying'"):
        read(raw, [], 0.0)


def test_history_shows_the_run_that_is_on() -> None:
    desk = at(Phase.Analysing)
    assert (
        shown(history(reading(desk)))
        == """
RUN   REVISION   VERSION   OUTCOME     STEP   TOOK        ENDED   WHY
1.1   new        v1.1.0    Analysing   1      1 min 5 s   -       the analysis of this step, attempt 1
"""
    )


def test_history_shows_a_run_that_rolls_back() -> None:
    desk = at(Phase.Analysing)
    desk.route = Route.Pending
    desk.verdict(Verdict.Failed)
    assert history(reading(desk))[-1].startswith("1.1   new        v1.1.0    RollingBack   1 ")


def test_every_phase_can_be_shown() -> None:
    for phase in Phase:
        desk = Desk() if phase is Phase.RollingBack else at(phase)
        if phase is Phase.RollingBack:
            desk = at(Phase.Analysing)
            desk.route = Route.Pending
            desk.verdict(Verdict.Failed)
        seen = reading(desk)
        assert len(explain(seen).splitlines()) == 1
        assert status(seen)
        assert line(seen)
    unknown = replace(Desk(), state=Canary())
    assert explain(reading(unknown, later=0))
