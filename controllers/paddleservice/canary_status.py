"""How a canary shows in the status: conditions, a line, the column CANARY, what the next pass reads. Pure."""

from collections.abc import Mapping
from typing import Final

from ..conditions import Condition, Status, Type, find
from ..reasons import Reason
from ..resources.wire import JSON, pruned, text
from ..rollout.canary import Canary, Ending, Pause, Phase, Route, to_wire
from ..rollout.canary.state import BLAMELESS
from ..traffic import to_wire as split_to_wire
from . import routes
from .canary import effective
from .observed import Observed
from .rollout import Canarying, Rollout

_PHASES: Final[Mapping[Phase, Reason]] = {
    Phase.Preparing: Reason.CanaryPreparing,
    Phase.Shifting: Reason.CanaryShifting,
    Phase.Analysing: Reason.CanaryAnalysing,
    Phase.Paused: Reason.CanaryPaused,
    Phase.Promoting: Reason.CanaryPromoting,
    Phase.Soaking: Reason.CanarySoaking,
    Phase.RollingBack: Reason.CanaryRollingBack,
    Phase.Draining: Reason.CanaryDraining,
}
_ROUTES: Final[Mapping[Route, Reason]] = {
    Route.Pending: Reason.TrafficPending,
    Route.Refused: Reason.TrafficRefused,
    Route.Unreachable: Reason.TrafficUnreachable,
    Route.Drifted: Reason.TrafficDrifted,
}


def phase_reason(phase: Phase) -> Reason:
    """The word for a phase other than Idle."""
    return _PHASES[phase]


def weight(state: Canary) -> int:
    """The candidate's share: what may be in force, if it was not verified yet."""
    traffic = state.traffic
    return traffic.share(state.candidate) if traffic.settled else traffic.most(state.candidate)


def display(run: Canarying | None) -> str:
    """For the column CANARY: "20% 2/4", with the soak as the last step."""
    if run is None or run.state.phase is Phase.Idle:
        return ""
    state = run.state
    if state.phase is Phase.RollingBack:
        return f"rolling back {weight(state)}%"
    if state.phase is Phase.Draining:
        return "100%" if state.ending is Ending.Promoted else "0%"
    paused = " paused" if state.phase is Phase.Paused else ""
    return f"{weight(state)}% {min(state.step, len(state.steps)) + 1}/{len(state.steps) + 1}{paused}"


def rejected(rollout: Rollout) -> str:
    """Why the wanted revision was rolled back, in one line; "" if it was not."""
    run = rollout.canary
    if run is None or rollout.hash not in run.state.rejected:
        return ""
    for past in reversed(run.state.history):
        if past.candidate == rollout.hash:
            why = f"{past.ending}: {past.reason}" if past.reason else str(past.ending)
            return f"run {past.run}: revision {past.candidate} was rolled back ({why})"
    return f"revision {rollout.hash} was rolled back"


def line(rollout: Rollout) -> str:
    """What a run is at and whom it waits for; "" at rest."""
    run = rollout.canary
    if run is None:
        return ""
    state = run.state
    if state.phase is Phase.Idle:
        if rejected(rollout):
            return rejected(rollout)
        return run.problem or run.decision.waits_for if rollout.stable else ""
    name = state.candidate or (state.stable if state.ending is Ending.Promoted else state.retiring)
    waits = run.decision.waits_for
    why = f" ({state.ending}: {state.reason})" if state.ending not in (None, Ending.Promoted) else ""
    return f"canary {name} is {state.phase}{why}" + (f", waiting for {waits}" if waits else "")


def progressing(rollout: Rollout) -> Condition | None:
    """The condition while a run is on, or when what is wanted was refused; None for the usual one."""
    run = rollout.canary
    if run is None or not rollout.stable:
        return None
    if run.state.phase is not Phase.Idle:
        return Condition(Type.Progressing, "True", _PHASES[run.state.phase], line(rollout))
    if rejected(rollout):
        return Condition(Type.Progressing, "False", Reason.CanaryRolledBack, rejected(rollout))
    if run.problem and rollout.hash != rollout.stable:
        return Condition(Type.Progressing, "False", Reason.CanaryRefused, run.problem)
    return None


