"""Which requests are traced, and what a real collector gets of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from runtime.telemetry.context import ROOT, Parent, decide, parse_traceparent
from runtime.telemetry.tracing import Tracing
from tests.runtime.conftest import DEADLINE, Running, connect, serving, wait_for
from tests.runtime.grpc_client import TENSORS, Y, client, raw
from tests.runtime.sick import HOLD, SICK_RUN, sickness

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
BODY = {"inputs": {"x": [[1, 2, 3]]}}
STAGES = ["receive", "preprocess", "queue", "infer", "postprocess"]


def never() -> float:
    raise AssertionError("nothing is drawn when the caller has decided")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{CALLER}",
        f"00-{TRACE}-{CALLER}-1",
        f"00-{TRACE}-{CALLER}-01-extra",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{TRACE[:-1]}-{CALLER}-01",
    ],
)
def test_what_is_not_a_traceparent_is_as_none(text: str) -> None:
    assert parse_traceparent(text) is None
    assert decide(text, 1.0, lambda: 0.5) is ROOT


def test_the_callers_decision_counts() -> None:
    sampled = decide(f"00-{TRACE}-{CALLER}-01", 0.0, never)
    assert sampled == Parent(int(TRACE, 16), int(CALLER, 16), True)
    assert decide(f"00-{TRACE}-{CALLER}-00", 1.0, never) is None
    # A later version of the standard may add fields and flags.
    assert decide(f"cc-{TRACE}-{CALLER}-09-what", 0.0, never) is not None


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_without_a_caller_a_share_is_traced(ratio: float, drawn: float) -> None:
    assert (decide(None, ratio, lambda: drawn) is ROOT) == (drawn < ratio)


@given(st.text(max_size=80))
def test_no_header_breaks_it(text: str) -> None:
    parse_traceparent(text)


def test_nothing_of_opentelemetry_is_imported_without_traces() -> None:
    code = (
        "import sys, runtime.__main__, runtime.serve, runtime.grpc.server\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE)
    assert got.stdout == "[]\n", got.stderr


class Collector(otlp_grpc.TraceServiceServicer):
    """Keeps all spans it gets, as dictionaries."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []

    def Export(self, request: Any, context: object) -> Any:
        for batch in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in batch.resource.attributes})
            self.spans += [span for scope in batch.scope_spans for span in scope.spans]
        return otlp.ExportTraceServiceResponse()

    def of(self, trace: str) -> dict[str, Any]:
        """The spans of one trace by name, once all have come; a root comes last."""
        wanted = bytes.fromhex(trace)
        found = {span.name: span for span in list(self.spans) if span.trace_id == wanted}
        return found if any(name.startswith(("POST", "inference.", "paddle.")) for name in found) else {}


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "gate"


