"""Bodies that are wrong: each is a 400 that names what, and no worker runs."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.runtime.conftest import Running, connect, wait_for
from tests.runtime.requests import HEADER, X, binary, blob_input, v2

MALFORMED = {
    "empty": (b"", "empty"),
    "not json": (b"{", "not JSON"),
    "not an object": (b"[1]", "JSON object"),
    "not utf-8": (b'{"inputs": "\xff"}', "not JSON"),
    "depth bomb": (b'{"inputs": {"x": ' + b"[" * 5000, "not JSON"),
    "no inputs": ({}, "inputs"),
    "inputs a number": ({"inputs": 5}, "inputs"),
    "no input of that name": ({"inputs": {"z": [[1, 2, 3]]}}, "'z' is unknown; the model expects 'x'"),
    "missing input": ({"inputs": {}}, "'x' is missing"),
    "nan text": (b'{"inputs": {"x": [[1, 2, NaN]]}}', "NaN"),
    "nan string": ({"inputs": {"x": [[1, 2, "NaN"]]}}, "input 'x': 'NaN'"),
    "infinity": (b'{"inputs": {"x": [[1, 2, 1e999]]}}', "not JSON"),
    "overflow": ({"inputs": {"x": [[1, 2, 1e39]]}}, "input 'x': 1e+39 overflows FP32"),
    "null": ({"inputs": {"x": [[1, 2, None]]}}, "input 'x': null"),
    "bool for float": ({"inputs": {"x": [[1, 2, True]]}}, "input 'x': True"),
    "object for number": ({"inputs": {"x": [[1, 2, {}]]}}, "input 'x': {}"),
    "ragged": ({"inputs": {"x": [[1, 2, 3], [1, 2]]}}, "input 'x': ragged"),
    "ragged deep": ({"inputs": {"x": [[1, 2, [3]]]}}, "input 'x': a list beside"),
    "too deep": ({"inputs": {"x": [[[1, 2, 3]]]}}, "input 'x': lists are nested deeper"),
    "too shallow": ({"inputs": {"x": [1, 2, 3]}}, "input 'x': shape [3]"),
    "wrong width": ({"inputs": {"x": [[1, 2]]}}, "input 'x': shape [1, 2] does not fit"),
    "no rows": ({"inputs": {"x": []}}, "input 'x': shape [0]"),
    "empty rows": ({"inputs": {"x": [[]]}}, "input 'x': shape [1, 0]"),
    "scalar": ({"inputs": {"x": 1}}, "input 'x': shape []"),
    "unknown field": ({"inputs": {"x": {"data": [], "size": 3}}}, "input 'x': 'size' is unknown"),
    "object without data": ({"inputs": {"x": {"shape": [1, 3]}}}, "'x': data is missing"),
    "wrong dtype": ({"inputs": {"x": {"datatype": "INT64", "data": [[1, 2, 3]]}}}, "'x': datatype INT64"),
    "unknown dtype": ({"inputs": {"x": {"datatype": "FLOAT", "data": [[1, 2, 3]]}}}, "datatype 'FLOAT'"),
    "shape not a list": ({"inputs": {"x": {"shape": 3, "data": [1, 2, 3]}}}, "input 'x': shape must be"),
    "negative dim": ({"inputs": [v2("x", "FP32", [-1, 3], [1, 2, 3])]}, "input 'x': shape [-1, 3]"),
    "huge dim": ({"inputs": [v2("x", "FP32", [2**40, 3], [1, 2, 3])]}, "input 'x': shape"),
    "float dim": ({"inputs": [v2("x", "FP32", [1.0, 3], [1, 2, 3])]}, "input 'x': shape"),
    "bool dim": ({"inputs": [v2("x", "FP32", [True, 3], [1, 2, 3])]}, "input 'x': shape"),
    "too few values": ({"inputs": [v2("x", "FP32", [2, 3], [1, 2, 3])]}, "input 'x': 3 values do not fill"),
    "too many values": ({"inputs": [v2("x", "FP32", [1, 3], [1, 2, 3, 4])]}, "'x': 4 values do not fill"),
    "nesting against shape": ({"inputs": [v2("x", "FP32", [1, 3], [[1], [2], [3]])]}, "data is nested"),
    "given twice": ({"inputs": [X, X]}, "input 'x' is given twice"),
    "no shape": ({"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, "'x': shape is missing"),
    "no datatype": ({"inputs": [{"name": "x", "shape": [1, 3], "data": [1]}]}, "input 'x': datatype None"),
    "no data": ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32"}]}, "'x': data is missing"),
    "no name": ({"inputs": [{"shape": [1, 3], "datatype": "FP32", "data": [1]}]}, "input None is unknown"),
    "inputs of numbers": ({"inputs": [1, 2, 3]}, "each of inputs"),
    "inputs an empty list": ({"inputs": []}, "inputs must be a list"),
    "id a number": ({"id": 5, "inputs": [X]}, "id must be a string"),
    "unknown output": ({"inputs": [X], "outputs": [{"name": "q"}]}, "output 'q' is unknown"),
    "outputs no list": ({"inputs": [X], "outputs": "y"}, "outputs must be a list"),
    "shared memory": ({"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}, "'x': shared memory"),
    "parameters no object": ({"inputs": [{**X, "parameters": 3}]}, "input 'x': parameters"),
    "timeout negative": ({"inputs": [X], "parameters": {"timeout": -1}}, "timeout -1"),
    "flag no bool": ({"inputs": [X], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
}  # fmt: skip


def runs(server: Running) -> float:
    """How often workers ran, all models."""
    text = server.get("/metrics", admin=True).body.decode()
    lines = [line for line in text.splitlines() if line.startswith("inference_duration_seconds_count")]
    assert len(lines) == 2
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("case", list(MALFORMED))
def test_malformed_bodies_are_answered_by_name_and_reach_no_worker(case: str, server: Running) -> None:
    body, text = MALFORMED[case]
    before = runs(server)
    if isinstance(body, dict) and isinstance(body.get("inputs"), list) and "v2 only" not in case:
        paths = ["/v2/models/lin/infer"]
    elif isinstance(body, dict):
        paths = ["/predict"]
        body = {"model": "lin", **body}
    else:
        paths = (
            ["/predict", "/v2/models/lin/infer"]
            if case != "nan text" and case != "infinity"
            else ["/predict"]
        )
    for path in paths:
        got = server.post(path, body)
        assert got.status == 400, got.body
        assert set(got.json) == {"error"}
        if path == paths[0]:
            assert text in str(got.json["error"])
    assert runs(server) == before


BINARY = {
    "size too large": ([blob_input("x", "FP32", [1, 3], 16)], b"0" * 12, None, "binary_data_size 16"),
    "size negative": ([blob_input("x", "FP32", [1, 3], -4)], b"0" * 12, None, "binary_data_size -4"),
    "size a string": ([blob_input("x", "FP32", [1, 3], "12")], b"0" * 12, None, "binary_data_size '12'"),
    "size against shape": ([blob_input("x", "FP32", [1, 3], 8)], b"0" * 8, None, "input 'x': 8 bytes"),
    "trailing bytes": ([blob_input("x", "FP32", [1, 3], 12)], b"0" * 13, None, "1 bytes follow"),
    "blob without size": ([X], b"0" * 12, None, "12 bytes follow"),
    "data and size": ([{**X, "parameters": {"binary_data_size": 12}}], b"0" * 12, None, "input 'x': both"),
    "header too long": ([X], b"", "9999", "must be a whole number"),
    "header negative": ([X], b"", "-1", "must be a whole number"),
    "header text": ([X], b"", "x", "must be a whole number"),
    "header cuts the json": ([X], b"", "10", "not JSON"),
    "raw of wrong size": ([X], b"", "0", "input 'x'"),
}


@pytest.mark.parametrize("case", list(BINARY))
def test_malformed_binary_bodies(case: str, server: Running) -> None:
    inputs, blob, header, text = BINARY[case]
    before = runs(server)
    body, headers = binary({"inputs": inputs}, blob)
    if header is not None:
        headers[HEADER] = header
    got = server.request("POST", "/v2/models/lin/infer", body, headers)
    assert got.status == 400, got.body
    assert text in str(got.json["error"])
    assert runs(server) == before


CUT = {
    "length": b"Connection: close\r\nContent-Length: 50\r\n\r\n{",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n5\r\n12",
}


@pytest.mark.parametrize("case", list(CUT))
def test_a_client_that_leaves_in_its_body_is_no_fault_of_ours(case: str, server: Running) -> None:
    """Not a 500: a canary is judged by those."""
    mark = uuid4().hex
    head = f"POST /v2/models/lin/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: {mark}\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + CUT[case])

    def ended() -> list[dict[str, object]]:
        return [line for line in server.log if line.get("request_id") == mark]

    wait_for(ended)
    assert [(line["event"], line.get("status")) for line in ended()] == [("request", 499)]
