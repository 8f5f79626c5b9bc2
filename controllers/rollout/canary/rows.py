"""The canary's table: in which phase, on which event and guard, what happens. Pure.

Rows are tried from the top; the first one of the present phase whose guard holds is taken. Commands come
first, then what the traffic provider says, then what ends a run, then the phase's own way; what went well is
looked at before what is overdue, so that an operator that was away for long does not punish a candidate for
it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ...analysis.tally import Verdict
from . import changes, path
from .facts import Route, Verb, View
from .state import ACTIVE, Canary, Ending, Pause, Phase, Way

ALL: Final = tuple(Phase)
#: A candidate that may have traffic.
_LIVE: Final = (Phase.Shifting, Phase.Analysing, Phase.Paused, Phase.Promoting, Phase.Soaking)
_MOVING: Final = (Phase.Shifting, Phase.Promoting)
_JUDGED: Final = (Phase.Analysing, Phase.Soaking)


@dataclass(frozen=True, slots=True)
class Row:
    """guard and action are the words of the documentation; when and then are what runs. to: where it may
    lead; empty for the same phase.
    """

    phases: tuple[Phase, ...]
    event: str
    guard: str
    when: Callable[[View], bool]
    then: Callable[[View], Canary]
    action: str
    to: tuple[Phase, ...] = ()


def _commanded(verb: Verb, change: Callable[[View], Canary]) -> Callable[[View], Canary]:
    return lambda v: changes.answered(change(v), v, f"{verb}: done")


def _asks(verb: Verb) -> Callable[[View], bool]:
    return lambda v: v.asks(verb)


def _back(ending: Ending, reason: Callable[[View], str] | str) -> Callable[[View], Canary]:
    return lambda v: changes.roll_back(v, ending, reason if isinstance(reason, str) else reason(v))


def _pause(pause: Pause, reason: Callable[[View], str] | str) -> Callable[[View], Canary]:
    return lambda v: changes.paused(v, pause, reason if isinstance(reason, str) else reason(v))


def _ask(weights: Callable[[View], tuple[tuple[str, int], ...]]) -> Callable[[View], Canary]:
    """Ask for weights; the time to verify them starts now."""

    def change(v: View) -> Canary:
        now = v.facts.now
        deadline = now + v.plan.patience if v.state.phase in _MOVING else v.state.deadline
        return replace(v.state, traffic=v.state.traffic.ask(weights(v), now), deadline=deadline)

    return change


def _full(v: View) -> Canary:
    onward = View(replace(v.state, step=len(v.plan.steps)), v.plan, v.facts)
    return changes.shift(onward)


def _promoted(v: View) -> Canary:
    state = v.state
    return changes.finish(
        v,
        stable=state.candidate,
        retiring=state.stable,
        ending=Ending.Promoted,
        reason="every step has passed",
    )


def _rolled_back(v: View) -> Canary:
    state = v.state
    ending = state.ending or Ending.Aborted
    return changes.finish(
        v, stable=state.stable, retiring=state.candidate, ending=ending, reason=state.reason
    )


def _skip(v: View) -> Canary:
    """A person ends the step, if its weight was ever reached; else the way to it goes on."""
    return changes.advance(v) if v.at_weight and not v.last_step else changes.reenter(v)


def _passed(v: View) -> Canary:
    pause = v.plan.steps[v.state.step].pause
    if not pause:
        return changes.advance(v)
    found = v.facts.found
    kept = v.state if found is None else replace(v.state, ledger=found.ledger)
    kept_view = View(kept, v.plan, v.facts)
    return changes.paused(
        kept_view, Pause.Step, f"the step lasts {pause:g} s more", until=v.facts.now + pause
    )


def _adopt(v: View) -> Canary:
    wanted = v.facts.wanted
    state = replace(v.state, stable=wanted, since=v.facts.now)
    if v.plan.means != "Standing":
        return state  # there is no route that would have to know
    return replace(state, traffic=state.traffic.ask(((wanted, 100),), v.facts.now))


def _verified(v: View) -> Canary:
    return replace(v.state, traffic=v.state.traffic.verified(v.facts.now))


def _again(v: View) -> Canary:
    now = v.facts.now
    moving = v.state.phase in _MOVING and v.state.traffic.settled
    deadline = now + v.plan.patience if moving else v.state.deadline
    return replace(v.state, traffic=v.state.traffic.again(now), deadline=deadline)


def _drifted(v: View) -> Canary:
    return changes.reenter(View(_again(v), v.plan, v.facts))


def _down(v: View) -> bool:
    pods = v.candidate
    # Where pods are the weight, a weight that is not verified yet is one whose pods still start.
    has_traffic = v.state.traffic.most(v.state.candidate) > 0 and (v.plan.means != "Pods" or v.at_weight)
    return bool(pods.broken) or (has_traffic and pods.ready <= 0 and pods.unready_for >= v.plan.unready)


def _why_down(v: View) -> str:
    return v.candidate.broken or f"no ready pod for {v.candidate.unready_for:.0f} s"


def _reason(v: View) -> str:
    return v.facts.found.reason if v.facts.found else ""


def _route(v: View) -> str:
    return v.facts.report.message or "the traffic provider does not verify the weights"


def _overdue(v: View) -> bool:
    return bool(v.state.deadline) and v.facts.now >= v.state.deadline


def _can_ask(v: View) -> bool:
    return v.state.traffic.settled and v.state.traffic.weights != v.state.split(v.weight) and v.carried


def _can_step_back(v: View) -> bool:
    weight = changes.back_weight(v) if v.state.traffic.most(v.state.candidate) else None
    return weight is not None and v.state.split(weight) != v.state.traffic.weights


def _route_missing(v: View) -> bool:
    return v.state.traffic.in_flight or not v.led


def _at_rest(v: View) -> bool:
    """No run will begin: nothing else is wanted, or what is wanted was rejected."""
    return v.facts.wanted in ("", v.state.stable, *v.state.rejected)


def _settled_for(v: View, seconds: float) -> bool:
    seen = v.state.traffic.verified_at
    return v.at_weight and seen is not None and v.facts.now >= seen + seconds


def _can_end(v: View) -> bool:
    return v.at_weight and v.candidate.ready > 0


def _undecided(v: View) -> bool:
    waits = v.state.pause in (Pause.Inconclusive, Pause.MetricsUnavailable)
    return waits and v.plan.on_deadline == "Rollback" and v.facts.now >= v.state.since + v.plan.decide


P = Phase
ROWS: Final[tuple[Row, ...]] = (
    # the plan: all that follows reads the present steps
    Row(ACTIVE, "steps edited", "weights differ from the run's", lambda v: v.plan.weights != v.state.steps,
        changes.edited, "first step not below the weight in force", (P.Preparing, P.Shifting, P.Paused,
        P.Promoting, P.Soaking)),
    # commands
    Row(ACTIVE, "abort", "the command names this run", _asks(Verb.Abort),
        _commanded(Verb.Abort, _back(Ending.Aborted, "aborted by command")), "reject the candidate",
        (P.RollingBack,)),
    Row((P.Preparing, P.Shifting, P.Analysing, P.Paused), "promote-full", "the command names this run",
        _asks(Verb.PromoteFull), _commanded(Verb.PromoteFull, _full),
        "skip analysis, not readiness nor verification",
        (P.Promoting,)),
    Row((P.Soaking,), "promote, promote-full", "the command names this run; candidate ready",
        lambda v: (v.asks(Verb.Promote) or v.asks(Verb.PromoteFull)) and _can_end(v),
        _commanded(Verb.Promote, _promoted), "stable := candidate", (P.Draining,)),
    Row((P.Analysing, P.Paused), "promote", "the command names this run", _asks(Verb.Promote),
        _commanded(Verb.Promote, _skip), "end this step", (P.Preparing, P.Shifting, P.Promoting)),
    Row(ACTIVE, "pause", "the command names this run", _asks(Verb.Pause),
        _commanded(Verb.Pause, _pause(Pause.User, "paused by command")), "hold the weight", (P.Paused,)),
    Row((P.Paused,), "resume, retry", "the command names this run",
        lambda v: v.asks(Verb.Resume) or v.asks(Verb.Retry), _commanded(Verb.Resume, changes.reenter),
        "new attempt at the step", (P.Preparing, P.Shifting, P.Promoting)),
    Row((P.Idle,), "retry", "the command names the last run; wanted is rejected",
        lambda v: v.asks(Verb.Retry) and v.facts.wanted in v.state.rejected,
        _commanded(Verb.Retry, lambda v: changes.start(v, again=True)), "new attempt at the run",
        (P.Preparing,)),
    Row(ALL, "any other command", "not seen before", lambda v: v.fresh,
        lambda v: changes.answered(v.state, v, f"nothing to do in phase {v.state.phase}, run {v.state.run}"),
        "note that it does nothing"),
    # the traffic provider
    Row(ALL, "verified", "the report names the change in flight",
        lambda v: v.state.traffic.in_flight and v.route is Route.Verified, _verified, "weights are in force"),
    Row(_JUDGED, "drifted", "the report names the change in force",
        lambda v: v.state.traffic.settled and v.route is Route.Drifted, _drifted,
        "ask again; new attempt at the step", (P.Shifting, P.Promoting)),
    Row(ALL, "drifted", "the report names the change in force or in flight",
        lambda v: v.state.traffic.change > 0 and v.route is Route.Drifted, _again, "ask again"),
    # where clients are led
    Row((P.Preparing,), "route needed", "provider with routers; path Direct", path.needed, path.opened,
        "path Opening: ask the routers for 100 % stable"),
    Row((P.Preparing,), "route still there", "path Leaving; the route is verified",
        lambda v: v.state.path.way is Way.Leaving and v.state.traffic.settled, lambda v: v.on(Way.Entering),
        "path Entering: the Service selects the routers again"),
    Row(ALL, "routers have the route", "path Opening; 100 % stable verified",
        lambda v: v.state.path.way is Way.Opening and v.state.traffic.settled, lambda v: v.on(Way.Entering),
        "path Entering: the Service selects the routers"),
    Row(ALL, "clients follow", "path Entering or Leaving; all EndpointSlices lead there, or not any more",
        path.following, path.followed, "note when"),
    Row(ALL, "path routed", "path Entering; followed 15 s ago", lambda v: path.settled(v, Way.Entering),
        path.routed, "path Routed: candidates may have pods"),
    Row(ALL, "path direct", "path Leaving; followed 15 s ago", lambda v: path.settled(v, Way.Leaving),
        lambda v: v.on(Way.Closing), "path Closing: remove the route"),
    Row(ALL, "route removed", "path Closing; the provider has removed it",
        lambda v: v.state.path.way is Way.Closing and v.facts.removed, path.closed, "path Direct"),
    # what ends a run
    Row(_LIVE, "candidate down", "broken, or weight > 0 and no ready pod for 10 s", _down,
        _back(Ending.Unhealthy, _why_down), "reject the candidate", (P.RollingBack,)),
    Row((P.Preparing,), "candidate broken", "a pod cannot ever start", lambda v: bool(v.candidate.broken),
        _back(Ending.NotReady, _why_down), "reject the candidate", (P.RollingBack,)),
    Row(ACTIVE, "reverted", "wanted = stable", lambda v: v.facts.wanted == v.state.stable,
        _back(Ending.Reverted, "the spec went back to the stable revision"), "", (P.RollingBack,)),
    Row(ACTIVE, "superseded", "wanted is a third revision",
        lambda v: v.facts.wanted not in ("", v.state.stable, v.state.candidate),
        _back(Ending.Superseded, "the spec changed again"), "", (P.RollingBack,)),
    # the way
    Row((P.Idle,), "first revision", "no stable revision; all pods of wanted are ready",
        lambda v: not v.state.stable and bool(v.facts.wanted)
        and v.pods(v.facts.wanted).ready >= v.plan.replicas, _adopt,
        "stable := wanted, weight 100"),
    Row((P.Idle,), "new revision", "wanted is neither stable nor rejected",
        lambda v: bool(v.state.stable) and v.facts.wanted not in ("", v.state.stable, *v.state.rejected),
        changes.start, "new run", (P.Preparing,)),
    Row((P.Preparing, P.Promoting), "route unknown", "no weights are asked for",
        lambda v: not v.state.traffic.weights and v.plan.means != "Switched",
        _ask(lambda v: v.state.alone), "ask for 100 % stable"),
    Row((P.Preparing,), "candidate ready",
        "route verified, path Routed; ready pods >= need of the first step; readiness path answers",
        lambda v: v.state.traffic.settled and v.led and v.carried,
        lambda v: changes.enter(v, P.Shifting, deadline=v.plan.prepare), "", (P.Shifting,)),
    Row((P.Preparing,), "provider gone", "route not verified, or path not Routed, for 600 s",
        lambda v: _route_missing(v) and _overdue(v),
        _pause(Pause.TrafficProvider, lambda v: path.waits_for(v) or _route(v)), "hold",
        (P.Paused,)),
    Row((P.Preparing,), "overdue", "not ready for 600 s", _overdue,
        _back(Ending.NotReady, lambda v: f"at the deadline {v.missing}"),
        "reject the candidate", (P.RollingBack,)),
    Row(_MOVING, "ready for the weight",
        "no change in flight; ready pods >= need of the step; readiness path answers", _can_ask,
        _ask(lambda v: v.state.split(v.weight)), "ask for the step's weight"),
    Row((P.Shifting,), "settled", "weight verified 15 s ago", lambda v: _settled_for(v, v.plan.settle),
        lambda v: changes.enter(v, P.Analysing), "start the analysis", (P.Analysing,)),
    Row((P.Promoting,), "settled", "weight 100 verified", lambda v: _settled_for(v, 0),
        lambda v: replace(changes.enter(v, P.Soaking), until=v.facts.now + v.plan.stable_for),
        "start the last analysis", (P.Soaking,)),
    Row(_MOVING, "refused", "the provider refused the change in flight",
        lambda v: v.state.traffic.in_flight and v.route is Route.Refused, _back(Ending.TrafficRefused,
        _route),
        "reject the candidate", (P.RollingBack,)),
    Row(_MOVING, "provider gone", "change in flight; provider cannot be reached for 300 s",
        lambda v: v.state.traffic.in_flight and v.route is Route.Unreachable and _overdue(v),
        _pause(Pause.TrafficProvider, _route), "hold", (P.Paused,)),
    Row(_MOVING, "overdue", "change in flight for 300 s", lambda v: v.state.traffic.in_flight and _overdue(v),
        _back(Ending.TrafficNotVerified, _route), "reject the candidate", (P.RollingBack,)),
    Row(_MOVING, "overdue", "not ready for 600 s", lambda v: not v.at_weight and _overdue(v),
        _back(Ending.NotReady, lambda v: f"at the deadline {v.missing}"),
        "reject the candidate", (P.RollingBack,)),
    Row(_JUDGED, "failed", "verdict of this run, step and attempt", lambda v: v.verdict is Verdict.Failed,
        _back(Ending.AnalysisFailed, _reason), "reject the candidate", (P.RollingBack,)),
    Row((P.Analysing,), "passed", "verdict of this run, step and attempt; no hook holds",
        lambda v: v.verdict is Verdict.Passed and not v.facts.hold, _passed, "keep the evidence",
        (P.Shifting, P.Promoting, P.Paused)),
    Row((P.Soaking,), "stable", "300 s over; verdict passed; candidate ready; no hook holds",
        lambda v: v.facts.now >= v.state.until and _can_end(v) and not v.facts.hold
        and (v.verdict is Verdict.Passed or v.plan.stable_for <= 0), _promoted, "stable := candidate",
        (P.Draining,)),
    Row(_JUDGED, "no data", "verdict Unavailable; onNoData Rollback",
        lambda v: v.verdict is Verdict.Unavailable and v.plan.on_no_data == "Rollback",
        _back(Ending.NoData, _reason), "reject the candidate", (P.RollingBack,)),
    Row(_JUDGED, "no data", "verdict Unavailable; Prometheus does not answer",
        lambda v: v.verdict is Verdict.Unavailable and not v.facts.metrics, _pause(Pause.MetricsUnavailable,
        _reason),
        "hold", (P.Paused,)),
    Row(_JUDGED, "inconclusive", "verdict Inconclusive, or Unavailable while Prometheus answers",
        lambda v: v.verdict in (Verdict.Inconclusive, Verdict.Unavailable), _pause(Pause.Inconclusive,
        _reason),
        "hold", (P.Paused,)),
    Row((P.Paused,), "step over", "pause Step; its seconds are over",
        lambda v: v.state.pause is Pause.Step and v.facts.now >= v.state.until and not v.facts.hold
        and v.at_weight, changes.advance, "", (P.Shifting, P.Promoting)),
    Row((P.Paused,), "metrics back", "pause MetricsUnavailable; Prometheus answers",
        lambda v: v.state.pause is Pause.MetricsUnavailable and v.facts.metrics, changes.reenter,
        "new attempt at the step", (P.Shifting, P.Promoting)),
    Row((P.Paused,), "provider back", "pause TrafficProvider; nothing in flight",
        lambda v: v.state.pause is Pause.TrafficProvider and not _route_missing(v), changes.reenter,
        "new attempt at the step", (P.Preparing, P.Shifting, P.Promoting)),
    Row((P.Paused,), "undecided", "Inconclusive or MetricsUnavailable for 30 min; onDeadline Rollback",
        _undecided,
        _back(Ending.NotDecided, lambda v: v.state.reason), "reject the candidate", (P.RollingBack,)),
    Row((P.RollingBack,), "stable can take it", "its ready pods carry more", _can_step_back,
        _ask(lambda v: v.state.split(changes.back_weight(v) or 0)),
        "ask for weight 0, or as low as stable can carry"),
    Row((P.RollingBack,), "candidate without traffic", "weight 0 verified, or never above 0",
        lambda v: v.state.traffic.most(v.state.candidate) == 0, _rolled_back, "history", (P.Draining,)),
    Row((P.Draining,), "route not needed", "path Opening: no client was led to the routers yet",
        lambda v: v.state.path.way is Way.Opening, path.left, "path Closing: remove the route"),
    Row((P.Draining,), "drained", "30 s over; weight 0 verified; nothing in flight",
        lambda v: v.facts.now >= v.state.since + v.plan.drain and v.state.traffic.most(v.state.retiring) == 0
        and not v.state.traffic.in_flight,
        lambda v: replace(changes.enter(v, P.Idle), retiring=""), "scale it to 0", (P.Idle,)),
    Row((P.Idle,), "route not needed", "path not Direct; no run is to come; only stable has pods",
        lambda v: _at_rest(v) and path.unneeded(v), path.left,
        "path Leaving: the Service selects the pods"),
)  # fmt: skip