@pytest.fixture(scope="module")
def traced(
    collector: tuple[Collector, str], nets: Mapping[str, Path], gate: Path
) -> Iterator[tuple[Running, Collector]]:
    kept, endpoint = collector
    hold = SICK_RUN.format(act=HOLD).strip()
    env = sickness(gate.parent)(hold) | {"SICK_FILE": str(gate), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--max-batch-size", "8"]
    with serving(*arguments, "--trace-ratio", "0", "--run-at-least", "60", env=env) as server:
        yield server, kept


ids = iter(range(1, 1000))


def fresh(flags: str = "01") -> tuple[str, dict[str, str]]:
    """A trace id of its own, and the header that asks for it."""
    trace = f"{next(ids):032x}"
    return trace, {"Traceparent": f"00-{trace}-{CALLER}-{flags}"}


def attributes(span: Any) -> dict[str, object]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def check_stages(spans: Mapping[str, Any], root: str) -> None:
    """One after the other without gaps, from the first byte to the answer, below the root."""
    assert list(spans)[:-1] == STAGES
    stages = [spans[name] for name in STAGES]
    assert spans[root].parent_span_id == bytes.fromhex(CALLER)
    assert {span.parent_span_id for span in stages} == {spans[root].span_id}
    assert stages[0].start_time_unix_nano == spans[root].start_time_unix_nano
    assert stages[-1].end_time_unix_nano == spans[root].end_time_unix_nano
    for one, other in pairwise(stages):
        assert one.start_time_unix_nano <= one.end_time_unix_nano == other.start_time_unix_nano


@pytest.mark.parametrize("fast", [True, False])
def test_the_stages_of_a_request(fast: bool, traced: tuple[Running, Collector]) -> None:
    server, kept = traced
    trace, headers = fresh()
    # aiohttp answers what says how its connection is to be used.
    got = server.post("/predict", BODY, headers if fast else {**headers, "Connection": "close"})
    assert got.status == 200
    spans = wait_for(lambda: kept.of(trace))
    assert isinstance(spans, dict)
    check_stages(spans, "POST /predict")
    infer = attributes(spans["infer"])
    assert (infer["batch.rows"], infer["batch.requests"]) == (1, 1)
    assert int(str(infer["run_ns"])) > 0
    root = attributes(spans["POST /predict"])
    assert (root["model"], root["status_code"]) == ("lin", 200)
    assert root["request_id"] == got.headers["X-Request-Id"]
    logged = [e for e in server.events("request") if e["request_id"] == root["request_id"]]
    assert logged[0]["trace_id"] == trace
    assert kept.resources[0]["service.name"] == "paddle-runtime"


def test_a_body_that_comes_late_was_being_received(traced: tuple[Running, Collector]) -> None:
    server, kept = traced
    trace, headers = fresh()
    body = json.dumps(BODY).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nTraceparent: {headers['Traceparent']}\r\n"
    answered = server.metric('inference_duration_seconds_count{model="lin"')
    with connect(server) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        server.get("/metrics", admin=True)  # two round trips through the same loop: the head has been read
        server.get("/livez")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert server.metric('inference_duration_seconds_count{model="lin"') == answered + 1
    spans = wait_for(lambda: kept.of(trace))
    assert isinstance(spans, dict)
    receive = spans["receive"]
    assert receive.end_time_unix_nano - receive.start_time_unix_nano > 100_000


def test_grpc_requests(traced: tuple[Running, Collector]) -> None:
    server, kept = traced
    with client(server.grpc) as one:
        trace, headers = fresh()
        metadata = [("traceparent", headers["Traceparent"])]
        assert one.infer(raw(), metadata=metadata).raw_output_contents == [Y]
        spans = wait_for(lambda: kept.of(trace))
        assert isinstance(spans, dict)
        check_stages(spans, "inference.GRPCInferenceService/ModelInfer")
        trace, headers = fresh()
        request = paddle.PredictRequest(
            input_tensor=TENSORS, metadata={"traceparent": headers["Traceparent"]}
        )
        assert one.paddle.Predict(request, timeout=DEADLINE).code == 0
        spans = wait_for(lambda: kept.of(trace))
        assert isinstance(spans, dict)
        check_stages(spans, "paddle.serving.PaddleModelService/Predict")


def test_those_of_one_batch_are_linked(traced: tuple[Running, Collector], gate: Path) -> None:
    server, kept = traced
    gate.write_text("")
    asked = [fresh(), fresh(), fresh("00"), fresh()]
    held, *together = [
        threading.Thread(target=server.post, args=("/predict", BODY, headers)) for _, headers in asked
    ]
    held.start()
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1)
    for thread in together:
        thread.start()
    wait_for(lambda: server.metric('inference_queue_requests{model="lin"') == 3)
    gate.unlink()
    for thread in (held, *together):
        thread.join(DEADLINE)
    first, one, _, other = (trace for trace, _ in asked)
    found = {trace: wait_for(lambda: kept.of(trace)) for trace in (first, one, other)}  # noqa: B023
    root = "POST /predict"
    for mine, peer in ((one, other), (other, one)):
        infer = found[mine]["infer"]  # type: ignore[index]
        assert attributes(infer)["batch.requests"] == 3
        assert [(link.trace_id.hex(), link.span_id) for link in infer.links] == [
            (peer, found[peer][root].span_id)  # type: ignore[index]
        ]
    assert not found[first]["infer"].links  # type: ignore[index]
    queue = found[one]["queue"]  # type: ignore[index]
    assert queue.end_time_unix_nano >= found[first]["infer"].end_time_unix_nano  # type: ignore[index]


def test_a_refused_request_ends_where_it_was_refused(traced: tuple[Running, Collector]) -> None:
    server, kept = traced
    trace, headers = fresh()
    assert server.post("/predict", {"inputs": {}}, headers).status == 400
    spans = wait_for(lambda: kept.of(trace))
    assert isinstance(spans, dict)
    assert list(spans) == ["receive", "preprocess", "POST /predict"]
    root = spans["POST /predict"]
    assert "'x' is missing" in str(attributes(root)["error.message"])
    assert root.status.code == root.status.STATUS_CODE_UNSET, "what the client did wrong is no fault of ours"


def test_what_is_not_sampled_is_not_there_and_loading_is(traced: tuple[Running, Collector]) -> None:
    server, kept = traced
    silent, headers = fresh("00")
    assert server.post("/predict", BODY, headers).status == 200
    assert server.post("/predict", BODY).status == 200
    last, headers = fresh()
    assert server.post("/predict", BODY, headers).status == 200
    wait_for(lambda: kept.of(last))
    assert not kept.of(silent)
    roots = {span.trace_id.hex() for span in kept.spans if span.name == "POST /predict"}
    assert all(int(trace, 16) < 1000 for trace in roots), "a trace that nobody asked for"
    (load,) = (span for span in kept.spans if span.name == "load")
    (warm,) = (span for span in kept.spans if span.name == "warm-up")
    assert warm.parent_span_id == load.span_id
    assert attributes(load)["engine"] == "native"
    assert load.start_time_unix_nano < warm.start_time_unix_nano < warm.end_time_unix_nano


def test_the_last_spans_are_sent_at_the_end(
    collector: tuple[Collector, str], nets: Mapping[str, Path]
) -> None:
    """Of a server without gRPC, for once."""
    kept, endpoint = collector
    before = len(kept.spans)
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--trace-ratio", "1"]
    with serving(*arguments, "--trace-endpoint", endpoint, "--grpc", "") as server:
        assert server.grpc == ""
        assert server.post("/predict", BODY).status == 200
    assert [span.name for span in kept.spans[before:]].count("POST /predict") == 1


def test_a_dead_collector_hurts_nobody() -> None:
    """What it does not take is thrown away; the end does not wait for it."""
    tracing = Tracing("http://127.0.0.1:1", ratio=1.0, resource={"service.name": "s"})
    for _ in range(100):
        mark = tracing.begin(None, "POST /predict")
        assert mark is not None
        tracing.end(mark, {"status_code": 200}, "")
    closed = threading.Thread(target=tracing.close)
    closed.start()
    closed.join(DEADLINE)
    assert not closed.is_alive()
