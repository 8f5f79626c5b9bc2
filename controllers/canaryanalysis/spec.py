"""What a CanaryAnalysis asks for: how it is made for a step, and how it is read. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..analysis.server import DEFAULT
from ..analysis.verdict import Ledger
from ..conditions import timestamp
from ..kinds import CANARY_ANALYSIS, LABEL_ROLE
from ..resources.meta import Owner, labels
from ..resources.wire import integer, mapping, maps, number, pruned, text
from ..rollout.canary import StartAnalysis

#: Fields of `analysis` in a PaddleService that are taken over as they are.
COPIED = ("interval", "requiredPasses", "prometheus", "successCondition", "failureCondition", "metrics")


@dataclass(frozen=True, slots=True)
class Model:
    """sla: milliseconds, the same in both revisions; 0 if slow requests are not counted. new: the baseline
    does not serve it.
    """

    name: str
    sla: int = 0
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A metric with limits. query: "" for a built-in one."""

    name: str
    query: str = ""
    baseline_query: str = ""
    min: float | None = None
    max: float | None = None
    max_ratio: float | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One attempt at one step of one run. interval: seconds between looks. window_start: seconds since the
    epoch. minimum: seconds from then on before which it does not pass.
    """

    service: str
    run: int
    step: int
    attempt: int
    candidate: str
    baseline: str
    weight: int
    window_start: float
    interval: float = 60.0
    passes: int = 3
    minimum: float = 0.0
    prometheus: str = DEFAULT
    models: tuple[Model, ...]
    metrics: tuple[MetricSpec, ...] = ()
    success: str = ""
    failure: str = ""
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def fence(self) -> tuple[int, int, int]:
        """Grows with everything that starts anew: within a run attempts grow, within an attempt steps."""
        return self.run, self.attempt, self.step

    @property
    def name(self) -> str:
        """What the object must be called: two objects never judge the same attempt."""
        return f"{self.service}-{self.candidate}-{self.run}-{self.step}-{self.attempt}"


def build(
    effect: StartAnalysis,
    owner: Owner,
    *,
    window_start: float,
    analysis: Mapping[str, object],
    models: Iterable[Model],
    minimum: float = 0.0,
) -> dict[str, object]:
    """The object for `effect`, to be created once. analysis: the PaddleService's block as on the wire.
    minimum: seconds that it goes on at least, unless it fails.
    """
    spec: dict[str, object] = {
        "service": owner.name,
        "run": effect.run,
        "step": effect.step,
        "attempt": effect.attempt,
        "candidate": effect.candidate,
        "baseline": effect.baseline,
        "weight": effect.weight,
        # Up: nothing from before the weight had settled is in the window.
        "windowStart": stamp(math.ceil(window_start)),
        "minimumSeconds": math.ceil(minimum) or None,
        "models": [
            pruned(
                {
                    "name": model.name,
                    "latencySLAMilliseconds": model.sla or None,
                    "withoutBaseline": model.new or None,
                }
            )
            for model in models
        ],
        "evidence": effect.ledger.to_wire(),
    }
    spec.update({name: analysis[name] for name in COPIED if analysis.get(name) is not None})
    all_labels = labels(owner.name, effect.candidate)
    return {
        "apiVersion": CANARY_ANALYSIS.api_version,
        "kind": CANARY_ANALYSIS.kind,
        "metadata": {
            "name": effect.name,
            "namespace": owner.namespace,
            "labels": {key: value for key, value in all_labels.items() if key != LABEL_ROLE},
            "ownerReferences": [owner.reference()],
        },
        "spec": pruned(spec),
    }


def decode(raw: Mapping[str, object]) -> Spec:
    """`spec` as the API server holds it. ValueError, one line, for what cannot be judged by."""
    models = tuple(
        Model(
            text(item.get("name")),
            integer(item.get("latencySLAMilliseconds")),
            item.get("withoutBaseline") is True,
        )
        for item in maps(raw.get("models"))
    )
    if not models:
        raise ValueError("spec.models is empty: there is nothing to judge")
    return Spec(
        service=text(raw.get("service")),
        run=integer(raw.get("run")),
        step=integer(raw.get("step")),
        attempt=integer(raw.get("attempt")),
        candidate=text(raw.get("candidate")),
        baseline=text(raw.get("baseline")),
        weight=integer(raw.get("weight")),
        window_start=moment(raw.get("windowStart")),
        interval=number(raw.get("interval")) or 60.0,
        passes=integer(raw.get("requiredPasses")) or 3,
        minimum=number(raw.get("minimumSeconds")) or 0.0,
        prometheus=text(raw.get("prometheus")) or DEFAULT,
        models=models,
        metrics=tuple(map(_metric, maps(raw.get("metrics")))),
        success=text(raw.get("successCondition")),
        failure=text(raw.get("failureCondition")),
        ledger=Ledger.from_wire(mapping(raw.get("evidence"))),
    )


def moment(value: object) -> float:
    """Seconds since the epoch of a time on the wire. ValueError if it is none."""
    try:
        return datetime.fromisoformat(text(value)).timestamp()
    except ValueError:
        raise ValueError(f"{str(value)[:40]!r} is no time") from None


def stamp(seconds: float) -> str:
    """A time on the wire, in whole seconds, rounded down."""
    return timestamp(datetime.fromtimestamp(seconds, UTC))


def _metric(raw: Mapping[str, object]) -> MetricSpec:
    def limit(name: str) -> float | None:
        return number(raw.get(name)) if raw.get(name) is not None else None

    return MetricSpec(
        name=text(raw.get("name")),
        query=text(raw.get("query")),
        baseline_query=text(raw.get("baselineQuery")),
        min=limit("min"),
        max=limit("max"),
        max_ratio=limit("maxRatio"),
        critical=raw.get("critical") is True,
    )
