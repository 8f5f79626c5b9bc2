"""What a persisted state asks of the world. Pure.

The effects are a function of the state and of what is observed, not of the way that led there: after a crash
the next pass asks for the same. Each may be done twice. None may be done before the state that asks for it is
written, nor by somebody who cannot know that the state is the newest.
"""

from dataclasses import dataclass, field

from ...analysis.verdict import Ledger
from .facts import View, counts
from .state import Canary, Ending, Phase, Way, Weights, analysis_name


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
    """To be done only on the Deployment as it was seen, and only if no change above `change` is stamped on
    it: who decided on an older state must not take pods from a revision that has got traffic since.
    """

    revision: str
    replicas: int
    change: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Note on the revision's Deployment that it takes part in `change`, before it does."""

    revision: str
    change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Turn the Service of the name to the routers, or to the pods."""

    routers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove the route; nobody comes that way any more."""

    change: int


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


Effect = SetWeight | Stamp | Select | Remove | Ensure | Scale | StartAnalysis | Promote


def effects(service: str, view: View) -> tuple[Effect, ...]:
    """All that the state asks for and that is not seen to be so."""
    state = view.state
    return (
        *_route(view),
        *_path(view),
        *_promotion(state),
        *_growth(view),
        *_analysis(service, view),
        *_shrinkage(view),
    )


def _route(view: View) -> tuple[Effect, ...]:
    state, traffic = view.state, view.state.traffic
    if not traffic.in_flight or state.path.way is Way.Closing:
        return ()
    write = SetWeight(weights=traffic.weights, change=traffic.change)
    if view.plan.means == "Pods" or not traffic.share(state.candidate):
        return (write,)
    if view.candidate.change >= traffic.change:
        return (write,)
    return (Stamp(revision=state.candidate, change=traffic.change), write)


def _path(view: View) -> tuple[Effect, ...]:
    state = view.state
    if state.path.way is Way.Closing:
        return () if view.facts.removed else (Remove(change=state.traffic.change),)
    if view.arrived or (view.plan.means != "Switched" and state.path.way is Way.Direct):
        return ()
    return (Select(routers=state.path.to_routers),)


def _promotion(state: Canary) -> tuple[Effect, ...]:
    if state.phase is Phase.Draining and state.ending is Ending.Promoted:
        return (Promote(stable=state.stable),)
    return ()


def _growth(view: View) -> tuple[Effect, ...]:
    state, plan, facts = view.state, view.plan, view.facts
    if not state.stable:
        return _sized(view, facts.wanted, plan.replicas) if facts.wanted else ()
    if plan.means == "Pods":
        return _weighed(view)
    stable = _sized(view, state.stable, plan.replicas)
    # The route must be known to be all stable before there is a candidate that could get a share of it.
    if not state.active or not view.led or not (state.traffic.settled or state.candidate in facts.pods):
        return stable
    wanted = max(plan.pods(state.peak), view.candidate.spec)
    return (*stable, *_sized(view, state.candidate, wanted))


def _weighed(view: View) -> tuple[Effect, ...]:
    """Sizes where pods are the weight: what grows is ready before the other shrinks."""
    state, replicas = view.state, view.plan.replicas
    if not state.candidate:
        return _sized(view, state.stable, replicas)
    stable, candidate = counts(replicas, state.traffic.share(state.candidate))
    if state.phase is Phase.RollingBack:
        stable = replicas
    else:
        candidate = max(candidate, min(view.candidate.spec, replicas - view.stable.ready))
        stable = max(stable, min(view.stable.spec, replicas - view.candidate.ready))
    return (*_sized(view, state.candidate, candidate), *_sized(view, state.stable, stable))


def _sized(view: View, revision: str, replicas: int) -> tuple[Effect, ...]:
    pods = view.facts.pods.get(revision)
    made: tuple[Effect, ...] = (Ensure(revision=revision),) if pods is None else ()
    if pods is not None and pods.spec == replicas:
        return made
    return (*made, Scale(revision=revision, replicas=replicas, change=view.state.traffic.change))


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
        Scale(revision=name, replicas=0, change=state.traffic.change)
        for name, pods in sorted(facts.pods.items())
        if name not in kept and pods.spec > 0 and state.traffic.most(name) == 0
    )
