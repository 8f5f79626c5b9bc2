from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from runtime.errors import STATUS_CODES
from runtime.metrics import Histogram, ModelMetrics, RuntimeCollector


def text(*models: ModelMetrics) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RuntimeCollector(lambda: list(models), {"revision": "r1"}, lambda: 3))
    return generate_latest(registry).decode()


def test_an_observation_on_an_edge_is_within_it() -> None:
    histogram = Histogram([0.2, 0.1, 0.2])
    for seconds in (0.1, 0.2, 0.2000001):
        histogram.observe(seconds)
    assert histogram.buckets() == [("0.1", 1), ("0.2", 2), ("+Inf", 3)]


def test_every_code_is_there_from_the_start() -> None:
    out = text(ModelMetrics("m", "v1"))
    for code in STATUS_CODES:
        assert (
            f'inference_request_total{{hardware="cpu",model="m",model_version="v1",revision="r1",status_code="{code}"}}'
            " 0.0" in out
        )
    assert 'model_load_success{model="m",model_version="v1",revision="r1"} 0.0' in out
    assert 'inference_slow_connections{revision="r1"} 3.0' in out


def test_the_sla_is_an_edge() -> None:
    metrics = ModelMetrics("m", "v1", 0.2)
    metrics.answered(200, 0.2)
    metrics.answered(200, 0.21)
    out = text(metrics)
    assert 'inference_latency_sla_seconds{model="m",model_version="v1",revision="r1"} 0.2' in out
    assert 'inference_latency_seconds_bucket{le="0.2",model="m",model_version="v1",revision="r1"} 1.0' in out
    assert 'inference_latency_seconds_bucket{le="0.25",model="m",model_version="v1",revision="r1"} 2.0' in out
    assert 'inference_duration_seconds_bucket{le="0.2",model="m",quantized="false",revision="r1"} 0.0' in out


def test_engine_restarts_and_fallbacks() -> None:
    metrics = ModelMetrics("m", "v1", engine="native")
    metrics.restarts["Hung"] = 2
    metrics.fallbacks["onednn", "native"] = 1
    out = text(metrics, ModelMetrics("", ""))
    assert 'inference_worker_restarts_total{model="m",reason="Hung",revision="r1"} 2.0' in out
    assert 'inference_engine_fallback_total{from="onednn",model="m",revision="r1",to="native"} 1.0' in out
    assert 'inference_engine_info{engine="native",model="m",revision="r1"} 1.0' in out
    assert 'model_load_success{model="",' not in out
