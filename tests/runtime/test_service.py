"""One server with two real models: protocols, checks, metrics, progress. It is a process of its own."""

from __future__ import annotations

import json
import re
import struct

import pytest

from tests.runtime.conftest import Running, connect, wait_for
from tests.runtime.requests import HEADER, X, binary, blob_input, v2


def test_predict_by_name(server: Running) -> None:
    got = server.post("/predict", {"model": "lin", "inputs": {"x": [[1, 2, 3], [4, 5, 6]]}, "id": "mine"})
    assert got.status == 200
    (name,) = got.json["outputs"]  # type: ignore[misc]
    assert got.json == {
        "outputs": {name: [[13.0, 13.0], [31.0, 31.0]]},
        "model": "lin",
        "model_version": "v1.2.3",
        "id": "mine",
    }
    assert got.headers["X-Model-Version"] == "v1.2.3"


def test_predict_takes_the_v2_shape_and_flat_data(server: Running) -> None:
    for inputs in (
        [X],
        {"x": {"shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}},
        {"x": {"data": [[1, 2, 3]]}},
    ):
        got = server.post("/predict", {"model": "lin", "inputs": inputs})
        assert got.status == 200, got.body
        assert list(got.json["outputs"].values()) == [[[13.0, 13.0]]]  # type: ignore[attr-defined]


def test_request_ids_are_honoured_or_made(server: Running) -> None:
    body = {"model": "lin", "inputs": {"x": [[1, 2, 3]]}}
    got = server.post("/predict", body, {"X-Request-Id": "abc-1"})
    assert got.headers["X-Request-Id"] == got.json["id"] == "abc-1"
    got = server.post("/predict", body, {"X-Request-Id": "not good"})
    assert re.fullmatch("[0-9a-f]{32}", got.headers["X-Request-Id"])


def test_v2_infer_json(server: Running) -> None:
    a = v2("a", "FP32", [1, 4], [[0, 1, 2, 3]])
    ids = v2("ids", "INT64", [1, 2], [5, 6])
    got = server.post("/v2/models/two/versions/v1.2.3/infer", {"id": "42", "inputs": [ids, a]})
    assert got.status == 200, got.body
    assert got.json["id"] == "42"
    assert got.json["model_name"] == "two"
    assert got.json["model_version"] == "v1.2.3"
    outputs = got.json["outputs"]
    assert isinstance(outputs, list)
    assert [(o["datatype"], o["shape"], o["data"]) for o in outputs] == [
        ("FP32", [1, 4], [1.0, 3.0, 5.0, 7.0]),
        ("INT64", [1, 4], [5, 6, 5, 6]),
    ]
    second = outputs[1]["name"]
    got = server.post("/v2/models/two/infer", {"inputs": [a, ids], "outputs": [{"name": second}]})
    assert [o["name"] for o in got.json["outputs"]] == [second]  # type: ignore[attr-defined]


def test_v2_infer_binary_both_ways(server: Running) -> None:
    data = struct.pack("<3f", 1, 2, 3)
    document = {"inputs": [blob_input("x", "FP32", [1, 3], 12)], "parameters": {"binary_data_output": True}}
    body, headers = binary(document, data)
    got = server.request("POST", "/v2/models/lin/infer", body, headers)
    assert got.status == 200, got.body
    length = int(got.headers[HEADER])
    head = json.loads(got.body[:length])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "data" not in head["outputs"][0]
    assert struct.unpack("<2f", got.body[length:]) == (13.0, 13.0)


def test_an_outputs_own_wish_for_binary_wins(server: Running) -> None:
    meta = server.get("/v2/models/two").json
    first, second = (o["name"] for o in meta["outputs"])  # type: ignore[attr-defined]
    document = {
        "inputs": [v2("a", "FP32", [1, 4], [0, 1, 2, 3]), blob_input("ids", "INT64", [1, 2], 16)],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": second}, {"name": first, "parameters": {"binary_data": False}}],
    }
    body, headers = binary(document, struct.pack("<2q", 5, 6))
    got = server.request("POST", "/v2/models/two/infer", body, headers)
    length = int(got.headers[HEADER])
    outputs = json.loads(got.body[:length])["outputs"]
    assert [o["name"] for o in outputs] == [second, first]
    assert outputs[1]["data"] == [1.0, 3.0, 5.0, 7.0]
    assert got.body[length:] == struct.pack("<4q", 5, 6, 5, 6)


def test_v2_raw_body(server: Running) -> None:
    got = server.request(
        "POST", "/v2/models/lin/infer", struct.pack("<3f", 1, 2, 3),
        {"Content-Type": "application/octet-stream", HEADER: "0"},
    )  # fmt: skip
    assert got.status == 200, got.body
    assert struct.unpack("<2f", got.body[int(got.headers[HEADER]) :]) == (13.0, 13.0)


def test_v2_metadata_and_health(server: Running) -> None:
    assert server.get("/v2").json["name"] == "paddle-runtime"
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/livez").status == 200
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert server.get("/v2/models/lin/ready").json == {"name": "lin", "ready": True}
    meta = server.get("/v2/models/lin/versions/v1.2.3").json
    assert meta["versions"] == ["v1.2.3"]
    assert meta["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert meta["platform"] == "paddle_pir"
    assert isinstance(meta["parameters"], dict)
    assert meta["parameters"]["batching_difference"] <= 1e-4
    assert meta["parameters"]["threads"] >= 1
    assert re.match(r"native/\d+ [0-9.e-]+", str(meta["parameters"]["measured_milliseconds"]))
    varying = {"batching_difference", "threads", "slots", "measured_milliseconds"}
    assert {name: value for name, value in meta["parameters"].items() if name not in varying} == {
        "engine": "native",
        "batch_engine": "",
        "note": "",
        "priority": 100,
        "max_batch_size": 8,
        "batching": "",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/predict", 405, "use POST"),
        ("POST", "/healthz", 405, "use GET"),
        ("GET", "/v2/models/lin/infer", 405, "use POST"),
        ("GET", "/nothing", 404, "/nothing is not served"),
        ("GET", "/v2/models/none", 404, "'none' is unknown"),
        ("POST", "/v2/models/none/infer", 404, "'none' is unknown"),
        ("GET", "/v2/models/lin/versions/v9.9.9", 404, "has no version 'v9.9.9'"),
        ("GET", "/v2/models/lin/versions", 404, "is not served"),
        ("GET", "/v2/models/", 404, "is not served"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, text: str, server: Running) -> None:
    got = server.request(method, path)
    assert got.status == status
    assert text in str(got.json["error"])
    assert "X-Request-Id" in got.headers


def test_a_model_must_be_named_when_there_are_several(server: Running) -> None:
    got = server.post("/predict", {"inputs": {"x": [[1, 2, 3]]}})
    assert got.status == 400
    assert "send one of 'lin', 'two'" in str(got.json["error"])
    assert server.post("/predict", {"model": 3, "inputs": {}}).status == 400
    assert server.post("/predict", {"model": "none", "inputs": {}}).status == 404


def test_content_types(server: Running) -> None:
    body = json.dumps({"model": "lin", "inputs": {"x": [[1, 2, 3]]}}).encode()
    for kind in ("application/json; charset=utf-8", "application/x-www-form-urlencoded"):
        assert server.request("POST", "/predict", body, {"Content-Type": kind}).status == 200
    got = server.request("POST", "/predict", body, {"Content-Type": "text/xml"})
    assert got.status == 415
    assert "text/xml" in str(got.json["error"])


def exchange(server: Running, request: bytes) -> bytes:
    """Everything the server says until it closes."""
    with connect(server) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_lengths_missing_or_too_large(server: Running) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert b"411" in exchange(server, head + b"\r\n").split(b"\r\n")[0]
    answer = exchange(server, head + b"Content-Length: 1048577\r\n\r\n")
    assert b"413" in answer.split(b"\r\n")[0]
    assert b'{"error":"the body is larger than 1048576 bytes"}' in answer
    chunk = b"%x\r\n%s\r\n" % (300_000, b" " * 300_000)
    answer = exchange(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4 + b"0\r\n\r\n")
    assert b"413" in answer.split(b"\r\n")[0]


def test_a_compressed_body_counts_decompressed(server: Running) -> None:
    import gzip

    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
    good = gzip.compress(json.dumps({"model": "lin", "inputs": {"x": [[1, 2, 3]]}}).encode())
    assert b" 200 " in exchange(server, head + b"Content-Length: %d\r\n\r\n" % len(good) + good)
    bomb = gzip.compress(b" " * (8 << 20))
    answer = exchange(server, head + b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb)
    assert b" 413 " in answer or b" 400 " in answer


def test_unreadable_http_is_an_error_object(server: Running) -> None:
    answer = exchange(server, b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer
    assert b'{"error":' in answer


def test_smuggling_is_refused(server: Running) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    for lengths in (
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    ):
        assert b" 400 " in exchange(server, head + lengths + b"\r\nabc")


def test_expect_continue(server: Running) -> None:
    body = json.dumps({"model": "lin", "inputs": {"x": [[1, 2, 3]]}}).encode()
    with connect(server) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_deadlines_must_be_readable(server: Running) -> None:
    body = {"model": "lin", "inputs": {"x": [[1, 2, 3]]}}
    for text in ("soon", "0", "-1", "inf", "nan"):
        assert server.post("/predict", body, {"X-Request-Timeout": text}).status == 400
    assert server.post("/predict", body, {"X-Request-Timeout": "5"}).status == 200


def test_metrics_have_the_agreed_names_and_labels(server: Running) -> None:
    got = server.get("/metrics", admin=True)
    assert got.headers["Content-Type"].startswith("text/plain")
    text = got.body.decode()
    constant = 'paddle_namespace="team-a",paddle_service="demo",revision="ab12cd34"'
    for code in (200, 400, 404, 429, 500, 503, 504):
        assert (
            f'inference_request_total{{hardware="cpu",model="lin",model_version="v1.2.3",{constant},'
            f'status_code="{code}"}}' in text
        )
    assert (
        f'inference_latency_seconds_bucket{{le="0.037",model="lin",model_version="v1.2.3",{constant}}}'
        in text
    )
    assert 'le="0.037",model="two"' not in text
    assert (
        'inference_duration_seconds_count{model="lin",paddle_namespace="team-a",paddle_service="demo",'
        'quantized="false",revision="ab12cd34"}' in text
    )
    for name in ("inference_inflight_requests", "inference_queue_requests"):
        assert f'{name}{{model="lin",{constant}}} 0.0' in text
    assert f'model_load_success{{model="lin",model_version="v1.2.3",{constant}}} 1.0' in text
    assert f'inference_engine_info{{engine="native",model="lin",{constant}}} 1.0' in text
    openmetrics = server.request(
        "GET", "/metrics", headers={"Accept": "application/openmetrics-text"}, admin=True
    )
    assert openmetrics.body.endswith(b"# EOF\n")


def test_codes_are_counted(server: Running) -> None:
    start = 'inference_request_total{hardware="cpu",model="lin",model_version="v1.2.3",'
    start += 'paddle_namespace="team-a",paddle_service="demo",revision="ab12cd34",status_code="%d"}'
    before = server.metric(start % 200), server.metric(start % 400)
    server.post("/predict", {"model": "lin", "inputs": {"x": [[1, 2, 3]]}})
    server.post("/predict", {"model": "lin", "inputs": {}})
    assert (server.metric(start % 200), server.metric(start % 400)) == (before[0] + 1, before[1] + 1)


def test_progress_is_the_operators_view(server: Running) -> None:
    got = server.progress()
    assert got["stage"] == "Ready"
    assert got["revision"] == "ab12cd34"
    model = server.model()
    assert model["warmUpMedianMilliseconds"] > 0
    assert {**model, "warmUpMedianMilliseconds": 0} == {
        "name": "lin", "version": "v1.2.3", "digest": "", "contentDigest": "", "state": "Ready", "reason": "",
        "message": "", "bytesDone": 0, "bytesTotal": 0, "bytesPerSecond": 0.0, "etaSeconds": 0.0,
        "engine": "native", "warmUpMedianMilliseconds": 0,
    }  # fmt: skip
    assert server.get("/livez", admin=True).status == 200
    assert server.get("/other", admin=True).status == 404
    assert server.request("POST", "/progress", admin=True).status == 405


def test_access_log_lines(server: Running) -> None:
    server.post("/predict", {"model": "lin", "inputs": {}}, {"X-Request-Id": "logged-1"})
    line = wait_for(
        lambda: next((e for e in server.events("request") if e["request_id"] == "logged-1"), None)
    )
    assert isinstance(line, dict)
    assert line["model"] == "lin"
    assert line["model_version"] == "v1.2.3"
    assert line["status"] == 400
    assert "'x' is missing" in str(line["error"])
