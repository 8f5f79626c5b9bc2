from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.codec import predict, v2
from runtime.codec.request import Parsed, Wish
from runtime.codec.tensors import flatten, size_of, to_bytes, to_flat, to_nested
from runtime.datatypes import BY_NAME, BY_NUMPY
from runtime.errors import RequestError
from runtime.job import OutputTensor
from runtime.signature import Signature, TensorSpec

DTYPES = sorted(set(BY_NUMPY) - {"float16"})
shapes = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)


@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, shapes, elements=_finite(d))))
def test_nested_lists_become_numpys_bytes_and_back(array: numpy.ndarray) -> None:
    datatype = BY_NUMPY[array.dtype.name].name
    shape, flat = flatten("x", json.loads(json.dumps(array.tolist())), 8)
    assert shape == array.shape
    data = to_bytes("x", flat, datatype)
    assert data == array.tobytes()
    assert len(data) == size_of(datatype, shape)
    assert to_nested(data, datatype, shape) == array.tolist()
    assert to_flat(data, datatype) == array.reshape(-1).tolist()


def _finite(dtype: str) -> st.SearchStrategy[object] | None:
    if not dtype.startswith("float"):
        return None
    return st.floats(width=32 if dtype == "float32" else 64, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0), (0, 2), (2, 1, 3)])
def test_half_precision(shape: tuple[int, ...]) -> None:
    array = (numpy.arange(numpy.prod(shape, dtype=int)) / 2).astype("float16").reshape(shape)
    data = to_bytes("x", array.reshape(-1).tolist(), "FP16")
    assert data == array.tobytes()
    assert to_nested(data, "FP16", shape) == array.tolist()
    assert to_flat(data, "FP16") == array.reshape(-1).tolist()


@pytest.mark.parametrize("datatype", ["BF16", "BYTES"])
def test_types_without_a_json_form_say_so(datatype: str) -> None:
    for call in (
        lambda: to_bytes("x", [1], datatype),
        lambda: to_nested(b"ab", datatype, (1,)),
        lambda: to_flat(b"ab", datatype),
    ):
        with pytest.raises(RequestError, match="binary data"):
            call()


@pytest.mark.parametrize(
    ("datatype", "fits", "not_fit"),
    [
        ("INT8", [-128, 127], [128, -129]),
        ("UINT8", [0, 255], [256, -1]),
        ("INT64", [-(2**63), 2**63 - 1], [2**63]),
        ("UINT64", [2**64 - 1], [-1]),
        ("INT32", [0], [1.0, True, "1", None]),
        ("BOOL", [True, False], [0, 1, "true"]),
        ("FP16", [65504.0, 1], [65520.0, -1e6, True]),
        ("FP32", [3.4028234663852886e38, 7], [3.5e38, -1e39, "1", [1]]),
        ("FP64", [1e308], [None, False]),
    ],
)
def test_values_that_do_not_fit_are_named(
    datatype: str, fits: Sequence[object], not_fit: Sequence[object]
) -> None:
    assert len(to_bytes("x", fits, datatype)) == len(fits) * BY_NAME[datatype].size
    for value in not_fit:
        with pytest.raises(RequestError, match="input 'x': ") as error:
            to_bytes("x", [*fits, value], datatype)
        assert error.value.status == 400
        assert datatype in error.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("n", "INT64", (2,))),
    (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "BOOL", (-1,))),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": json_values | st.dictionaries(st.sampled_from(["x", "n", "q"]), json_values),
            "outputs": json_values,
            "parameters": json_values,
            "id": json_values,
        },
    )
)
def test_any_document_is_a_parsed_request_or_a_400(document: dict[str, object]) -> None:
    for parse in (
        lambda: predict.parse(document, SIGNATURE),
        lambda: v2.parse_object(document, memoryview(b"abcd"), SIGNATURE),
    ):
        parsed = parsed_or_400(parse)
        if parsed is not None:
            assert [tensor.spec for tensor in parsed.inputs] == list(SIGNATURE.inputs)


def parsed_or_400(parse: Callable[[], Parsed]) -> Parsed | None:
    """None for a 400; any other error is the test's failure."""
    try:
        return parse()
    except RequestError as error:
        return None if error.status == 400 else pytest.fail(f"status {error.status}")


@given(st.binary(max_size=300), st.none() | st.text(max_size=5) | st.integers(0, 310).map(str))
def test_any_body_is_a_parsed_request_or_a_400(body: bytes, header: str | None) -> None:
    parsed_or_400(lambda: v2.parse(body, header, SIGNATURE))


def test_raw_bodies_need_one_input_and_one_open_dimension() -> None:
    with pytest.raises(RequestError, match="one input"):
        v2.parse(b"", "0", SIGNATURE)
    image = Signature((TensorSpec("i", "UINT8", (-1, 2, -1)),), ())
    assert v2.parse(b"abcdef", "0", image).inputs[0].shape == (1, 2, 3)
    with pytest.raises(RequestError, match="'i': 5 bytes"):
        v2.parse(b"abcde", "0", image)
    with pytest.raises(RequestError, match="one open dimension"):
        v2.parse(b"ab", "0", Signature((TensorSpec("i", "UINT8", (-1, -1, -1)),), ()))


def test_a_v2_timeout_is_in_microseconds() -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    one = Signature(SIGNATURE.inputs[:1], ())
    for given_us, seconds in ((1500, 0.0015), (0, None)):
        parsed = v2.parse_object({"inputs": [x], "parameters": {"timeout": given_us}}, memoryview(b""), one)
        assert parsed.timeout == seconds
    with pytest.raises(RequestError, match="classification"):
        v2.parse_object(
            {"inputs": [x], "outputs": [{"name": "y", "parameters": {"classification": 2}}]},
            memoryview(b""),
            Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs),
        )


Y = OutputTensor(SIGNATURE.outputs[0], (1, 2), struct.pack("<2f", 0.5, float("nan")))
Z = OutputTensor(SIGNATURE.outputs[1], (2,), b"\1\0")


def test_what_is_not_a_number_becomes_null() -> None:
    body = json.loads(predict.render([Y, Z], model="m", version="v1", request_id="r"))
    assert body["outputs"] == {"y": [[0.5, None]], "z": [True, False]}


def test_binary_outputs_follow_the_json_in_order() -> None:
    parsed = Parsed(inputs=[], wishes=[Wish("z", True), Wish("y", True)])
    body, head = v2.render(parsed, [Y, Z], model="m", version="", request_id="r")
    assert head is not None
    document = json.loads(body[:head])
    assert [o["parameters"]["binary_data_size"] for o in document["outputs"]] == [2, 8]
    assert "model_version" not in document
    assert body[head:] == Z.data + Y.data
