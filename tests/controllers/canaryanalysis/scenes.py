"""Specs, and the answers of a Prometheus that knows how good the two revisions are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from controllers.analysis.answer import Answer
from controllers.canaryanalysis.look import Conditions, Window, own, questions, seen
from controllers.canaryanalysis.progress import Progress, Step, answered, seconds
from controllers.canaryanalysis.spec import Model, Spec

SPEC = Spec(
    service="ocr",
    run=1,
    step=0,
    attempt=1,
    candidate="bbbbbbbb",
    baseline="aaaaaaaa",
    weight=5,
    window_start=1000.0,
    models=(Model("m", sla=200),),
)
UNCONDITIONAL = Conditions()
SPAN = re.compile(r"\[(\d+)s\]")


@dataclass(frozen=True, kw_only=True)
class Side:
    """Requests a second, shares of bad ones, milliseconds."""

    qps: float = 2.0
    errors: float = 0.0
    slow: float = 0.0
    latency: float = 50.0
    pods: float | None = 2.0
    scrape: float = 5.0


@dataclass(frozen=True, kw_only=True)
class World:
    """What both sides do. Answers queries as text, as a server would."""

    candidate: Side = Side()
    baseline: Side | None = Side(qps=38.0)
    own: float | None = 7.0

    def value(self, query: str) -> float | None:
        if query == "vector(1)":
            return 1.0
        if "revision=" not in query:
            return self.own
        side = self.candidate if 'revision="bbbbbbbb"' in query else self.baseline
        span = SPAN.search(query)
        assert span is not None, query
        if side is None:
            return None
        return _measured(query, side, float(span.group(1)))

    def answers(self, asked: dict[str, str]) -> dict[str, Answer]:
        values = {name: self.value(query) for name, query in asked.items()}
        return {
            name: Answer(value) if value is not None else Answer(None, "no series")
            for name, value in values.items()
        }


def _measured(query: str, side: Side, span: float) -> float | None:
    scrapes = span // side.scrape
    if query.startswith("max(count_over_time(model_load_success"):
        return scrapes if side.pods else None
    if query.startswith("count(count_over_time(model_load_success"):
        return side.pods
    if query.startswith("histogram_quantile"):
        return side.latency
    if query.startswith("sum(rate(inference_request_total"):
        return side.qps
    stretched = side.qps * span
    if "inference_latency_seconds_bucket" in query:
        return stretched * side.slow
    return stretched * side.errors if "status_code" in query else stretched


GOOD = World()


def asked(spec: Spec, window: Window, namespace: str = "default") -> dict[str, str]:
    """All that is asked at a look."""
    return questions(spec, namespace, window) | own(spec, namespace, window)


def looked(
    progress: Progress,
    world: World = GOOD,
    *,
    spec: Spec = SPEC,
    now: float | None = None,
    conditions: Conditions = UNCONDITIONAL,
    ready: int = 2,
    stable_ready: int = 2,
) -> Step:
    """The next look, at its time unless `now` is given."""
    now = progress.next_look if now is None else now
    window = Window(seconds=seconds(progress, now), ready=ready, stable_ready=stable_ready)
    answers = world.answers(asked(spec, window))
    return answered(spec, progress, seen(spec, answers, window, conditions), now)


def spec(**changes: object) -> Spec:
    return replace(SPEC, **changes)  # type: ignore[arg-type]
