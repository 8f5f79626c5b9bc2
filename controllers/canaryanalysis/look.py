"""One look at a window: the questions, and what the answers say. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from ..analysis import eprocess, promql
from ..analysis.answer import Answer
from ..analysis.builtin import BUILT_IN
from ..analysis.condition import Condition, Values
from ..analysis.custom import REVISION, filled
from ..analysis.verdict import Counts, Look, Metric, Sample, usable
from .spec import MetricSpec, Model, Spec

CANDIDATE: Final = "candidate"
BASELINE: Final = "baseline"

#: Two queries of one instant are extrapolated apart from each other: so much below 0 is still 0.
_ROUNDING: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """seconds: of the window that ends at the time of the queries. ready, stable_ready: ready pods of the two
    sides.
    """

    seconds: int
    ready: int
    stable_ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Compiled; None if there is none."""

    success: Condition | None = None
    failure: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelValues:
    """What is shown of one model; None for a side that is not measured."""

    model: str
    candidate: Values
    baseline: Values | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look, ready to be judged, and what people are shown of it."""

    look: Look
    models: Sequence[ModelValues]


def compared(spec: Spec, model: Model, window: Window) -> bool:
    """Whether the baseline is expected to have traffic of this model."""
    return spec.weight < 100 and window.stable_ready > 0 and not model.new


def questions(spec: Spec, namespace: str, window: Window) -> dict[str, str]:
    """Our queries of a look by name, all to be asked with the same time."""
    asked: dict[str, str] = {}
    span = promql.Span(seconds=window.seconds)
    for model in spec.models:
        sides = (CANDIDATE, BASELINE) if compared(spec, model, window) else (CANDIDATE,)
        for side in sides:
            revision = spec.candidate if side == CANDIDATE else spec.baseline
            queries = promql.queries(
                promql.Side(namespace=namespace, service=spec.service, revision=revision, model=model.name),
                span,
                sla_milliseconds=model.sla,
            )
            texts = {item.name: str(getattr(queries, item.name)) for item in fields(queries)}
            asked.update({_name(side, model.name, what): text for what, text in texts.items() if text})
    return asked


def own(spec: Spec, namespace: str, window: Window) -> dict[str, str]:
    """The queries of users, likewise; each to be asked alone."""
    asked: dict[str, str] = {}
    for metric in spec.metrics:
        for side, query in _custom(spec, metric, window).items():
            asked[_name(side, "", metric.name)] = filled(
                query,
                namespace=namespace,
                service=spec.service,
                revision=spec.candidate if side == CANDIDATE else spec.baseline,
                seconds=window.seconds,
            )
    return asked


def seen(spec: Spec, answers: Mapping[str, Answer], window: Window, conditions: Conditions) -> Seen:
    """What the answers to `questions` and `own` say. A missing answer is no data."""
    samples, models = [], []
    scraped = window.ready
    for model in spec.models:
        candidate = _side(answers, CANDIDATE, model)
        baseline = _side(answers, BASELINE, model) if compared(spec, model, window) else None
        pods = answers.get(_name(CANDIDATE, model.name, "pods"), Answer(None)).value
        scraped = min(scraped, int(pods) if pods is not None and usable(pods) else 0)
        shown = ModelValues(
            model=model.name,
            candidate=candidate.values,
            baseline=baseline.values if baseline is not None else None,
        )
        samples.append(_sample(model, candidate, baseline, shown, conditions))
        models.append(shown)
    metrics = [found for metric in spec.metrics for found in _metrics(spec, metric, answers, window, models)]
    look = Look(samples=samples, metrics=metrics, ready=window.ready, scraped=scraped)
    return Seen(look=look, models=models)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    counts: Counts
    values: Values
    note: str


def _side(answers: Mapping[str, Answer], side: str, model: Model) -> _Measured:
    def answer(what: str) -> float | None:
        return answers.get(_name(side, model.name, what), Answer(None)).value

    scrapes = answer("scrapes")
    if scrapes is None or scrapes < promql.SCRAPES:
        note = f"{scrapes or 0:.0f} scrapes, {promql.SCRAPES} are needed"
        return _Measured(counts=Counts(requests=None, errors=None), values=Values(), note=note)

    def count(what: str) -> float | None:
        """What was really seen between the first scrape and the last one."""
        value = answer(what)
        if value is None or value < -_ROUNDING:
            return None
        return eprocess.observed(max(0.0, value), seconds=scrapes, scrape=1.0)

    requests, errors = count("samples"), count("errors")
    slow = count("slow") if model.sla else None
    values = Values(
        p50=answer("p50"),
        p95=answer("p95"),
        p99=answer("p99"),
        error_rate=_share(errors, requests),
        slow_rate=_share(slow, requests),
        qps=answer("qps"),
        samples=requests,
    )
    return _Measured(counts=Counts(requests=requests, errors=errors, slow=slow), values=values, note="")


def _share(part: float | None, whole: float | None) -> float | None:
    if part is None or whole is None or whole <= 0:
        return None
    return min(part / whole, 1.0)


def _sample(
    model: Model,
    candidate: _Measured,
    baseline: _Measured | None,
    shown: ModelValues,
    conditions: Conditions,
) -> Sample:
    success, failure = conditions.success, conditions.failure
    return Sample(
        model=model.name,
        candidate=candidate.counts,
        baseline=baseline.counts if baseline is not None else None,
        sla=model.sla > 0,
        condition=success.holds(shown.candidate, shown.baseline) if success is not None else True,
        failed=failure.holds(shown.candidate, shown.baseline) if failure is not None else False,
        note=candidate.note or (baseline.note if baseline is not None else ""),
    )


def _metrics(
    spec: Spec,
    metric: MetricSpec,
    answers: Mapping[str, Answer],
    window: Window,
    models: Sequence[ModelValues],
) -> list[Metric]:
    """One of a query of its own; of a built-in one, one a model."""
    limits = Metric(
        name=metric.name,
        value=None,
        min=metric.min,
        max=metric.max,
        max_ratio=metric.max_ratio,
        critical=metric.critical,
    )
    if metric.query:
        asked = _custom(spec, metric, window)
        own = answers.get(_name(CANDIDATE, "", metric.name), Answer(None))
        other = answers.get(_name(BASELINE, "", metric.name), Answer(None))
        compares = BASELINE in asked
        return [
            replace(
                limits,
                value=own.value,
                baseline=other.value,
                max_ratio=metric.max_ratio if compares else None,
                note=own.note or (other.note if compares else ""),
            )
        ]
    read = BUILT_IN.get(metric.name)
    found = []
    for shown in models:
        other_side = shown.baseline
        found.append(
            replace(
                limits,
                model=shown.model,
                value=read(shown.candidate) if read else None,
                baseline=read(other_side) if read and other_side is not None else None,
                # At 100 % there is nothing to compare with; the absolute limits stay.
                max_ratio=metric.max_ratio if other_side is not None else None,
                note="" if read else "no built-in metric has this name",  # a spec that nobody checked
            )
        )
    return found


def _custom(spec: Spec, metric: MetricSpec, window: Window) -> dict[str, str]:
    """The queries of a metric that has its own, by side."""
    if not metric.query:
        return {}
    other = metric.baseline_query or (metric.query if REVISION in metric.query else "")
    if metric.max_ratio is None or not other or spec.weight >= 100 or window.stable_ready <= 0:
        return {CANDIDATE: metric.query}
    return {CANDIDATE: metric.query, BASELINE: other}


def _name(side: str, model: str, what: str) -> str:
    return f"{side}/{model}/{what}"
