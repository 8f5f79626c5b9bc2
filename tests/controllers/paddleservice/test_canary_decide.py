"""What a canary's pass decides and tells, from every side, without a server."""

from dataclasses import replace
from datetime import timedelta

import pytest

import controller_runtime as ctrl
from controllers.analysis.tally import Verdict
from controllers.canaryanalysis.spec import Model
from controllers.kinds import CANARY_ANALYSIS
from controllers.paddleservice.decide import Decision, decide
from controllers.paddleservice.effects import Create, Merge, Scale, Shift
from controllers.paddleservice.observed import Observed, Refusal, Revision, Watched
from controllers.paddleservice.plan import analysed, plan, provider
from controllers.reasons import Reason
from controllers.resources.desired import Settings, Strategy
from controllers.rollout.canary import (
    Canary,
    Command,
    Endpoints,
    Found,
    Path,
    Pause,
    Phase,
    Plan,
    Report,
    Route,
    Step,
    Traffic,
    Verb,
    Way,
    to_wire,
)
from controllers.traffic import Backend

from .builders import NOW, desired, observed, pod, revision

OLD, NEW = desired("v1.0.0"), desired("v1.1.0")
BACKEND = Backend(selector={"app": "routers"}, http=20000, grpc=20001)
SETTINGS = Settings(replicas=2, strategy=Strategy(type="Canary"), canary={"weight": 50})


def stable(**more: object) -> Revision:
    return revision(OLD, replicas=2, ready=2, promoted="2026-05-01T00:00:00Z", **more)  # type: ignore[arg-type]


def candidate(**more: object) -> Revision:
    return revision(NEW, **{"replicas": 1, "ready": 1, **more})  # type: ignore[arg-type]


def running(phase: Phase, *, weight: int = 50, verified: bool = True, **more: object) -> Observed:
    """A service in the middle of its first run."""
    old, new = stable(), candidate()
    pods = (pod(old, 1, ready=True), pod(old, 2, ready=True), pod(new, 3, ready=True))
    now = NOW.timestamp() - 60
    weights = ((old.hash, 100 - weight), (new.hash, weight)) if weight else ((old.hash, 100),)
    state = Canary(
        phase=phase,
        stable=old.hash,
        candidate=new.hash,
        run=1,
        attempt=1,
        steps=(50,),
        peak=50,
        since=now,
        path=Path(way=Way.Routed, since=now),
        traffic=Traffic(
            weights=weights, change=3, asked_at=now, verified_at=now if verified else None, possible=weights
        ),
    )
    status = {
        "phase": "Ready",
        "observedGeneration": 1,
        "stableRevision": old.hash,
        "canary": to_wire(replace(state, **{k: v for k, v in more.items() if hasattr(state, k)})),  # type: ignore
        "traffic": {"provider": "Envoy", "change": 3, "port": 20000, "stable": {"revision": old.hash}},
    }
    watched = Watched(
        endpoints=Endpoints.Routers,
        backend=BACKEND,
        port=20000,
        report=Report(change=3, route=Route.Verified),
    )
    rest = {key: value for key, value in more.items() if not hasattr(state, key)}
    base = observed(NEW, old, new, pods=pods, settings=SETTINGS, status=status, watched=watched)
    return replace(base, **rest)  # type: ignore[arg-type]


def told(decision: Decision, kind: str) -> tuple[str, str, str]:
    assert decision.report is not None
    found = next(item for item in decision.report.conditions if item.type == kind)
    return found.status, str(found.reason), found.message


def test_the_short_form_has_defaults_for_all_else() -> None:
    short = {
        "weight": 5,
        "analysis": {"interval": 60, "successCondition": "status.metrics.latency.p95 < 200"},
    }
    course = plan(Settings(replicas=4, canary=short), "Envoy")
    assert course == Plan(steps=(Step(5),), replicas=4, means="Switched", stable_for=300)
    assert plan(Settings(), "Replicas") == Plan(steps=(Step(5),), replicas=1, means="Pods", stable_for=300)
    full = {
        "steps": [{"weight": 10, "pauseSeconds": 30}, {"weight": 50}],
        "stableForSeconds": 0,
        "analysis": {"onNoData": "Rollback", "onDeadline": "Rollback"},
    }
    course = plan(Settings(replicas=0, canary=full), "Envoy")
    assert course.steps == (Step(10, 30.0), Step(50))
    assert (course.replicas, course.stable_for) == (1, 0)
    assert (course.on_no_data, course.on_deadline) == ("Rollback", "Rollback")


