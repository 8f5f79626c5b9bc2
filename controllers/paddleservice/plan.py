"""How a canary of this service goes: the blocks of its spec, with their defaults, as a plan. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from ..canaryanalysis.spec import Model
from ..resources.desired import Settings
from ..resources.wire import at, integer, mapping, maps, text
from ..rollout.canary import Means, Plan, Step
from ..rollout.canary.facts import Policy
from .observed import Revision

#: Percent of the requests, where the spec names neither a weight nor steps.
WEIGHT: Final = 5
STABLE_FOR: Final = 300
PROVIDER: Final = "Envoy"

_MEANS: Final[Mapping[str, Means]] = {
    "Envoy": "Switched",
    "GatewayAPI": "Switched",
    "Istio": "Switched",
    "Replicas": "Pods",
}


def provider(settings: Settings, status: Mapping[str, object], *, at_rest: bool) -> str:
    """Name of the traffic provider: a run ends with the one that it began with."""
    wanted = text(settings.traffic.get("provider")) or PROVIDER
    return wanted if at_rest else text(at(status, "traffic", "provider")) or wanted


def plan(settings: Settings, provider: str, *, settle: float = 15.0) -> Plan:
    """The plan of a run. One replica at least: a run needs pods to be judged by. settle: see `Plan`."""
    block = settings.canary
    steps = tuple(
        Step(integer(step.get("weight")), float(integer(step.get("pauseSeconds"))))
        for step in maps(block.get("steps"))
    )
    return Plan(
        steps=steps or (Step(integer(block.get("weight"), WEIGHT)),),
        replicas=max(1, settings.replicas),
        means=_MEANS.get(provider, "Standing"),
        settle=settle,
        stable_for=float(integer(block.get("stableForSeconds"), STABLE_FOR)),
        on_no_data=_policy(at(block, "analysis", "onNoData")),
        on_deadline=_policy(at(block, "analysis", "onDeadline")),
    )


def _policy(value: object) -> Policy:
    return "Rollback" if value == "Rollback" else "Hold"


def analysed(candidate: Revision | None, baseline: Revision | None) -> tuple[Model, ...]:
    """The candidate's models as an analysis compares them with the baseline's.

    Slow requests are only counted where both have the same latency target: a bucket edge of both histograms.
    """
    theirs = _targets(baseline)
    return tuple(
        Model(name=name, sla=sla if theirs.get(name, sla) == sla else 0, new=name not in theirs)
        for name, sla in _targets(candidate).items()
    )


def _targets(revision: Revision | None) -> Mapping[str, int]:
    """Latency target in milliseconds, 0 for none, by the serving names of a revision's models."""
    if revision is None:
        return {}
    try:
        inputs = mapping(json.loads(revision.recorded.inputs))
    except ValueError:
        inputs = {}
    models: Iterable[Mapping[str, object]] = list(maps(inputs.get("models"))) or revision.models
    return {text(model.get("name")): integer(model.get("latencySLA")) for model in models}
