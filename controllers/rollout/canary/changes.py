"""What each row of the table does to the persisted state. Pure."""

from dataclasses import replace
from typing import Final

from ...analysis.verdict import Ledger
from .facts import View
from .state import BLAMELESS, KEPT, Canary, Ending, Finished, Pause, Phase, Way

#: Characters of a reason that are kept: five runs of them have to fit into a status.
MAX_REASON: Final = 512


def cut(reason: str) -> str:
    """`reason` on one line, as long as a status keeps it."""
    flat = " ".join(reason.split())
    return flat if len(flat) <= MAX_REASON else flat[: MAX_REASON - 3] + "..."


def enter(view: View, phase: Phase, *, deadline: float = 0.0) -> Canary:
    """`phase` from now on. deadline: seconds from now, 0 for none."""
    now = view.facts.now
    return replace(
        view.state,
        phase=phase,
        since=now,
        deadline=now + deadline if deadline else 0.0,
        until=0.0,
        pause=None,
    )


def shift(view: View) -> Canary:
    """To the present step's weight, with a new attempt at its analysis."""
    phase = Phase.Promoting if view.last_step else Phase.Shifting
    state = enter(view, phase, deadline=view.plan.prepare)
    return replace(state, attempt=state.attempt + 1)


def advance(view: View) -> Canary:
    """To the next step; after the last one, to promotion."""
    state = replace(view.state, step=view.state.step + 1)
    if view.facts.found is not None and view.verdict != "Running":
        state = replace(state, ledger=view.facts.found.ledger)
    onward = View(state, view.plan, view.facts)
    phase = Phase.Promoting if onward.last_step else Phase.Shifting
    return enter(onward, phase, deadline=view.plan.prepare)


def start(view: View, *, again: bool = False) -> Canary:
    """A new run of the wanted revision, or a new attempt at the run before (`again`)."""
    state, facts = view.state, view.facts
    same = again and bool(state.history) and state.history[-1].candidate == facts.wanted
    return replace(
        enter(view, Phase.Preparing, deadline=view.plan.prepare),
        candidate=facts.wanted,
        run=state.run if same else state.run + 1,
        attempt=state.attempt + 1 if same else 1,
        step=0,
        steps=view.plan.weights,
        started=facts.now,
        ending=None,
        reason="",
        rejected=tuple(name for name in state.rejected if name != facts.wanted),
        ledger=Ledger(),
    )


def reenter(view: View) -> Canary:
    """Out of a pause: the step begins anew, its evidence too."""
    state = view.state
    if state.traffic.share(state.candidate) == 0 and state.step == 0:
        return enter(view, Phase.Preparing, deadline=view.plan.prepare)
    return shift(View(replace(state, ledger=Ledger()), view.plan, view.facts))


def paused(view: View, pause: Pause, reason: str, *, until: float = 0.0) -> Canary:
    return replace(enter(view, Phase.Paused), pause=pause, reason=cut(reason), until=until)


def roll_back(view: View, ending: Ending, reason: str) -> Canary:
    return replace(enter(view, Phase.RollingBack), ending=ending, reason=cut(reason))


def finish(view: View, *, stable: str, retiring: str, ending: Ending, reason: str) -> Canary:
    """The run is decided: drain `retiring`, and leave `stable` alone on the route."""
    state, now = view.state, view.facts.now
    entry = Finished(
        run=state.run,
        attempt=state.attempt,
        candidate=state.candidate,
        ending=ending,
        step=state.step,
        reason=reason,
        started=state.started,
        finished=now,
    )
    # Nobody comes by a route that is only being opened, so it is not waited for either.
    unused = (Way.Direct, Way.Opening, Way.Closing)
    routeless = view.plan.means == "Switched" and state.path.way in unused
    rejected = tuple(name for name in state.rejected if name != state.candidate)
    if ending not in BLAMELESS:
        rejected = (*rejected, state.candidate)[-KEPT:]
    return replace(
        enter(view, Phase.Draining),
        stable=stable,
        candidate="",
        retiring=retiring,
        ending=ending,
        reason=reason,
        rejected=rejected,
        history=(*state.history, entry)[-KEPT:],
        traffic=state.traffic if routeless else state.traffic.ask(((stable, 100),), now),
        ledger=Ledger(),
    )


def edited(view: View) -> Canary:
    """The steps were edited: go on at the first one that is not below the weight in force.

    Step numbers mean something else now, so whatever goes on is a new attempt: no old verdict may fit it.
    """
    state = replace(view.state, steps=view.plan.weights)
    weight = state.traffic.share(state.candidate)
    if state.phase in (Phase.Promoting, Phase.Soaking):
        return replace(state, step=len(state.steps), attempt=state.attempt + 1)
    if state.phase is Phase.Preparing:
        return replace(state, step=0)
    # Fewer or lower steps than the weight in force: the last one is judged, none is passed over.
    step = next((i for i, w in enumerate(state.steps) if w >= weight), len(state.steps) - 1)
    onward = View(replace(state, step=step), view.plan, view.facts)
    if state.phase is not Phase.Paused:
        return shift(onward)
    # Only a person's pause outlives the plan that it was made under.
    if state.pause is Pause.User:
        return replace(onward.state, attempt=state.attempt + 1)
    return reenter(onward)


def back_weight(view: View) -> int | None:
    """The candidate's weight that a roll-back may ask for now; None to wait.

    The stable revision takes what its ready pods carry, each up to a quarter more than usual: sending a bad
    candidate's share to one pod would only move the failure. A share of at most 10 % is no load to speak of.
    """
    state = view.state
    now = state.traffic.share(state.candidate)
    ready = view.stable.ready
    if ready <= 0:
        return None
    carried = min(100, ready * 125 // max(1, view.plan.replicas))
    weight = min(now, 100 - carried)
    return 0 if view.candidate.ready <= 0 or weight <= 10 else weight


def answered(state: Canary, view: View, answer: str) -> Canary:
    """With the command noted, so that it is done once."""
    given = view.facts.command
    return state if given is None else replace(state, token=given.token, answer=answer)
