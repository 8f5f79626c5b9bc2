"""What a persisted state asks of the world. Pure.

The effects are a function of the state and of what is observed, not of the way that led there: after a crash
the next pass asks for the same. Each may be done twice. None may be done before the state that asks for it is
written, nor by somebody who cannot know that the state is the newest.
"""

from dataclasses import dataclass

from ...analysis.verdict import Ledger
from .facts import View
from .state import Canary, Ending, Phase, Weights, analysis_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Write every pair of the route at once. A provider that has seen a higher change ignores it."""

    weights: Weights
    change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensure:
    """Create the revision's objects unless they exist."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    revision: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAnalysis:
    """Create the CanaryAnalysis of this name unless it exists. ledger: the evidence it goes on from."""

    name: str
    run: int
    step: int
    attempt: int
    candidate: str
    baseline: str
    weight: int
    ledger: Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """This revision is the stable one now: autoscaling, `/scale` and the display follow it."""

    stable: str


Effect = SetWeight | Ensure | Scale | StartAnalysis | Promote


def effects(service: str, view: View) -> tuple[Effect, ...]:
    """All that the state asks for and that is not seen to be so."""
    state = view.state
    return (
        *_route(state),
        *_promotion(state),
        *_growth(view),
        *_analysis(service, view),
        *_shrinkage(view),
    )


def _route(state: Canary) -> tuple[Effect, ...]:
    if not state.traffic.in_flight:
        return ()
    return (SetWeight(weights=state.traffic.weights, change=state.traffic.change),)


def _promotion(state: Canary) -> tuple[Effect, ...]:
    if state.phase is Phase.Draining and state.ending is Ending.Promoted:
        return (Promote(stable=state.stable),)
    return ()


def _growth(view: View) -> tuple[Effect, ...]:
    state, plan, facts = view.state, view.plan, view.facts
    if not state.stable:
        return _sized(view, facts.wanted, plan.replicas) if facts.wanted else ()
    stable = _sized(view, state.stable, plan.replicas)
    # The route must be known to be all stable before there is a candidate that could get a share of it.
    if not state.active or not (state.traffic.settled or state.candidate in facts.pods):
        return stable
    wanted = max(plan.pods(state.peak), view.candidate.spec)
    return (*stable, *_sized(view, state.candidate, wanted))


def _sized(view: View, revision: str, replicas: int) -> tuple[Effect, ...]:
    pods = view.facts.pods.get(revision)
    made: tuple[Effect, ...] = (Ensure(revision=revision),) if pods is None else ()
    if pods is not None and pods.spec == replicas:
        return made
    return (*made, Scale(revision=revision, replicas=replicas))


def _analysis(service: str, view: View) -> tuple[Effect, ...]:
    state = view.state
    judged = state.phase is Phase.Analysing or (state.phase is Phase.Soaking and view.plan.stable_for > 0)
    if not judged:
        return ()
    return (
        StartAnalysis(
            name=analysis_name(service, state),
            run=state.run,
            step=state.step,
            attempt=state.attempt,
            candidate=state.candidate,
            baseline=state.stable,
            weight=view.weight,
            ledger=state.ledger,
        ),
    )


def _shrinkage(view: View) -> tuple[Effect, ...]:
    """Revisions that nobody needs: never one that may have a share of the traffic."""
    state, facts = view.state, view.facts
    kept = {state.stable, state.candidate, state.retiring}
    if not state.stable:
        kept.add(facts.wanted)
    return tuple(
        Scale(revision=name, replicas=0)
        for name, pods in sorted(facts.pods.items())
        if name not in kept and pods.spec > 0 and state.traffic.most(name) == 0
    )
