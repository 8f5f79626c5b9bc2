"""What one pass announces as events. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import controller_runtime as ctrl

from ..conditions import Type, find
from ..phases import Event, Phase, Transition
from ..reasons import Reason
from ..rollout import canary
from ..rollout.canary.state import BLAMELESS
from .canary_status import pauses_for_a_person, phase_reason
from .effects import Create, Delete, Effect, Scale
from .observed import Observed
from .rollout import Rollout, models_of
from .status import Report, models_line


@dataclass(frozen=True, slots=True)
class Note:
    """An event. With `effect` it is told once that effect is done; without, once the status is written."""

    reason: Reason
    message: str
    warning: bool = False
    action: str = "Reconcile"
    effect: Effect | None = None


def _headline(told: Report) -> Reason:
    return next(item.reason for item in told.conditions if item.type is Type.Ready)


def _words(step: Transition, observed: Observed, rollout: Rollout) -> str:
    """Why a phase was passed through on the way to another."""
    if step.before is Phase.New:
        return "the spec is accepted"
    if step.event is Event.SpecChanged:
        return f"the spec changed (generation {observed.generation})"
    return f"deploying revision {rollout.hash}"


def _canary(rollout: Rollout) -> Iterator[Note]:
    """One event a transition of the run, and one an answered command."""
    run = rollout.canary
    if run is None:
        return
    state, name = run.state, run.state.candidate or run.state.retiring
    for step in run.decision.transitions:
        if step.event in ("refused", "drifted"):
            yield Note(Reason.CanaryTraffic, f"{step.event}: {step.reason}", warning=True, action="Shift")
        if step.before is step.after:
            continue
        match step.after:
            case canary.Phase.Idle:
                ending = state.ending or ""
                bad = state.ending is not None and state.ending not in BLAMELESS
                yield Note(
                    Reason.CanaryEnded, f"run {state.run} is over: {ending}", warning=bad, action="Finish"
                )
            case canary.Phase.Preparing if step.event in ("new revision", "retry"):
                words = f"run {state.run}, attempt {state.attempt}: revision {name} against {state.stable}"
                yield Note(Reason.CanaryStarted, words, action="Start")
            case canary.Phase.Draining if state.ending is canary.Ending.Promoted:
                yield Note(
                    Reason.CanaryPromoted, f"revision {state.stable} has passed every step", action="Promote"
                )
            case after:
                bad = after is canary.Phase.RollingBack or pauses_for_a_person(state)
                words = f"{step.event}: {step.reason}" if step.reason else step.event
                yield Note(phase_reason(after), f"{name}: {words}", warning=bad, action="Step")
    if run.answered:
        yield Note(Reason.CanaryCommand, f"{state.answer} (run {state.run})", action="Command")


def notes(observed: Observed, rollout: Rollout, told: Report, effects: Iterable[Effect]) -> Iterator[Note]:
    """Every transition, every effect that people ask about, and a blocker when it is new."""
    blocker = rollout.blocker
    fell = False
    for step in told.transitions:
        failed = step.after is Phase.Failed
        fell = fell or failed
        message = told.message if step is told.transitions[-1] else _words(step, observed, rollout)
        yield Note(
            _headline(told) if failed else Reason.PhaseChanged,
            f"{step.before or 'New'} -> {step.after}: {message}",
            warning=failed,
            action="Report",
        )
    for condition in told.conditions:
        old = find(observed.status, condition.type)
        found = condition.type in (Type.NameConflict, Type.Drifted) and old.get("status") != "True"
        if found and not (fell and condition.type is Type.NameConflict):
            yield Note(condition.reason, condition.message, warning=True, action="Check")
        if blocker is None or fell or condition.type is not Type.Progressing:
            continue
        if old.get("reason") != condition.reason == blocker.reason:
            yield Note(condition.reason, blocker.message, warning=True, action="Deploy")
    yield from _canary(rollout)
    if rollout.promoting:
        yield Note(Reason.RevisionPromoted, f"revision {rollout.hash} is the stable one", action="Promote")
    for effect in effects:
        match effect:
            case Create(wanted) if wanted.kind is ctrl.DEPLOYMENT:
                made = models_line(models_of(observed.desired)) if observed.desired else ""
                line = f"created revision {rollout.hash} ({made})"
                yield Note(Reason.RevisionCreated, line, action="Create", effect=effect)
            case Scale(key, replicas):
                line = f"scaled {key.name} to {replicas}"
                yield Note(Reason.Scaled, line, action="Scale", effect=effect)
            case Delete(kind, key) if kind is ctrl.DEPLOYMENT:
                line = f"removed old revision {key.name}"
                yield Note(Reason.RevisionRemoved, line, action="Delete", effect=effect)
            case _:
                pass
