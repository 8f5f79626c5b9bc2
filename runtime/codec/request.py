"""What every protocol parses a request into, and the checks they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from runtime.codec.tensors import Buffer, flatten, size_of, to_bytes
from runtime.datatypes import BY_NAME
from runtime.errors import bad_request
from runtime.frames import MAX_DIMS
from runtime.job import InputTensor
from runtime.signature import Signature, TensorSpec

_MAX_DIM = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Wish:
    """An output that was asked for, and whether as binary."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A checked request. `inputs` are in the signature's order; `wishes` None means all outputs; seconds."""

    inputs: Sequence[InputTensor]
    id: str = ""
    wishes: Sequence[Wish] | None = None
    binary: bool = False
    timeout: float | None = None


def load_object(body: Buffer) -> dict[str, object]:
    """The JSON object of a body. Raises a 400."""
    if not body:
        raise bad_request("the body is empty; send a JSON object with inputs")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error} (NaN and Infinity have no JSON form)") from None
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object with inputs")
    return value


def shape_of(name: str, value: object) -> tuple[int, ...]:
    """A request's shape field. Raises a 400 naming the input."""
    if not isinstance(value, list) or len(value) > MAX_DIMS:
        raise bad_request(f"input {name!r}: shape must be a list of at most {MAX_DIMS} whole numbers")
    for dim in value:
        if type(dim) is not int or not 0 <= dim <= _MAX_DIM:
            raise bad_request(f"input {name!r}: shape {value} must hold whole numbers from 1 to {_MAX_DIM}")
    return tuple(value)


def check_datatype(spec: TensorSpec, datatype: object) -> None:
    if not isinstance(datatype, str) or datatype not in BY_NAME:
        raise bad_request(f"input {spec.name!r}: datatype {datatype!r} is unknown; send {spec.datatype}")
    if datatype != spec.datatype:
        raise bad_request(
            f"input {spec.name!r}: datatype {datatype} does not fit, the model expects {spec.datatype}"
        )


def from_values(spec: TensorSpec, values: object, shape: tuple[int, ...] | None) -> InputTensor:
    """An input from nested or flat JSON values; `shape` None takes the nesting's own."""
    nested, flat = flatten(spec.name, values, max(1, len(spec.shape)))
    if shape is None:
        shape = nested
    elif nested != shape and len(nested) != 1:
        raise bad_request(
            f"input {spec.name!r}: data is nested as {list(nested)}, but shape says {list(shape)}"
        )
    spec.check_shape(shape)
    data = to_bytes(spec.name, flat, spec.datatype)
    if len(data) != size_of(spec.datatype, shape):
        raise bad_request(
            f"input {spec.name!r}: {len(flat)} values do not fill shape {list(shape)}; "
            f"send {size_of(spec.datatype, shape) // BY_NAME[spec.datatype].size}"
        )
    return InputTensor(spec, shape, data)


def from_binary(spec: TensorSpec, data: Buffer, shape: tuple[int, ...]) -> InputTensor:
    """An input from little-endian row-major bytes."""
    spec.check_shape(shape)
    expected = size_of(spec.datatype, shape)
    if len(data) != expected:
        raise bad_request(
            f"input {spec.name!r}: {len(data)} bytes of binary data, shape {list(shape)} of {spec.datatype} "
            f"needs {expected}"
        )
    return InputTensor(spec, shape, data)


def in_order(signature: Signature, found: Mapping[str, InputTensor]) -> list[InputTensor]:
    """All inputs in the model's order. Raises a 400 naming the one that is missing."""
    for spec in signature.inputs:
        if spec.name not in found:
            raise bad_request(f"input {spec.name!r} is missing; the model expects {names(signature.inputs)}")
    return [found[spec.name] for spec in signature.inputs]


def find_input(signature: Signature, name: object) -> TensorSpec:
    """Raises a 400 for a name that is not one of the model's inputs."""
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    raise bad_request(f"input {name!r} is unknown; the model expects {names(signature.inputs)}")


def names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
