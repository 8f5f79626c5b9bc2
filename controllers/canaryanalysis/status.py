"""The status of a CanaryAnalysis on the wire, and what others read of it. Pure."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import controller_runtime as ctrl

from ..analysis.condition import Values
from ..analysis.tally import Tally, Verdict
from ..analysis.verdict import Ledger, Metric, Outcome
from ..conditions import Condition, Type, find, merge
from ..reasons import Reason
from ..resources.wire import integer, mapping, maps, pruned, text
from ..rollout.canary import Found
from .look import ModelValues
from .progress import Closed, Progress
from .spec import moment, stamp

SUPERSEDED: Final = "Superseded"

#: What a status shows of the evidence ratio at most.
_MOST: Final = 1_000_000.0

_VALUES: Final = {
    "samples": "samples",
    "errorRate": "error_rate",
    "slowRate": "slow_rate",
    "qps": "qps",
    "p50Milliseconds": "p50",
    "p95Milliseconds": "p95",
    "p99Milliseconds": "p99",
}


def verdict(obj: ctrl.Object) -> Verdict:
    """Of a CanaryAnalysis; Running for one that has none, or that is superseded: never to be acted on."""
    word = text(obj.status.get("verdict"))
    return Verdict(word) if word in list(Verdict) else Verdict.Running


def found(obj: ctrl.Object) -> Found:
    """The fact for the step machine. The caller has checked that its service's UID controls the object.

    ValueError if the evidence cannot be read.
    """
    spec, status = obj.spec, obj.status
    return Found(
        run=integer(spec.get("run")),
        step=integer(spec.get("step")),
        attempt=integer(spec.get("attempt")),
        verdict=verdict(obj),
        reason=text(status.get("message")),
        ledger=Ledger.from_wire(mapping(status.get("evidence"))),
    )


def answers(obj: ctrl.Object | None) -> bool:
    """Whether Prometheus answers it: the step machine's `metrics`. True if nobody has asked yet."""
    return obj is None or find(obj.status, Type.AnalysisAvailable).get("status") != "False"


def finished(obj: ctrl.Object) -> bool:
    return text(obj.status.get("verdict")) not in ("", str(Verdict.Running))


def to_wire(
    progress: Progress, *, generation: int, before: Mapping[str, object], now: float
) -> dict[str, object]:
    """The whole status. before: the one that it replaces, for the times of its conditions."""
    running = progress.running
    wire: dict[str, object] = {
        "observedGeneration": generation,
        "verdict": SUPERSEDED if progress.superseded else str(progress.verdict),
        "reason": progress.reason,
        "message": progress.message,
        "startedTime": _time(progress.started),
        "finishedTime": _time(progress.finished),
        "window": {"start": stamp(progress.start), "looks": progress.looks} if running else {},
        "nextLookTime": _time(progress.next_look),
        "lastLookTime": _time(progress.last_look),
        "failingSinceTime": _time(progress.failing),
        "lookErrors": progress.errors or None,
        "counts": progress.tally.to_wire(),
        "measurements": [_closed(window) for window in progress.closed],
        "models": [_model(values) for values in progress.models],
        "metrics": [_metric(metric) for metric in progress.metrics],
        "evidence": progress.ledger.to_wire(),
        "evidenceRatio": _ratio(progress.ledger),
        "conditions": merge(
            list(maps(before.get("conditions"))),
            _conditions(progress),
            generation=generation,
            now=datetime.fromtimestamp(now, UTC),
        ),
    }
    return pruned(wire)


