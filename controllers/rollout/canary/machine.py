"""One pass of the canary: what to remember, what to do, whom it waits for. Pure.

The caller observes, calls `decide`, and then
1. if `changed`: writes `state` to the status with the resourceVersion that it was read at; on a conflict it
drops
   the decision and looks again;
2. only then does the effects, in order; a failed one is left to the next pass.
It must not act on a state older than its own last write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from . import path
from .effects import Effect, effects
from .facts import Facts, Plan, View
from .rows import ROWS, Row
from .state import Canary, Pause, Phase, Way, rewound

#: No history of one pass is longer; a table that turns in circles shows in a test, not in a busy loop.
MAX_ROWS: Final = 16


@dataclass(frozen=True, slots=True)
class Transition:
    """One row taken; the announcement of it is an event of the PaddleService."""

    before: Phase
    event: str
    after: Phase
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """state: to be persisted if `changed`. look_again: seconds until a timer is due; None without one."""

    state: Canary
    changed: bool
    transitions: Sequence[Transition]
    effects: Sequence[Effect]
    waits_for: str
    look_again: float | None


def decide(service: str, state: Canary, plan: Plan, facts: Facts) -> Decision:
    """Follow the table as far as the facts lead."""
    view = View(rewound(state, facts.now), plan, facts)
    transitions: list[Transition] = []
    for _ in range(MAX_ROWS):
        row = taken(view)
        if row is None:
            break
        after = _sized(View(row.then(view), plan, facts))
        transitions.append(Transition(view.state.phase, row.event, after.phase, after.reason))
        view = View(after, plan, facts)
    return Decision(
        state=view.state,
        changed=view.state != state,
        transitions=transitions,
        effects=effects(service, view),
        waits_for=waits_for(view),
        look_again=_look_again(view),
    )


def _sized(view: View) -> Canary:
    """With the highest weight so far: a run never shrinks its candidate, whatever a cache says."""
    peak = max(view.state.peak, view.weight) if view.state.active else 0
    return view.state if peak == view.state.peak else replace(view.state, peak=peak)


def taken(view: View) -> Row | None:
    """The first row whose guard holds."""
    return next((row for row in ROWS if view.state.phase in row.phases and row.when(view)), None)


def waits_for(view: View) -> str:
    """The one thing that blocks, with numbers; "" for a service at rest."""
    state, plan = view.state, view.plan
    now = view.facts.now
    asked = ", ".join(f"{name} {weight} %" for name, weight in state.traffic.weights)
    in_flight = f"the traffic provider to verify {asked}, asked for {now - state.traffic.asked_at:.0f} s ago"
    match state.phase:
        case Phase.Idle if not state.stable:
            ready = view.pods(view.facts.wanted).ready
            return f"{plan.replicas} ready pods of {view.facts.wanted or 'a revision'}, {ready} are"
        case Phase.Idle if view.facts.wanted in state.rejected and view.facts.wanted != state.stable:
            return f"a new revision, or the command retry: {view.facts.wanted} was rejected ({state.reason})"
        case Phase.Idle:
            return path.waits_for(view)
        case Phase.Paused if state.pause is not Pause.Step or not state.traffic.in_flight:
            return _pause(view)
        case Phase.Draining if now < state.since + plan.drain:
            return f"{state.since + plan.drain - now:.0f} s for the last requests of {state.retiring}"
        case Phase.Preparing if not view.led:
            return path.waits_for(view)
        case _ if state.traffic.in_flight:
            return in_flight
        case Phase.Preparing | Phase.Shifting | Phase.Promoting if view.candidate.ready < view.need:
            words = f"{view.need} ready pods of {state.candidate}, {view.candidate.ready} are"
            return f"{words}: {view.candidate.obstacle}" if view.candidate.obstacle else words
        case Phase.Preparing | Phase.Shifting | Phase.Promoting if not view.facts.checked:
            return f"the readiness path of every pod of {state.candidate}"
        case Phase.Shifting:
            return f"{plan.settle:g} s after the weight was verified"
        case Phase.Analysing | Phase.Soaking if view.facts.hold:
            return view.facts.hold
        case Phase.Soaking if now < state.until:
            return f"{state.until - now:.0f} s at 100 %"
        case Phase.Analysing | Phase.Soaking:
            return f"the analysis of step {state.step}, attempt {state.attempt}"
        case Phase.RollingBack:
            return f"ready pods of {state.stable}: {view.stable.ready} of {plan.replicas}"
        case _:
            return f"the route of {state.stable}"


def _pause(view: View) -> str:
    state = view.state
    match state.pause:
        case Pause.Step if view.facts.hold:
            return view.facts.hold
        case Pause.Step:
            return f"{max(0.0, state.until - view.facts.now):.0f} s of this step's pause"
        case Pause.MetricsUnavailable:
            return f"Prometheus ({state.reason}), or a command: promote, abort"
        case Pause.TrafficProvider:
            return f"the traffic provider ({state.reason}), or a command: abort"
        case _:
            return f"a person ({state.reason}): promote, resume or abort"


def _look_again(view: View) -> float | None:
    state, plan, now = view.state, view.plan, view.facts.now
    due = [state.deadline, state.until]
    if state.phase is Phase.Shifting and state.traffic.verified_at is not None:
        due.append(state.traffic.verified_at + plan.settle)
    if state.phase is Phase.Draining:
        due.append(state.since + plan.drain)
    if state.phase is Phase.Paused and plan.on_deadline == "Rollback":
        due.append(state.since + plan.decide)
    if state.path.seen_at is not None and state.path.way in (Way.Entering, Way.Leaving):
        due.append(state.path.seen_at + plan.settle)
    pods = view.candidate
    if state.active and pods.ready <= 0 and state.traffic.most(state.candidate):
        due.append(now + max(0.0, plan.unready - pods.unready_for))
    return min((max(0.0, moment - now) for moment in due if moment > now), default=None)


def markdown() -> str:
    """The table as the documentation shows it."""
    lines = ["| from | event | guard | action | to |", "|---|---|---|---|---|"]
    for row in ROWS:
        origin = "any" if len(row.phases) == len(Phase) else ", ".join(row.phases)
        target = ", ".join(row.to) or "same"
        lines.append(f"| {origin} | {row.event} | {row.guard} | {row.action or '-'} | {target} |")
    return "\n".join(lines)