def reconciling(rollout: Rollout) -> Condition | None:
    """While a run is on: to kstatus and Argo CD the service is on its way, whatever its phase."""
    run = rollout.canary
    if run is None or not rollout.stable or run.state.phase is Phase.Idle:
        return None
    return Condition(Type.Reconciling, "True", _PHASES[run.state.phase], line(rollout))


def degraded(rollout: Rollout) -> Condition | None:
    """After a roll-back, as long as what was rolled back is still wanted; and while there is one."""
    run = rollout.canary
    if run is None:
        return None
    state = run.state
    if state.phase is Phase.RollingBack and state.ending not in BLAMELESS:
        words = f"run {state.run}: revision {state.candidate} is rolled back ({state.ending}: {state.reason})"
        return Condition(Type.Degraded, "True", Reason.CanaryRolledBack, words)
    if rejected(rollout):
        return Condition(Type.Degraded, "True", Reason.CanaryRolledBack, rejected(rollout))
    if run.problem and rollout.hash != rollout.stable:
        return Condition(Type.Degraded, "True", Reason.CanaryRefused, run.problem)
    return None


def conditions(observed: Observed, rollout: Rollout) -> list[Condition]:
    """TrafficVerified while there is a route; AnalysisAvailable once a run was analysed."""
    run = rollout.canary
    if run is None:
        return []
    found: list[Condition] = []
    traffic = run.state.traffic
    if (home := routes.condition(observed, run)) is not None:
        found.append(home)
    elif run.split is not None and not run.state.at_rest:
        report = observed.watched.report
        shares = ", ".join(f"{name} {share} %" for name, share in traffic.weights)
        real = effective(rollout, observed)
        if real is not None and run.split.candidate is not None:
            shares += f" (in force: {real:g} % of {run.split.candidate.hash})"
        if traffic.settled and not routes.doubted(observed, run):
            found.append(Condition(Type.TrafficVerified, "True", Reason.TrafficVerified, shares))
        else:
            current = report.change == traffic.change or report.route is Route.Drifted
            route = report.route if current else Route.Pending
            words = f"{shares}: {report.message}" if report.message else shares
            reason = _ROUTES.get(route, Reason.TrafficPending)
            found.append(Condition(Type.TrafficVerified, "False", reason, words))
    if observed.watched.judged:
        blind = not observed.watched.metrics
        state: Status = "False" if blind else "True"
        reason = Reason.parse(observed.watched.blindness, Reason.NotServing) if blind else Reason.AsExpected
        found.append(Condition(Type.AnalysisAvailable, state, reason, observed.watched.heard))
    else:
        old = find(observed.status, Type.AnalysisAvailable)
        if old and not run.state.at_rest:
            told = Reason.parse(text(old.get("reason")), Reason.AsExpected)
            status: Status = "False" if old.get("status") == "False" else "True"
            found.append(Condition(Type.AnalysisAvailable, status, told, text(old.get("message"))))
    return found


def wire(observed: Observed, rollout: Rollout) -> JSON:
    """The blocks `canary` and `traffic` of the status; without a canary of its own, what is there stays."""
    run = rollout.canary
    if run is None:
        kept = {key: observed.status[key] for key in ("canary",) if observed.status.get(key)}
        return kept | routes.wire(observed, None)
    body: JSON = {"canary": to_wire(run.state)}
    if run.split is not None and not run.state.at_rest:
        real = effective(rollout, observed)
        body["traffic"] = pruned(
            {**split_to_wire(run.split), "provider": run.provider, "effectiveWeight": real}
        )
    else:
        body |= routes.wire(observed, run)
    return body


def pauses_for_a_person(state: Canary) -> bool:
    return state.phase is Phase.Paused and state.pause not in (Pause.Step, Pause.User)
