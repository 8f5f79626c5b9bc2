"""The phase machine of PaddleModel and PaddleService. Pure.

A phase is output: it is rebuilt from spec and observed state on every pass and no decision rests on what was
written before. `TABLE` below is the whole machine; docs/architecture.md shows the same rows (a test compares
them). `walk` follows it from the phase in status to the one that the facts ask for, so that every transition
in between is seen, and announced, even if several happened while nobody looked.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    New = ""
    Initialized = "Initialized"
    Deploying = "Deploying"
    Ready = "Ready"
    Failed = "Failed"


class Event(StrEnum):
    """What the facts say, as one word; the first that holds, in this order."""

    SpecChanged = "SpecChanged"
    Refused = "Refused"
    Unresolved = "Unresolved"
    ResolveOverdue = "ResolveOverdue"
    StoredOnly = "StoredOnly"
    Serving = "Serving"
    Broken = "Broken"
    DeployOverdue = "DeployOverdue"
    RollingOut = "RollingOut"


class Action(StrEnum):
    """What the reconciler does on a transition."""

    Resolve = "resolve the artefact"
    Deploy = "create the revision's objects"
    Report = "report"
    Wait = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one pass observed.

    changed: the spec's generation is newer than the one the phase in status speaks of.
    refused: the spec asks for something that can never work, whatever the outside world does.
    resolved: the artefact is known (or cannot be known before a pod reports: pvc and file).
    serving_wanted: false for a model that is only kept (`serving.enabled: false`).
    serving: the newest generation serves with all it was asked for.
    broken: a pod of the newest generation reported what no retry can cure.
    overdue: no progress for longer than the deadline.
    """

    changed: bool = False
    refused: bool = False
    resolved: bool = False
    serving_wanted: bool = True
    serving: bool = False
    broken: bool = False
    overdue: bool = False


GUARDS: dict[Event, str] = {
    Event.SpecChanged: "spec.generation > status.observedGeneration",
    Event.Refused: "refused",
    Event.Unresolved: "not resolved",
    Event.ResolveOverdue: "not resolved, overdue",
    Event.StoredOnly: "resolved, serving not wanted",
    Event.Serving: "newest generation serves",
    Event.Broken: "a pod cannot ever start",
    Event.DeployOverdue: "no progress within the deadline",
    Event.RollingOut: "otherwise",
}

_DEPLOYED = (Event.Serving, Event.Broken, Event.DeployOverdue, Event.RollingOut)


def _table() -> dict[tuple[Phase, Event], tuple[Action, Phase]]:
    table: dict[tuple[Phase, Event], tuple[Action, Phase]] = {
        (Phase.New, event): (Action.Resolve, Phase.Initialized) for event in Event
    }
    for phase in (Phase.Initialized, Phase.Deploying, Phase.Ready, Phase.Failed):
        table[phase, Event.SpecChanged] = (Action.Resolve, Phase.Initialized)
        table[phase, Event.Refused] = (Action.Report, Phase.Failed)
        table[phase, Event.ResolveOverdue] = (Action.Report, Phase.Failed)
        table[phase, Event.Unresolved] = (Action.Resolve, Phase.Initialized)
        table[phase, Event.StoredOnly] = (Action.Report, Phase.Ready)
        table[phase, Event.Serving] = (Action.Report, Phase.Ready)
        table[phase, Event.Broken] = (Action.Report, Phase.Failed)
        table[phase, Event.DeployOverdue] = (Action.Report, Phase.Failed)
        table[phase, Event.RollingOut] = (Action.Wait, Phase.Deploying)
    for (
        event
    ) in _DEPLOYED:  # a revision is deployed before it serves or fails: never straight from Initialized
        table[Phase.Initialized, event] = (Action.Deploy, Phase.Deploying)
    return table


TABLE = _table()


@dataclass(frozen=True, slots=True)
class Transition:
    before: Phase
    event: Event
    action: Action
    after: Phase


def classify(facts: Facts) -> Event:
    """The one event that `facts` amount to."""
    if facts.changed:
        return Event.SpecChanged
    if facts.refused:
        return Event.Refused
    if not facts.resolved:
        return Event.ResolveOverdue if facts.overdue else Event.Unresolved
    if not facts.serving_wanted:
        return Event.StoredOnly
    if facts.serving:
        return Event.Serving
    if facts.broken:
        return Event.Broken
    return Event.DeployOverdue if facts.overdue else Event.RollingOut


def walk(phase: Phase, facts: Facts) -> tuple[Phase, tuple[Transition, ...]]:
    """The phase that `facts` ask for and the transitions that lead there from `phase`, in order.

    Where it ends depends on `facts` alone (but for `changed`, which is consumed by its transition).
    """
    transitions: list[Transition] = []
    while True:
        event = classify(facts)
        action, after = TABLE[phase, event]
        if after is not phase or event is Event.SpecChanged:
            transitions.append(Transition(phase, event, action, after))
        settled = after is phase
        phase = after
        if event is Event.SpecChanged:
            facts = replace(facts, changed=False)
        elif settled:
            return phase, tuple(transitions)


def parse(value: object) -> Phase:
    """The phase written in a status; New for none or for a word of another version."""
    try:
        return Phase(str(value or ""))
    except ValueError:
        return Phase.New


def markdown() -> str:
    """`TABLE` as the documentation shows it: phases that an event treats alike share a row."""
    lines = ["| event | guard | from | action | to |", "|---|---|---|---|---|"]
    for event in Event:
        alike: dict[tuple[Action, Phase], list[str]] = {}
        for phase in Phase:
            alike.setdefault(TABLE[phase, event], []).append(phase or '""')
        for (action, after), phases in alike.items():
            lines.append(f"| {event} | {GUARDS[event]} | {', '.join(phases)} | {action} | {after} |")
    return "\n".join(lines)
