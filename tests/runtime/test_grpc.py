"""The gRPC port of a real server: both services, codes, health and reflection."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from runtime.addresses import reserve
from runtime.grpc.stubs import open_inference_pb2 as pb
from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from tests.runtime.conftest import DEADLINE, Running, entry, serving, wait_for
from tests.runtime.grpc_client import TENSORS, Client, X, Y, client, error_of, listed, raw, status


@pytest.fixture(scope="module")
def served(nets: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("grpc")
    config = folder / "models.yaml"
    models = [entry("lin", nets["linear"], engine="native"), entry("two", nets["two"], engine="native")]
    config.write_text(
        yaml.safe_dump(
            {"schema": 1, "service": "s", "namespace": "n", "revision": "ab12cd34", "models": models}
        )
    )
    with serving("--config", str(config), "--models", str(folder), "--max-body", "1") as running:
        yield running


@pytest.fixture(scope="module")
def caller(served: Running) -> Iterator[Client]:
    with client(served.grpc) as one:
        yield one


def codes(server: Running) -> dict[str, float]:
    """Requests by status code, over all models."""
    found: dict[str, float] = {}
    for line in server.get("/metrics", admin=True).body.decode().splitlines():
        if line.startswith("inference_request_total"):
            code = line.partition('status_code="')[2].partition('"')[0]
            found[code] = found.get(code, 0) + float(line.rpartition(" ")[2])
    return found


def test_health_and_metadata_are_those_of_rest(served: Running, caller: Client) -> None:
    assert caller.v2.ServerLive(pb.ServerLiveRequest()).live
    assert caller.v2.ServerReady(pb.ServerReadyRequest()).ready
    assert caller.v2.ModelReady(pb.ModelReadyRequest(name="lin", version="v1.2.3")).ready
    server = served.get("/v2").json
    found = caller.v2.ServerMetadata(pb.ServerMetadataRequest())
    assert {"name": found.name, "version": found.version, "extensions": list(found.extensions)} == server
    rest = served.get("/v2/models/two").json
    model = caller.v2.ModelMetadata(pb.ModelMetadataRequest(name="two"))

    def side(tensors: Any) -> list[dict[str, object]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in tensors]

    assert [model.name, list(model.versions), model.platform] == [
        rest["name"], rest["versions"], rest["platform"],
    ]  # fmt: skip
    assert side(model.inputs) == rest["inputs"]
    assert side(model.outputs) == rest["outputs"]


def test_raw_in_is_raw_out(caller: Client) -> None:
    response, call = caller.v2.ModelInfer.with_call(
        raw(id="mine", data=X + X, model_version="v1.2.3"), timeout=DEADLINE
    )
    assert response.raw_output_contents == [Y + Y]
    assert [(list(o.shape), o.HasField("contents")) for o in response.outputs] == [([2, 2], False)]
    assert (response.id, response.model_name, response.model_version) == ("mine", "lin", "v1.2.3")
    metadata = dict(call.trailing_metadata())
    assert metadata["x-model-version"] == "v1.2.3"
    assert metadata["x-request-id"] == "mine"


def test_typed_in_is_typed_out(caller: Client) -> None:
    inputs = [
        {"name": "ids", "datatype": "INT64", "shape": [1, 2], "contents": {"int64_contents": [5, 6]}},
        {"name": "a", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [0, 1, 2, 3]}},
    ]
    response = caller.infer(pb.ModelInferRequest(model_name="two", inputs=inputs))  # type: ignore[arg-type]
    assert not response.raw_output_contents
    first, second = response.outputs
    assert list(first.contents.fp32_contents) == [1, 3, 5, 7]
    assert list(second.contents.int64_contents) == [5, 6, 5, 6]
    assert response.id
    asked = pb.ModelInferRequest(model_name="two", inputs=inputs, outputs=[{"name": second.name}])  # type: ignore[arg-type, list-item]
    assert [o.name for o in caller.infer(asked).outputs] == [second.name]


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 3], **changed}


FP32 = {"contents": {"fp32_contents": [1, 2, 3]}}
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs is empty"),
    "unknown input": ({"inputs": [tensor(name="z", **FP32)]}, "input 'z' is unknown; the model expects 'x'"),
    "given twice": ({"inputs": [tensor(**FP32), tensor(**FP32)]}, "input 'x' is given twice"),
    "datatype": ({"inputs": [tensor(datatype="INT64")]}, "input 'x': datatype INT64 does not fit"),
    "unknown datatype": ({"inputs": [tensor(datatype="FLOAT")]}, "datatype 'FLOAT'"),
    "negative": ({"inputs": [tensor(shape=[-1, 3], **FP32)]}, "input 'x': shape [-1, 3]"),
    "rank": ({"inputs": [tensor(shape=[3], **FP32)]}, "input 'x': shape [3]"),
    "many dims": ({"inputs": [tensor(shape=[1] * 17, **FP32)]}, "at most 16"),
    "huge": ({"inputs": [tensor(shape=[2**40, 3], **FP32)]}, "input 'x': shape"),
    "nothing in it": ({"inputs": [tensor()]}, "fp32_contents is empty"),
    "wrong field": ({"inputs": [tensor(contents={"fp64_contents": [1, 2, 3]})]}, "fp32_contents is empty"),
    "too few": ({"inputs": [tensor(contents={"fp32_contents": [1]})]}, "input 'x': 4 bytes"),
    "raw too short": ({"inputs": [tensor()], "raw_input_contents": [X[:8]]}, "input 'x': 8 bytes"),
    "raw too many": ({"inputs": [tensor()], "raw_input_contents": [X, X]}, "2 entries for 1 inputs"),
    "raw and typed": ({"inputs": [tensor(**FP32)], "raw_input_contents": [X]}, "'x': contents and raw"),
    "output": ({"inputs": [tensor(**FP32)], "outputs": [{"name": "q"}]}, "output 'q' is unknown"),
    "timeout": (
        {"inputs": [tensor(**FP32)], "parameters": {"timeout": {"int64_param": -1}}},
        "parameter timeout",
    ),
    "timeout as text": (
        {"inputs": [tensor(**FP32)], "parameters": {"timeout": {"string_param": "1"}}},
        "parameter timeout",
    ),
    "shared memory": (
        {"inputs": [tensor(parameters={"shared_memory_region": {"string_param": "r"}})]},
        "input 'x': shared memory is not enabled",
    ),
}


@pytest.mark.parametrize("case", list(MALFORMED))
def test_malformed_requests_are_answered_by_name(case: str, served: Running, caller: Client) -> None:
    fields, text = MALFORMED[case]
    before = served.metric('inference_duration_seconds_count{model="lin"')
    name, details = status(error_of(lambda: caller.infer(pb.ModelInferRequest(model_name="lin", **fields))))
    assert name == "INVALID_ARGUMENT"
    assert text in details
    assert served.metric('inference_duration_seconds_count{model="lin"') == before


def test_codes_of_what_is_not_there(caller: Client) -> None:
    assert status(error_of(lambda: caller.infer(raw("none")))) == (
        "NOT_FOUND", "model 'none' is unknown; this server has 'lin', 'two'",
    )  # fmt: skip
    assert status(error_of(lambda: caller.infer(raw(model_version="v9.9.9"))))[0] == "NOT_FOUND"
    assert (
        status(error_of(lambda: caller.v2.ModelMetadata(pb.ModelMetadataRequest(name="q"))))[0] == "NOT_FOUND"
    )
    unknown = caller.channel.unary_unary("/inference.GRPCInferenceService/ModelStreamInfer")
    assert status(error_of(lambda: unknown(b"", timeout=DEADLINE)))[0] == "UNIMPLEMENTED"


def test_a_message_that_is_too_large_is_refused_before_it_is_read(caller: Client) -> None:
    rows = (2 << 20) // 12
    name, details = status(error_of(lambda: caller.infer(raw(data=X * rows))))
    assert name == "RESOURCE_EXHAUSTED"
    assert "larger than max" in details
    assert caller.infer(raw(data=X * 1000)).raw_output_contents == [Y * 1000]


def test_requests_of_both_ports_are_counted_as_one(served: Running, caller: Client) -> None:
    before = codes(served)
    caller.infer(raw())
    error_of(lambda: caller.infer(raw("none"), metadata=[("x-request-id", "grpc-logged")]))
    wait_for(lambda: codes(served)["404"] == before["404"] + 1)
    assert codes(served)["200"] == before["200"] + 1

    line = wait_for(
        lambda: next((e for e in served.events("request") if e["request_id"] == "grpc-logged"), None)
    )
    assert isinstance(line, dict)
    assert (line["status"], line["method"]) == (404, "gRPC")
    assert line["path"] == "/inference.GRPCInferenceService/ModelInfer"


def test_statistics_and_index_are_those_of_rest(served: Running, caller: Client) -> None:
    caller.infer(raw(data=X * 3))
    found = caller.v2.ModelStatistics(pb.ModelStatisticsRequest(name="lin"))
    (rest,) = served.get("/v2/models/lin/stats").json["model_stats"]  # type: ignore[misc]
    (mine,) = found.model_stats
    assert (mine.inference_count, mine.execution_count) == (rest["inference_count"], rest["execution_count"])
    assert mine.inference_stats.compute_infer.ns == rest["inference_stats"]["compute_infer"]["ns"] > 0
    assert [b.batch_size for b in mine.batch_stats] == [b["batch_size"] for b in rest["batch_stats"]]
    assert len(caller.v2.ModelStatistics(pb.ModelStatisticsRequest()).model_stats) == 2
    index = caller.v2.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert [(m.name, m.version, m.state) for m in index.models] == [
        ("lin", "v1.2.3", "READY"), ("two", "v1.2.3", "READY"),
    ]  # fmt: skip


def test_clients_cannot_change_the_server(caller: Client) -> None:
    for method, request in (
        (caller.v2.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="lin")),
        (caller.v2.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="lin")),
    ):
        name, details = status(error_of(lambda: method(request)))  # noqa: B023
        assert name == "PERMISSION_DENIED"
        assert "admin port has POST /v2/repository/models/lin/" in details


def test_predict(caller: Client) -> None:
    request = paddle.PredictRequest(
        model_name="lin", input_tensor=TENSORS, metadata={"trace_id": "t-1", "batch_size_hint": "4"}
    )
    response, call = caller.paddle.Predict.with_call(request, timeout=DEADLINE)
    assert (response.code, response.model_version) == (0, "v1.2.3")
    (output,) = paddle.TensorList.FromString(response.output_tensor).tensors
    assert (output.datatype, list(output.shape), output.content) == ("FP32", [1, 2], Y)
    assert dict(call.trailing_metadata())["x-request-id"] == "t-1"


def test_a_nameless_tensor_is_the_only_input(caller: Client) -> None:
    nameless = listed({"datatype": "FP32", "shape": [1, 3], "content": X})
    assert caller.paddle.Predict(paddle.PredictRequest(model_name="lin", input_tensor=nameless)).code == 0
    name, details = status(
        error_of(
            lambda: caller.paddle.Predict(paddle.PredictRequest(model_name="two", input_tensor=nameless))
        )
    )
    assert (name, details) == ("INVALID_ARGUMENT", "input '' is unknown; the model expects 'a', 'ids'")


@pytest.mark.parametrize(
    ("fields", "name", "text"),
    [
        ({"input_tensor": TENSORS}, "INVALID_ARGUMENT", "model is missing"),
        ({"model_name": "none", "input_tensor": TENSORS}, "NOT_FOUND", "'none' is unknown"),
        ({"model_name": "lin", "model_version": "v9.9.9"}, "NOT_FOUND", "no version 'v9.9.9'"),
        ({"model_name": "lin", "input_tensor": b"\xff"}, "INVALID_ARGUMENT", "not a serialized"),
        ({"model_name": "lin"}, "INVALID_ARGUMENT", "input 'x' is missing"),
    ],
)
def test_predict_errors(fields: dict[str, Any], name: str, text: str, caller: Client) -> None:
    code, details = status(error_of(lambda: caller.paddle.Predict(paddle.PredictRequest(**fields))))
    assert code == name
    assert text in details


def test_a_batch_answers_each_for_itself(served: Running, caller: Client) -> None:
    before = codes(served)
    good = {"model_name": "lin", "input_tensor": TENSORS}
    two = listed(
        {"name": "a", "datatype": "FP32", "shape": [1, 4], "content": struct.pack("<4f", 0, 1, 2, 3)},
        {"name": "ids", "datatype": "INT64", "shape": [1, 2], "content": struct.pack("<2q", 5, 6)},
    )
    requests = [
        good,
        {"model_name": "none"},
        {"model_name": "two", "input_tensor": two},
        {**good, "input_tensor": b"x"},
    ]
    batch = paddle.PredictBatchRequest(requests=requests)  # type: ignore[arg-type]
    answers = caller.paddle.PredictBatch(batch, timeout=DEADLINE).responses
    assert [a.code for a in answers] == [0, 5, 0, 3]
    assert [bool(a.output_tensor) for a in answers] == [True, False, True, False]
    assert [a.model_version for a in answers] == ["v1.2.3", "", "v1.2.3", "v1.2.3"]
    assert "'none' is unknown" in answers[1].message
    after = codes(served)
    assert [after[c] - before[c] for c in ("200", "400", "404")] == [2, 1, 1]
    for wrong in (0, 257):
        batch = paddle.PredictBatchRequest(requests=[good] * wrong)  # type: ignore[list-item]
        name, details = status(error_of(lambda: caller.paddle.PredictBatch(batch)))  # noqa: B023
        assert name == "INVALID_ARGUMENT"
        assert f"{wrong} entries" in details


def test_health_check_and_reflection(served: Running, caller: Client) -> None:
    health: Any = health_pb2_grpc.HealthStub(caller.channel)
    for service in ("", "inference.GRPCInferenceService", "paddle.serving.PaddleModelService", "lin"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    unknown = health_pb2.HealthCheckRequest(service="none")
    assert status(error_of(lambda: health.Check(unknown, timeout=DEADLINE)))[0] == "NOT_FOUND"
    first = next(iter(health.Watch(unknown, timeout=DEADLINE)))
    assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    known = set(ProtoReflectionDescriptorDatabase(caller.channel).get_services())
    assert known == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        "paddle.serving.PaddleModelService",
    }


def test_the_port_must_be_free(served: Running) -> None:
    with pytest.raises(OSError, match="cannot be used"):
        reserve(served.grpc)
