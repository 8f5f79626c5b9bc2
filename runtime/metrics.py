"""Counters of the request path as plain numbers, turned into Prometheus families only when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from runtime.batcher import Why
from runtime.errors import STATUS_CODES
from runtime.telemetry.statistics import Statistics

if TYPE_CHECKING:
    from runtime.ondemand import OnDemand

# Seconds. A model's SLA is added as an edge of its own, so that "share of requests within the SLA" is exact.
_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """Cumulative buckets as Prometheus has them; an observation equal to an edge is inside it."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: Iterable[float]) -> None:
        self.edges = sorted(set(edges))
        self.counts = [0] * (len(self.edges) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.edges, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        result: list[tuple[str, float]] = []
        running = 0
        for edge, count in zip([*self.edges, float("inf")], self.counts, strict=True):
            running += count
            result.append(("+Inf" if edge == float("inf") else repr(edge), running))
        return result


_Key = TypeVar("_Key")


def _add(counts: dict[_Key, int], more: Mapping[_Key, int]) -> None:
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


@dataclass(slots=True)
class ModelMetrics:
    """What is counted for one model (or, with an empty version, for requests that name no model of ours)."""

    model: str
    version: str
    sla: float | None = None
    hardware: str = "cpu"
    codes: dict[int, int] = field(default_factory=lambda: dict.fromkeys(STATUS_CODES, 0))
    latency: Histogram = field(init=False)
    duration: Histogram = field(init=False)
    loaded: bool = False
    quantized: bool = False
    engine: str = ""
    inflight: int = 0
    queued: int = 0
    workers: int = 0
    split: int = 0
    slot_seconds: float = 0.0
    slot_seconds_before: float = 0.0  # of earlier generations
    warm_up_median: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[tuple[str, str], int] = field(default_factory=dict)
    candidates: dict[str, float] = field(default_factory=dict)
    batch_rows: Histogram = field(default_factory=lambda: Histogram(_ROWS))
    dispatches: dict[str, int] = field(default_factory=lambda: {why.value: 0 for why in Why})
    statistics: Statistics = field(default_factory=Statistics)
    current: bool = True  # the generation that requests go to
    reloads: dict[tuple[str, str], int] = field(default_factory=dict)  # by (result, reason)

    def __post_init__(self) -> None:
        edges = _EDGES if self.sla is None else (*_EDGES, self.sla)
        self.latency = Histogram(edges)
        self.duration = Histogram(edges)

    def succeed(self, old: ModelMetrics) -> None:
        """Takes over what is counted for the model whatever its version, and, from an equal version, all
        that is counted: no counter ever starts again.
        """
        old.current = old.loaded = False
        self.current = True
        _add(old.restarts, self.restarts)
        _add(old.fallbacks, self.fallbacks)
        _add(old.dispatches, self.dispatches)
        self.restarts, self.fallbacks, self.dispatches = old.restarts, old.fallbacks, old.dispatches
        self.reloads = old.reloads
        self.split += old.split
        self.slot_seconds_before = old.slot_seconds_before + old.slot_seconds
        self.batch_rows = old.batch_rows
        if self.duration.edges == old.duration.edges and self.quantized == old.quantized:
            self.duration = old.duration
        if self.version == old.version:
            self.resume(old)

    def resume(self, old: ModelMetrics) -> None:
        """Goes on with what an earlier generation of this version counted."""
        self.codes, self.statistics = old.codes, old.statistics
        if self.latency.edges == old.latency.edges:
            self.latency = old.latency

    def answered(self, status: int, seconds: float) -> None:
        self.codes[status] = self.codes.get(status, 0) + 1
        self.latency.observe(seconds)
        self.statistics.answered(status == 200, seconds)

    def dispatched(self, rows: int, why: str) -> None:
        self.batch_rows.observe(rows)
        self.dispatches[why] += 1


class OnDemandCollector(Collector):
    """What comes and goes on demand."""

    def __init__(self, on_demand: OnDemand, labels: Mapping[str, str]) -> None:
        self._on_demand = on_demand
        self._names = list(labels)
        self._values = list(labels.values())

    def collect(self) -> Iterable[Metric]:
        loads = CounterMetricFamily(
            "inference_on_demand_loads",
            "Models that requests asked for, by how that ended: loaded, failed, no room.",
            labels=["model", "result", *self._names],
        )
        for (model, result), count in sorted(self._on_demand.loads.items()):
            loads.add_metric([model, result, *self._values], count)
        evictions = CounterMetricFamily(
            "inference_on_demand_evictions",
            "Models that made room for others.",
            labels=["model", *self._names],
        )
        for model, count in sorted(self._on_demand.evictions.items()):
            evictions.add_metric([model, *self._values], count)
        resident = GaugeMetricFamily(
            "inference_on_demand_models", "Models on demand that are in memory or load.", labels=self._names
        )
        resident.add_metric(self._values, self._on_demand.resident)
        yield from (loads, evictions, resident)


class RuntimeCollector(Collector):
    """All families of this process. `labels` are constant and stand on every sample."""

    def __init__(
        self, models: Callable[[], Sequence[ModelMetrics]], labels: Mapping[str, str], slow: Callable[[], int]
    ) -> None:
        self._models = models
        self._names = list(labels)
        self._values = list(labels.values())
        self._slow = slow

    def collect(self) -> Iterable[Metric]:
        models = self._models()
        requests = self._counter(
            "inference_request", "Requests answered.", "model", "model_version", "status_code", "hardware"
        )
        latency = self._histogram(
            "inference_latency_seconds",
            "From a request's first byte to its answer.",
            "model",
            "model_version",
        )
        duration = self._histogram(
            "inference_duration_seconds", "The engine's own time for a batch.", "model", "quantized"
        )
        loaded = self._gauge(
            "model_load_success", "1 once the model is loaded and warm, 0 before or when it failed.", "model",
            "model_version",
        )  # fmt: skip
        inflight = self._gauge("inference_inflight_requests", "Requests in a worker.", "model")
        queued = self._gauge("inference_queue_requests", "Requests waiting for a worker.", "model")
        workers = self._gauge("inference_workers", "Worker processes that are ready.", "model")
        warm = self._gauge(
            "inference_warm_up_median_seconds", "Median run at warm-up.", "model", "model_version"
        )
        sla = self._gauge(
            "inference_latency_sla_seconds", "What the model promises, if it does.", "model", "model_version"
        )
        restarts = self._counter(
            "inference_worker_restarts", "Workers that died, by reason.", "model", "reason"
        )
        fallbacks = self._counter(
            "inference_engine_fallback",
            "Engines that failed at load and were replaced.",
            "model",
            "from",
            "to",
        )
        sizes = self._histogram("inference_batch_size", "Rows of each batch given to a worker.", "model")
        reasons = self._counter(
            "inference_batch_dispatch", "Batches by what made them go.", "model", "reason"
        )
        split = self._counter(
            "inference_request_split", "Requests run in parts, with more rows than a batch.", "model"
        )
        used = self._counter(
            "inference_slot_seconds", "Time in workers, times the slots that each run took.", "model"
        )
        candidates = self._gauge(
            "inference_engine_measured_seconds",
            "Median run at warm-up of each engine that could have served.",
            "model",
            "engine",
            "threads",
        )
        engine = InfoMetricFamily(
            "inference_engine", "The engine that serves.", labels=["model", "engine", *self._names]
        )
        reloads = self._counter(
            "inference_model_reload",
            "Attempts to replace the model while it serves, by result and reason.",
            "model",
            "result",
            "reason",
        )
        held: dict[str, list[int]] = {}
        for m in models:
            mine = held.setdefault(m.model, [0, 0])
            mine[0] += m.inflight
            mine[1] += m.queued
        for m in models:
            for code, count in sorted(m.codes.items()):
                self._add(requests, count, m.model, m.version, str(code), m.hardware)
            latency.add_metric([m.model, m.version, *self._values], m.latency.buckets(), m.latency.total)
            if not m.version and not m.model:
                continue
            self._add(loaded, float(m.loaded), m.model, m.version)
            if not m.current:
                continue
            quantized = "true" if m.quantized else "false"
            duration.add_metric([m.model, quantized, *self._values], m.duration.buckets(), m.duration.total)
            self._add(inflight, held[m.model][0], m.model)
            self._add(queued, held[m.model][1], m.model)
            self._add(workers, m.workers, m.model)
            self._add(warm, m.warm_up_median, m.model, m.version)
            if m.sla is not None:
                self._add(sla, m.sla, m.model, m.version)
            for reason, count in sorted(m.restarts.items()):
                self._add(restarts, count, m.model, reason)
            for (old, new), count in sorted(m.fallbacks.items()):
                self._add(fallbacks, count, m.model, old, new)
            sizes.add_metric([m.model, *self._values], m.batch_rows.buckets(), m.batch_rows.total)
            self._add(split, m.split, m.model)
            self._add(used, m.slot_seconds_before + m.slot_seconds, m.model)
            for why, count in m.dispatches.items():
                self._add(reasons, count, m.model, why)
            for name, seconds in m.candidates.items():
                measured, _, threads = name.partition("/")
                self._add(candidates, seconds, m.model, measured, threads)
            for (result, cause), count in sorted(m.reloads.items()):
                self._add(reloads, count, m.model, result, cause)
            if m.engine:
                engine.add_metric([m.model, m.engine, *self._values], {})
        slow = self._gauge("inference_slow_connections", "Connections closed for a slow or missing header.")
        self._add(slow, self._slow())
        yield from (
            requests, latency, duration, loaded, inflight, queued, workers, warm, sla, restarts, fallbacks,
            sizes, split, used, reasons, candidates, engine, reloads, slow,
        )  # fmt: skip

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*labels, *self._names])

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=[*labels, *self._names])

    def _histogram(self, name: str, text: str, *labels: str) -> HistogramMetricFamily:
        return HistogramMetricFamily(name, text, labels=[*labels, *self._names])

    def _add(self, family: CounterMetricFamily | GaugeMetricFamily, value: float, *labels: str) -> None:
        family.add_metric([*labels, *self._values], value)
