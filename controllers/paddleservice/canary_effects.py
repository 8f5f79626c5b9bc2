"""What a canary's decision wants done, as effects on the API server and on the traffic provider. Pure."""

import controller_runtime as ctrl

from ..canaryanalysis.spec import build
from ..kinds import ANNOTATION_TRAFFIC_CHANGE, CANARY_ANALYSIS
from ..resources.meta import Rendered
from ..rollout.canary import Phase, Remove, SetWeight, Stamp, StartAnalysis
from .effects import Create, Effect, Merge, Shift, Unroute
from .observed import Observed
from .plan import analysed
from .rollout import Rollout

#: Seconds until a run that has gone on is looked at again: what is asked of pods, of hooks and of the
#: analysis depends on where it stands, and a pass asks before it decides.
GONE_ON = 0.1
#: Seconds between looks at a provider or at endpoints that are on their way, should no event tell.
ROUTE_INTERVAL = 5.0


def canary_effects(observed: Observed, rollout: Rollout) -> list[Effect]:
    """In the machine's order. Revisions, their sizes and the Service's selector are rendered elsewhere."""
    run = rollout.canary
    if run is None:
        return []
    effects: list[Effect] = []
    by_hash = {revision.hash: revision for revision in observed.revisions}
    for effect in run.decision.effects:
        match effect:
            case SetWeight() if run.split is not None:
                effects.append(Shift(run.provider, run.split))
            case Stamp(revision=name, change=change) if name in by_hash:
                key = ctrl.Key(observed.owner.namespace, by_hash[name].name)
                fields = {"metadata": {"annotations": {ANNOTATION_TRAFFIC_CHANGE: str(change)}}}
                effects.append(Merge(ctrl.DEPLOYMENT, key, by_hash[name].uid, fields))
            case Remove(change=change):
                effects.append(Unroute(run.provider, change))
            case StartAnalysis(name=name) if name != observed.watched.judged:
                effects.append(_analysis(observed, rollout, effect))
            case _:
                pass
    return effects


def _analysis(observed: Observed, rollout: Rollout, effect: StartAnalysis) -> Create:
    assert rollout.canary is not None
    by_hash = {revision.hash: revision for revision in observed.revisions}
    analysis = observed.settings.canary.get("analysis")
    run = rollout.canary
    body = build(
        effect,
        observed.owner,
        window_start=run.state.since,
        analysis=analysis if isinstance(analysis, dict) else {},
        models=analysed(by_hash.get(effect.candidate), by_hash.get(effect.baseline)),
        minimum=run.plan.stable_for if run.state.phase is Phase.Soaking else 0.0,
    )
    return Create(Rendered(kind=CANARY_ANALYSIS, body=body))


def looks_again(rollout: Rollout) -> list[float]:
    """Seconds until a canary must be looked at although nothing may happen."""
    run = rollout.canary
    if run is None:
        return []
    due = [] if run.decision.look_again is None else [run.decision.look_again + 0.05]
    if run.decision.transitions:
        due.append(GONE_ON)
    if run.state.traffic.in_flight or run.state.path.way not in ("Direct", "Routed"):
        due.append(ROUTE_INTERVAL)
    return due
