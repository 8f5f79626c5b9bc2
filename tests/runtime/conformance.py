"""Triton's own clients against a server: python conformance.py HTTP_ADDRESS [GRPC_ADDRESS].

A program of its own, because the gRPC client needs an older protobuf than the server has. The server has the
models `lin` (x FP32 [-1, 3] -> 2 * sum + 1, twice) and `two` (a FP32, ids INT64), both of version v1.2.3.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy


def raises(call: Callable[[], object], text: str) -> None:
    said = "no error"
    try:
        call()
    except Exception as error:
        said = str(error)
    assert text in said, said


def check(kind: str, address: str) -> None:
    api: Any = importlib.import_module(f"tritonclient.{kind}")
    client = api.InferenceServerClient(address)
    as_dict: dict[str, object] = {"as_json": True} if kind == "grpc" else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("lin")
    assert client.is_model_ready("lin", "v1.2.3")
    server = client.get_server_metadata(**as_dict)
    assert server["name"] == "paddle-runtime", server
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(server["extensions"])
    model = client.get_model_metadata("two", **as_dict)
    assert model["versions"] == ["v1.2.3"], model
    assert [tensor["name"] for tensor in model["inputs"]] == ["a", "ids"]

    rows = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    wanted = numpy.repeat(2 * rows.sum(axis=1, keepdims=True) + 1, 2, axis=1)
    (output,) = client.get_model_metadata("lin", **as_dict)["outputs"]
    for binary in (True, False) if kind == "http" else (True,):
        x = api.InferInput("x", list(rows.shape), "FP32")
        asked = api.InferRequestedOutput(output["name"])
        if kind == "http":
            x.set_data_from_numpy(rows, binary_data=binary)
            asked = api.InferRequestedOutput(output["name"], binary_data=binary)
        else:
            x.set_data_from_numpy(rows)
        for outputs in (None, [asked]):
            result = client.infer("lin", [x], model_version="v1.2.3", outputs=outputs, request_id="mine")
            assert numpy.array_equal(result.as_numpy(output["name"]), wanted)
            answer = result.get_response(**as_dict)
            assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "lin", "v1.2.3")

    a = api.InferInput("a", [1, 4], "FP32")
    a.set_data_from_numpy(numpy.array([[0, 1, 2, 3]], dtype=numpy.float32))
    ids = api.InferInput("ids", [1, 2], "INT64")
    ids.set_data_from_numpy(numpy.array([[5, 6]], dtype=numpy.int64))
    result = client.infer("two", [a, ids])
    first, second = (tensor["name"] for tensor in model["outputs"])
    assert result.as_numpy(first).tolist() == [[1, 3, 5, 7]]
    assert result.as_numpy(second).tolist() == [[5, 6, 5, 6]]
    # One after the other and all at once, from the client's own pool.
    if kind == "http":
        pending = [client.async_infer("two", [a, ids]) for _ in range(8)]
        assert all(one.get_result().as_numpy(first).tolist() == [[1, 3, 5, 7]] for one in pending)

    raises(lambda: client.infer("none", [a]), "'none' is unknown")
    raises(lambda: client.infer("two", [a]), "'ids' is missing")
    wrong = api.InferInput("x", [1, 2], "FP32")
    wrong.set_data_from_numpy(numpy.zeros((1, 2), dtype=numpy.float32))
    raises(lambda: client.infer("lin", [wrong]), "does not fit")
    a.set_shared_memory("region", 16)
    raises(lambda: client.infer("two", [a, ids]), "shared memory is not enabled")

    index = client.get_model_repository_index(**as_dict)
    found = index["models"] if kind == "grpc" else index
    assert {one["name"]: one["state"] for one in found} == {"lin": "READY", "two": "READY"}
    (statistics,) = client.get_inference_statistics("lin", **as_dict)["model_stats"]
    assert int(statistics["inference_count"]) >= 8, statistics
    assert int(statistics["inference_stats"]["success"]["count"]) >= 2
    client.close()


def main() -> None:
    check("http", sys.argv[1])
    if len(sys.argv) > 2:
        check("grpc", sys.argv[2])
    print("conforms")


if __name__ == "__main__":
    main()
