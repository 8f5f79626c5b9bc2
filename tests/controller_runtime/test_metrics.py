import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from controller_runtime import DEPLOYMENT, POD
from controller_runtime._health import HttpServer
from controller_runtime._metrics import EXCEEDED, MAX_PRIORITIES, PrometheusMetrics
from controller_runtime._workqueue import LOW_PRIORITY, WorkQueue

# Name, type, labels and, for histograms, buckets, as Go's controller-runtime exposes them.
GO = {
    "controller_runtime_reconcile_total": ("counter", {"controller", "result"}),
    "controller_runtime_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_terminal_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_panics_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_timeouts_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_time_seconds_bucket": ("histogram", {"controller", "le"}),
    "controller_runtime_max_concurrent_reconciles": ("gauge", {"controller"}),
    "controller_runtime_active_workers": ("gauge", {"controller"}),
    "workqueue_depth": ("gauge", {"name", "controller", "priority"}),
    "workqueue_adds_total": ("counter", {"name", "controller"}),
    "workqueue_retries_total": ("counter", {"name", "controller"}),
    "workqueue_queue_duration_seconds_bucket": ("histogram", {"name", "controller", "le"}),
    "workqueue_work_duration_seconds_bucket": ("histogram", {"name", "controller", "le"}),
    "workqueue_unfinished_work_seconds": ("gauge", {"name", "controller"}),
    "workqueue_longest_running_processor_seconds": ("gauge", {"name", "controller"}),
    "rest_client_requests_total": ("counter", {"code", "method", "host"}),
    "rest_client_request_duration_seconds_bucket": ("histogram", {"verb", "host", "le"}),
    "leader_election_master_status": ("gauge", {"name"}),
}


def samples(metrics: PrometheusMetrics, text: str) -> dict[str, tuple[str, set[str]]]:
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, (family.type, set(sample.labels)))
    return found


async def scrape(metrics: PrometheusMetrics, accept: str = "") -> tuple[str, str]:
    server = HttpServer("127.0.0.1:0", {"/metrics": metrics.handle})
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}/metrics"
            async with session.get(url, headers={"Accept": accept}) as response:
                return response.headers["Content-Type"], await response.text()
    finally:
        await server.stop()


async def test_names_and_labels_are_those_of_go() -> None:
    metrics = PrometheusMetrics(CollectorRegistry(), request_durations=True)
    metrics.controller("c", workers=3)
    metrics.request("200", "GET", "host", 0.1)
    metrics.leadership("lock")
    content_type, text = await scrape(metrics)
    assert content_type.startswith("text/plain")
    found = samples(metrics, text)
    assert {name: found.get(name) for name in GO} == GO
    ours = {name for name in found if name not in GO and not name.endswith(("_created", "_sum", "_count"))}
    assert all(name.startswith(("controller_runtime_py_", "leader_election_slowpath")) for name in ours), ours


async def test_openmetrics_on_request_and_a_registry_of_our_own_by_default() -> None:
    metrics = PrometheusMetrics()
    content_type, text = await scrape(metrics, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert "process_resident_memory_bytes" in text
    assert text.rstrip().endswith("# EOF")


def buckets(registry: CollectorRegistry, name: str) -> list[float]:
    family = next(family for family in registry.collect() if family.name == name)
    return [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]


def test_buckets_are_those_of_go() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry).controller("c")
    reconcile = buckets(registry, "controller_runtime_reconcile_time_seconds")
    assert reconcile[:6] == [0.005, 0.01, 0.025, 0.05, 0.1, 0.15]
    assert reconcile[-3:] == [50, 60, float("inf")]
    assert len(reconcile) == 41
    queue = buckets(registry, "workqueue_queue_duration_seconds")
    assert queue == pytest.approx([*(1e-8 * 10**exponent for exponent in range(12)), float("inf")])


def test_results_are_there_before_the_first_reconcile() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry).controller("c", workers=4)
    for result in ("success", "error", "requeue", "requeue_after"):
        labels = {"controller": "c", "result": result}
        assert registry.get_sample_value("controller_runtime_reconcile_total", labels) == 0
    assert registry.get_sample_value("controller_runtime_max_concurrent_reconciles", {"controller": "c"}) == 4


async def test_the_queue_reports_depth_by_priority_and_keys_in_hand() -> None:
    registry = CollectorRegistry()
    recorder = PrometheusMetrics(registry).controller("c").queue
    queue: WorkQueue[str] = WorkQueue(metrics=recorder)
    recorder.watch(queue)
    labels = {"name": "c", "controller": "c"}

    def depth(priority: str) -> float | None:
        return registry.get_sample_value("workqueue_depth", {**labels, "priority": priority})

    queue.add("a", priority=LOW_PRIORITY)
    queue.add("b", priority=LOW_PRIORITY)
    queue.add("c", after=60.0)
    queue.add("a")
    assert (depth("0"), depth("-100")) == (1, 1)
    assert registry.get_sample_value("workqueue_adds_total", labels) == 2
    assert registry.get_sample_value("workqueue_retries_total", labels) == 1
    assert registry.get_sample_value("workqueue_unfinished_work_seconds", labels) == 0
    await queue.get()
    assert depth("0") == 0
    unfinished = registry.get_sample_value("workqueue_unfinished_work_seconds", labels)
    longest = registry.get_sample_value("workqueue_longest_running_processor_seconds", labels)
    assert unfinished is not None
    assert longest is not None
    assert 0 < unfinished <= longest
    queue.done("a")
    assert registry.get_sample_value("workqueue_work_duration_seconds_count", labels) == 1
    queue.shutdown()


def test_priorities_cannot_flood_the_registry() -> None:
    registry = CollectorRegistry()
    recorder = PrometheusMetrics(registry).controller("c").queue
    for priority in range(100):
        recorder.added(priority)
    family = next(family for family in registry.collect() if family.name == "workqueue_depth")
    assert len(family.samples) == MAX_PRIORITIES + 1
    labels = {"name": "c", "controller": "c", "priority": EXCEEDED}
    assert registry.get_sample_value("workqueue_depth", labels) == 100 - MAX_PRIORITIES


def test_watch_and_leader_figures() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    watch = metrics.watch(DEPLOYMENT)
    watch.listed()
    watch.watch_ended("eof")
    watch.malformed()
    watch.handler_failed()
    watch.objects(3, 4096)
    metrics.watch(POD).objects(1, 10)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"controller_runtime_py_{name}", labels)

    assert value("lists_total", kind="Deployment.apps") == 1
    assert value("watches_ended_total", kind="Deployment.apps", reason="eof") == 1
    assert value("malformed_objects_total", kind="Deployment.apps") == 1
    assert value("handler_failures_total", kind="Deployment.apps") == 1
    assert value("cache_objects", kind="Deployment.apps") == 3
    assert value("cache_bytes", kind="Deployment.apps") == 4096
    assert value("cache_objects", kind="Pod") == 1
    leads = metrics.leadership("lock")
    assert registry.get_sample_value("leader_election_master_status", {"name": "lock"}) == 0
    leads(True)
    assert registry.get_sample_value("leader_election_master_status", {"name": "lock"}) == 1
    leads(False)
    assert registry.get_sample_value("leader_election_master_status", {"name": "lock"}) == 0


def test_two_on_one_registry_is_an_error() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusMetrics(registry)
