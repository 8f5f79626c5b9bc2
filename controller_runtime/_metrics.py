"""Prometheus metrics: the names, labels and buckets of Go's controller-runtime, and a few of our own.

Label children are bound once, when a controller or an informer is made; what runs per event only counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from ._objects import Kind

if TYPE_CHECKING:
    from aiohttp import web

RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
# Multiplied up as Go does it, so that `le` is the same to the last digit (9.999999999999999e-06 is one).
QUEUE_BUCKETS = tuple(accumulate([10e-9, *[10.0] * 11], mul))
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RESULTS = ("success", "error", "requeue", "requeue_after")
MAX_PRIORITIES = 25
EXCEEDED = "exceeded_cardinality_limit"


class QueueGauges(Protocol):
    """What a queue can say of the keys in workers' hands, read when a scrape asks."""

    def unfinished_seconds(self) -> float: ...
    def longest_running_seconds(self) -> float: ...


class QueueRecorder:
    """Implements `QueueMetrics` for one controller's queue."""

    def __init__(self, metrics: PrometheusMetrics, name: str) -> None:
        labels = {"name": name, "controller": name}
        self._depth = metrics.depth
        self._name = name
        self._levels: dict[int, Gauge] = {}
        self._adds = metrics.adds.labels(**labels)
        self._retries = metrics.retries.labels(**labels)
        self._waited = metrics.queue_seconds.labels(**labels)
        self._worked = metrics.work_seconds.labels(**labels)
        self._unfinished = metrics.unfinished.labels(**labels)
        self._longest = metrics.longest.labels(**labels)
        self._level(0)

    def watch(self, queue: QueueGauges) -> None:
        """Read the gauges of keys in hand from `queue` at every scrape."""
        self._unfinished.set_function(queue.unfinished_seconds)
        self._longest.set_function(queue.longest_running_seconds)

    def added(self, priority: int) -> None:
        self._adds.inc()
        self._level(priority).inc()

    def moved(self, before: int, after: int) -> None:
        self._level(before).dec()
        self._level(after).inc()

    def taken(self, priority: int, waited: float) -> None:
        self._level(priority).dec()
        self._waited.observe(waited)

    def done(self, worked: float) -> None:
        self._worked.observe(worked)

    def retried(self) -> None:
        self._retries.inc()

    def _level(self, priority: int) -> Gauge:
        child = self._levels.get(priority)
        if child is None:
            label = str(priority) if len(self._levels) < MAX_PRIORITIES else EXCEEDED
            child = self._depth.labels(name=self._name, controller=self._name, priority=label)
            self._levels[priority] = child
        return child


class ControllerRecorder:
    """The bound metrics of one controller."""

    def __init__(self, metrics: PrometheusMetrics, name: str, workers: int) -> None:
        self.queue = QueueRecorder(metrics, name)
        results = {result: metrics.reconciles.labels(controller=name, result=result) for result in RESULTS}
        self.success = results["success"]
        self.error = results["error"]
        self.requeue_after = results["requeue_after"]
        self.errors = metrics.errors.labels(controller=name)
        self.terminal_errors = metrics.terminal_errors.labels(controller=name)
        self.panics = metrics.panics.labels(controller=name)
        self.timeouts = metrics.timeouts.labels(controller=name)
        self.seconds = metrics.reconcile_seconds.labels(controller=name)
        self.active = metrics.active.labels(controller=name)
        self.stale_waits = metrics.stale_waits.labels(controller=name)
        metrics.max_concurrent.labels(controller=name).set(workers)
        self.active.set(0)


class WatchRecorder:
    """Implements `WatchMetrics` for one informer."""

    def __init__(self, metrics: PrometheusMetrics, kind: str) -> None:
        self._kind = kind
        self._lists = metrics.lists.labels(kind=kind)
        self._ended = metrics.watches_ended
        self._malformed = metrics.malformed.labels(kind=kind)
        self._failed = metrics.handlers_failed.labels(kind=kind)
        self._objects = metrics.cache_objects.labels(kind=kind)
        self._bytes = metrics.cache_bytes.labels(kind=kind)

    def listed(self) -> None:
        self._lists.inc()

    def watch_ended(self, reason: str) -> None:
        self._ended.labels(kind=self._kind, reason=reason).inc()

    def malformed(self) -> None:
        self._malformed.inc()

    def handler_failed(self) -> None:
        self._failed.inc()

    def objects(self, count: int, size: int) -> None:
        self._objects.set(count)
        self._bytes.set(size)