def from_wire(raw: Mapping[str, object]) -> Progress | None:
    """The reverse; None before the first write. ValueError for what cannot be read."""
    word = text(raw.get("verdict"))
    if not word:
        return None
    window = mapping(raw.get("window"))
    available = {"True": True, "False": False}.get(text(find(raw, Type.AnalysisAvailable).get("status")))
    return Progress(
        verdict=Verdict(word) if word != SUPERSEDED else Verdict.Running,
        superseded=word == SUPERSEDED,
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
        started=_moment(raw, "startedTime"),
        finished=_moment(raw, "finishedTime"),
        start=_moment(window, "start"),
        looks=integer(window.get("looks")),
        next_look=_moment(raw, "nextLookTime"),
        last_look=_moment(raw, "lastLookTime"),
        failing=_moment(raw, "failingSinceTime"),
        errors=integer(raw.get("lookErrors")),
        available=available,
        trouble=text(find(raw, Type.AnalysisAvailable).get("message")) if available is False else "",
        tally=Tally.from_wire(mapping(raw.get("counts"))),
        ledger=Ledger.from_wire(mapping(raw.get("evidence"))),
        closed=tuple(_window(item) for item in maps(raw.get("measurements"))),
        models=tuple(_values_of(item) for item in maps(raw.get("models"))),
        metrics=tuple(_metric_of(item) for item in maps(raw.get("metrics"))),
    )


def _conditions(progress: Progress) -> list[Condition]:
    held = []
    if progress.available is not None:
        reason = Reason.PrometheusAnswers if progress.available else Reason.PrometheusUnavailable
        words = progress.trouble or "Prometheus answers"
        held.append(
            Condition(Type.AnalysisAvailable, "True" if progress.available else "False", reason, words)
        )
    if progress.running:
        held.append(Condition(Type.Reconciling, "True", Reason.Analysing, progress.message))
    return held


def _ratio(ledger: Ledger) -> float:
    """E, with three digits: a status that is equal but for noise is not written."""
    e = math.exp(min(ledger.log_e, math.log(_MOST)))
    return float(f"{e:.3g}")


def _model(values: ModelValues) -> dict[str, object]:
    return pruned(
        {
            "name": values.model,
            "candidate": _values(values.candidate),
            "baseline": _values(values.baseline) if values.baseline is not None else {},
        }
    )


def _values(values: Values) -> dict[str, object]:
    wire: dict[str, object] = {}
    for name, attribute in _VALUES.items():
        value = getattr(values, attribute)
        if isinstance(value, float) and math.isfinite(value) and value >= 0:
            wire[name] = float(f"{value:.6g}")
    return wire


def _values_of(raw: Mapping[str, object]) -> ModelValues:
    def side(part: Mapping[str, object]) -> Values:
        known = {name: part.get(name) for name in _VALUES}
        floats = {
            _VALUES[name]: float(value)
            for name, value in known.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        return Values(**floats)

    baseline = mapping(raw.get("baseline"))
    return ModelValues(
        model=text(raw.get("name")),
        candidate=side(mapping(raw.get("candidate"))),
        baseline=side(baseline) if baseline else None,
    )


def _metric(metric: Metric) -> dict[str, object]:
    wire: dict[str, object] = {"name": metric.name, "model": metric.model}
    for name, value in (("value", metric.value), ("baseline", metric.baseline)):
        if value is not None and math.isfinite(value) and abs(value) < 1e300:
            wire[name] = float(f"{value:.6g}")
    return pruned(wire)


def _metric_of(raw: Mapping[str, object]) -> Metric:
    def value(name: str) -> float | None:
        found = raw.get(name)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    return Metric(
        name=text(raw.get("name")),
        model=text(raw.get("model")),
        value=value("value"),
        baseline=value("baseline"),
    )


def _closed(window: Closed) -> dict[str, object]:
    return pruned(
        {
            "start": stamp(window.start),
            "end": stamp(window.end),
            "outcome": str(window.outcome),
            "reason": window.reason,
            "message": window.message[:512],
        }
    )


def _window(raw: Mapping[str, object]) -> Closed:
    return Closed(
        start=_moment(raw, "start"),
        end=_moment(raw, "end"),
        outcome=Outcome(text(raw.get("outcome"))),
        reason=text(raw.get("reason")),
        message=text(raw.get("message")),
    )


def _time(seconds: float) -> str:
    """Rounded up: a moment that has not come is not before itself."""
    return stamp(math.ceil(seconds)) if seconds else ""


def _moment(raw: Mapping[str, object], name: str) -> float:
    return moment(raw[name]) if raw.get(name) else 0.0