def test_a_run_ends_with_the_provider_that_it_began_with() -> None:
    wanted = Settings(traffic={"provider": "Replicas"})
    status = {"traffic": {"provider": "Envoy"}}
    assert provider(wanted, status, at_rest=False) == "Envoy"
    assert provider(wanted, status, at_rest=True) == "Replicas"
    assert provider(Settings(), {}, at_rest=True) == "Envoy"


def test_slow_requests_are_compared_only_where_both_promise_the_same() -> None:
    old = revision(desired("v1", "a", "b", latency_sla=100))
    new = revision(desired("v2", "a", latency_sla=100))
    assert analysed(new, old) == (Model(name="a", sla=100),)
    other = revision(desired("v2", "a", "c", latency_sla=200))
    assert analysed(other, old) == (Model(name="a"), Model(name="c", sla=200, new=True))
    assert analysed(new, None) == (Model(name="a", sla=100, new=True),)


def test_the_analysis_begins_when_the_weight_has_settled() -> None:
    decision = decide(running(Phase.Shifting), NOW)
    (made,) = (
        e.object.body for e in decision.effects if isinstance(e, Create) and e.object.kind is CANARY_ANALYSIS
    )
    assert made["metadata"]["name"] == f"svc-{candidate().hash}-1-0-1"  # type: ignore[index]
    assert made["spec"]["windowStart"] == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")  # type: ignore[index]
    assert decision.status is not None
    assert decision.status["display"] == {"ready": "2/2", "canary": "50% 1/2"}
    assert told(decision, "Progressing")[:2] == ("True", "CanaryAnalysing")
    assert told(decision, "TrafficVerified")[0] == "True"


def test_the_operator_says_how_long_a_weight_settles() -> None:
    seen = running(Phase.Shifting)
    decision = decide(replace(seen, watched=replace(seen.watched, settle=3600.0)), NOW)
    assert decision.run is not None
    assert decision.run.state.phase is Phase.Shifting


def test_the_soak_is_judged_for_all_of_its_time() -> None:
    seen = running(Phase.Soaking, weight=100, step=1, peak=100, until=NOW.timestamp() + 60)
    made = [e.object.body for e in decide(seen, NOW).effects if isinstance(e, Create)]
    (soak,) = (body["spec"] for body in made if body["kind"] == "CanaryAnalysis")
    assert soak["minimumSeconds"] == 300  # type: ignore[index]


def test_an_analysis_that_is_there_is_not_made_again() -> None:
    seen, made = running(Phase.Analysing), f"svc-{candidate().hash}-1-0-1"
    decision = decide(replace(seen, watched=replace(seen.watched, judged=made)), NOW)
    assert decision.effects == () or all(
        not isinstance(e, Create) or e.object.kind is not CANARY_ANALYSIS for e in decision.effects
    )
    assert told(decision, "AnalysisAvailable")[0] == "True"
    blind = replace(
        seen.watched, judged=made, metrics=False, blindness="EndpointUnreachable", heard="no answer"
    )
    assert told(decide(replace(seen, watched=blind), NOW), "AnalysisAvailable") == (
        "False",
        "EndpointUnreachable",
        "no answer",
    )


def test_a_step_that_is_resumed_at_once_gets_an_analysis_of_its_own() -> None:
    """From the pause to the next attempt in one pass, which has seen the analysis of the one before."""
    old = candidate().hash
    seen = running(Phase.Paused, pause=Pause.Inconclusive)
    watched = replace(
        seen.watched, judged=f"svc-{old}-1-0-1", command=Command(Verb.Resume, 1, "t"), metrics=True
    )
    decision = decide(replace(seen, watched=watched), NOW)
    assert decision.run is not None
    assert (decision.run.state.phase, decision.run.state.attempt) == (Phase.Analysing, 2)
    made = [e.object.body for e in decision.effects if isinstance(e, Create)]
    (analysis,) = (body for body in made if body["kind"] == "CanaryAnalysis")
    assert analysis["metadata"]["name"] == f"svc-{old}-1-0-2"  # type: ignore[index]
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 0.1


def test_a_weight_is_stamped_before_it_is_asked_for() -> None:
    seen = running(Phase.Shifting, weight=0)
    decision = decide(seen, NOW)
    stamp = next(
        i
        for i, e in enumerate(decision.effects)
        if isinstance(e, Merge) and e.kind is ctrl.DEPLOYMENT and "traffic-change" in str(e.fields)
    )
    shift = next(i for i, e in enumerate(decision.effects) if isinstance(e, Shift))
    assert stamp < shift
    split = decision.effects[shift].split  # type: ignore[union-attr]
    assert (split.change, split.weight, split.port, split.stable.versions) == (4, 50, 20000, ("v1.0.0",))
    assert decision.status is not None
    assert decision.status["traffic"]["change"] == 4  # type: ignore[index]
    assert told(decision, "TrafficVerified")[:2] == ("False", "TrafficPending")