class PrometheusMetrics:
    """All metrics of one process on one registry.

    The registry defaults to one of its own that also has the process, platform and garbage collector
    metrics; pass `prometheus_client.REGISTRY` to share the global one. Raises ValueError when the registry
    already holds metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, request_durations: bool = False) -> None:
        if registry is None:
            registry = CollectorRegistry()
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.PlatformCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        self.registry = registry
        self._controllers: set[str] = set()
        self._requests: dict[tuple[str, str, str], Counter] = {}
        self._request_seconds: dict[tuple[str, str], Histogram] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        go = "controller_runtime_"
        self.reconciles = counter(
            f"{go}reconcile_total", "Reconciles per controller and result", "controller", "result"
        )
        self.errors = counter(f"{go}reconcile_errors_total", "Failed reconciles", "controller")
        self.terminal_errors = counter(
            f"{go}terminal_reconcile_errors_total", "Reconciles that failed for good", "controller"
        )
        self.panics = counter(
            f"{go}reconcile_panics_total", "Reconciles that ended in a programming error", "controller"
        )
        self.timeouts = counter(
            f"{go}reconcile_timeouts_total", "Reconciles cut off by the reconciliation timeout", "controller"
        )
        self.reconcile_seconds = histogram(
            f"{go}reconcile_time_seconds", "Length of a reconcile", RECONCILE_BUCKETS, "controller"
        )
        self.max_concurrent = gauge(
            f"{go}max_concurrent_reconciles", "Workers of the controller", "controller"
        )
        self.active = gauge(f"{go}active_workers", "Workers now reconciling", "controller")

        queue = ("name", "controller")
        self.depth = gauge("workqueue_depth", "Keys that are ready", *queue, "priority")
        self.adds = counter("workqueue_adds_total", "Keys that became ready", *queue)
        self.retries = counter("workqueue_retries_total", "Keys added with a delay", *queue)
        self.queue_seconds = histogram(
            "workqueue_queue_duration_seconds", "How long a key was ready", QUEUE_BUCKETS, *queue
        )
        self.work_seconds = histogram(
            "workqueue_work_duration_seconds", "How long a worker had a key", QUEUE_BUCKETS, *queue
        )
        self.unfinished = gauge(
            "workqueue_unfinished_work_seconds", "Sum of the time that keys in hand have been there", *queue
        )
        self.longest = gauge(
            "workqueue_longest_running_processor_seconds", "The longest time a key is in hand", *queue
        )

        self.requests = counter(
            "rest_client_requests_total", "API requests by code, method and host", "code", "method", "host"
        )
        self.request_seconds = (
            histogram(
                "rest_client_request_duration_seconds", "Time to reply", REQUEST_BUCKETS, "verb", "host"
            )
            if request_durations
            else None
        )
        self.leader = gauge("leader_election_master_status", "1 while this process leads", "name")
        self.slow_path = counter(
            "leader_election_slowpath_total", "Renewals that had to read the lease first", "name"
        )

        own = "controller_runtime_py_"
        self.loop_lag = histogram(f"{own}loop_lag_seconds", "Lateness of a timer in the loop", LAG_BUCKETS)
        self.loop_blocked = counter(f"{own}loop_blocked_total", "Blocks of the event loop", "task")
        self.lists = counter(f"{own}lists_total", "Full lists taken, relists included", "kind")
        self.watches_ended = counter(f"{own}watches_ended_total", "Ends of watch streams", "kind", "reason")
        self.malformed = counter(f"{own}malformed_objects_total", "Objects skipped as unreadable", "kind")
        self.handlers_failed = counter(
            f"{own}handler_failures_total", "Events that a handler failed on", "kind"
        )
        self.cache_objects = gauge(f"{own}cache_objects", "Objects in the cache", "kind")
        self.cache_bytes = gauge(f"{own}cache_bytes", "Encoded size of the objects in the cache", "kind")
        self.stale_waits = counter(
            f"{own}stale_waits_total",
            "Reconciles whose own writes were not in the cache in time",
            "controller",
        )
        self.events_dropped = counter(f"{own}events_dropped_total", "Events not written", "reason")

    def controller(self, name: str, *, workers: int = 1) -> ControllerRecorder:
        """Bind a controller's metrics. Raises ValueError for a name already in use in this process."""
        if name in self._controllers:
            raise ValueError(f"controller name {name!r} is taken: names label metrics and must be unique")
        self._controllers.add(name)
        return ControllerRecorder(self, name, workers)

    def request(self, code: str, method: str, host: str, seconds: float) -> None:
        key = (code, method, host)
        child = self._requests.get(key)
        if child is None:
            child = self._requests[key] = self.requests.labels(code, method, host)
        child.inc()
        if self.request_seconds is not None:
            pair = (method, host)
            timer = self._request_seconds.get(pair)
            if timer is None:
                timer = self._request_seconds[pair] = self.request_seconds.labels(method, host)
            timer.observe(seconds)

    def watch(self, kind: Kind) -> WatchRecorder:
        return WatchRecorder(self, str(kind))

    def leadership(self, name: str) -> Callable[[bool], None]:
        """Bind the leader gauge for the lease `name`; starts at 0."""
        child = self.leader.labels(name=name)
        child.set(0)
        return lambda leads: child.set(1 if leads else 0)

    async def handle(self, request: web.Request) -> web.Response:
        """Serve a scrape, in the text or OpenMetrics format that it accepts."""
        from aiohttp import web

        encode, content_type = prometheus_client.exposition.choose_encoder(request.headers.get("Accept", ""))
        body = encode(_WithoutCreated(self.registry))
        return web.Response(body=body, headers={"Content-Type": content_type})


class _WithoutCreated(CollectorRegistry):
    """A view of a registry without the `_created` series, a third of a scrape, which Go does not serve."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            shown = copy(family)
            shown.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield shown