def test_a_deployment_with_a_later_stamp_is_not_scaled() -> None:
    seen = running(Phase.Soaking, weight=100, step=1, peak=100, until=NOW.timestamp() + 60)
    old, new = seen.revisions
    few = replace(new, replicas=1, ready=1)
    scaled = [e for e in decide(replace(seen, revisions=(old, few)), NOW).effects if isinstance(e, Scale)]
    assert scaled == [Scale(ctrl.Key("default", new.name), 2, "1")]
    later = replace(seen, revisions=(old, replace(few, change=99)))
    assert [e for e in decide(later, NOW).effects if isinstance(e, Scale)] == []


@pytest.mark.parametrize("restarts", [2, 3])
def test_a_candidate_that_keeps_crashing_is_sent_back_without_prometheus(restarts: int) -> None:
    seen = running(Phase.Analysing)
    ended = {"exitCode": 1, "reason": "Error", "message": "boom"}
    container = {
        "name": "server",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    ill = replace(
        seen.pods[2], ready=False, unready_since=NOW, raw={"status": {"containerStatuses": [container]}}
    )
    decision = decide(replace(seen, pods=(*seen.pods[:2], ill)), NOW)
    assert decision.run is not None
    assert decision.run.state.phase is (Phase.RollingBack if restarts == 3 else Phase.Analysing)
    if restarts == 3:
        assert told(decision, "Degraded")[:2] == ("True", "CanaryRolledBack")
        assert "exit code 1" in told(decision, "Degraded")[2]


def test_a_candidate_without_a_ready_pod_is_waited_for_ten_seconds() -> None:
    seen = running(Phase.Analysing)
    for seconds, phase in ((4, Phase.Analysing), (11, Phase.RollingBack)):
        gone = replace(seen.pods[2], ready=False, unready_since=NOW - timedelta(seconds=seconds))
        decision = decide(replace(seen, pods=(*seen.pods[:2], gone)), NOW)
        assert decision.run is not None
        assert decision.run.state.phase is phase
    assert decide(replace(seen, pods=seen.pods[:2]), NOW).run.state.phase is Phase.Analysing  # type: ignore[union-attr]
    lost = replace(seen.revisions[1], unavailable_since=NOW - timedelta(seconds=11))
    decision = decide(replace(seen, pods=seen.pods[:2], revisions=(seen.revisions[0], lost)), NOW)
    assert decision.run is not None
    assert decision.run.state.phase is Phase.RollingBack


def test_what_is_refused_to_a_candidate_leaves_the_service_ready() -> None:
    seen = running(Phase.Preparing, weight=0)
    words = "the API server refuses Deployment svc-x: exceeded quota"
    decision = decide(replace(seen, refusal=Refusal(Reason.PodRefused, words)), NOW)
    assert decision.report is not None
    assert decision.report.phase == "Ready"
    assert told(decision, "Degraded") == ("True", "PodRefused", words)


def test_seconds_that_pass_are_no_news() -> None:
    seen = running(Phase.Soaking, weight=100, step=1, peak=100, until=NOW.timestamp() + 60)
    first = decide(seen, NOW)
    assert first.status is not None
    after = replace(seen, status=first.status, written=NOW)
    again = decide(after, NOW + timedelta(seconds=20))
    assert again.status is None
    assert again.requeue_after is not None
    assert again.requeue_after > 30


def test_a_command_is_answered_once() -> None:
    seen = running(Phase.Analysing)
    asked = replace(seen, watched=replace(seen.watched, command=Command(Verb.Abort, 1, "t")))
    decision = decide(asked, NOW)
    assert decision.status is not None
    assert [note.message for note in decision.notes if note.reason is Reason.CanaryCommand] == [
        "abort: done (run 1)"
    ]
    again = decide(replace(asked, status=decision.status), NOW)
    assert [note for note in again.notes if note.reason is Reason.CanaryCommand] == []


def test_a_verdict_moves_the_run_and_is_told() -> None:
    seen = running(Phase.Analysing)
    verdict = Found(run=1, step=0, attempt=1, verdict=Verdict.Failed, reason="m: error rate 5 of 60")
    decision = decide(replace(seen, watched=replace(seen.watched, found=verdict, judged="svc")), NOW)
    assert decision.run is not None
    assert decision.run.state.phase is Phase.RollingBack
    assert decision.report is not None
    assert "AnalysisFailed: m: error rate 5 of 60" in decision.report.message
    (note,) = (note for note in decision.notes if note.reason is Reason.CanaryRollingBack)
    assert note.warning
    assert decision.status is not None
    assert decision.status["display"] == {"ready": "2/2", "canary": "rolling back 50%"}
