"""Nested JSON lists to row-major bytes and back, checked, without numpy.

The front must answer bad values by name before a worker sees them, and must start in milliseconds: `array`
and `memoryview` do the same conversions in C.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import TypeAlias

from runtime.datatypes import BY_NAME, DataType
from runtime.errors import bad_request

Buffer: TypeAlias = bytes | bytearray | memoryview

_LARGEST = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": float("inf")}
# How far an unrounded number may lie above the largest one and still round to it.
_HALF_STEP = {"FP16": 16.0, "FP32": 1.0141204801825835e31, "FP64": 0.0}
_ALLOWED: dict[str, set[type]] = {"bool": {bool}, "int": {int}, "float": {float, int}}
_WANTS = {"bool": "true or false", "int": "whole numbers", "float": "numbers"}


def flatten(name: str, values: object, rank_limit: int) -> tuple[tuple[int, ...], list[object]]:
    """Shape and flat elements of nested lists. Raises a 400 naming the input when they are ragged or too
    deep.
    """
    if not isinstance(values, list):
        return (), [values]
    shape = [len(values)]
    flat: list[object] = values
    while flat and isinstance(flat[0], list):
        if len(shape) >= rank_limit:
            raise bad_request(
                f"input {name!r}: lists are nested deeper than the model's {rank_limit} dimensions"
            )
        width = len(flat[0])
        for row in flat:
            if not isinstance(row, list) or len(row) != width:
                raise bad_request(
                    f"input {name!r}: ragged list, dimension {len(shape)} is {width} in one place and "
                    f"{len(row) if isinstance(row, list) else 'a single value'} in another"
                )
        shape.append(width)
        flat = list(chain.from_iterable(flat))  # type: ignore[arg-type]  # every row was seen to be a list
    return tuple(shape), flat


def to_bytes(name: str, flat: Sequence[object], datatype: str) -> bytes:
    """Elements as little-endian bytes. Raises a 400 naming the input, the offending value and what is
    wanted.
    """
    kind = BY_NAME[datatype]
    if not kind.letter:
        raise bad_request(
            f"input {name!r}: {datatype} has no JSON form; send it with the binary data extension"
        )
    _check_types(name, flat, kind)
    try:
        if kind.group == "bool":
            return bytes(flat)  # type: ignore[arg-type]  # every element was seen to be a bool
        if kind.letter == "e":
            _check_range(name, flat, kind)
            return struct.pack(f"<{len(flat)}e", *flat)
        if kind.group == "float":
            _check_range(name, flat, kind)
        return array(kind.letter, flat).tobytes()  # type: ignore[type-var]  # all are numbers
    except (OverflowError, struct.error) as error:
        low, high = _limits(kind)
        outside = next((v for v in flat if not low <= v <= high), None)  # type: ignore[operator]
        raise bad_request(f"input {name!r}: {_shown(outside)} does not fit {datatype} ({error})") from None


def _check_types(name: str, flat: Sequence[object], kind: DataType) -> None:
    allowed = _ALLOWED[kind.group]
    if set(map(type, flat)) <= allowed:
        return
    wrong = next(value for value in flat if type(value) not in allowed)
    shown = "a list beside single values (ragged)" if isinstance(wrong, list) else _shown(wrong)
    raise bad_request(f"input {name!r}: {shown} is not {kind.name}; send {_WANTS[kind.group]}")


def _check_range(name: str, flat: Sequence[object], kind: DataType) -> None:
    """JSON has no infinity, so one that appears by rounding is an overflow."""
    limit = _LARGEST[kind.name] + _HALF_STEP[kind.name]
    if flat and (max(flat) >= limit or min(flat) <= -limit):  # type: ignore[type-var,operator]
        wrong = next(v for v in flat if v >= limit or v <= -limit)  # type: ignore[operator]
        raise bad_request(f"input {name!r}: {_shown(wrong)} overflows {kind.name}")


def _limits(kind: DataType) -> tuple[float, float]:
    if kind.group == "float":
        return -_LARGEST[kind.name], _LARGEST[kind.name]
    bits = 8 * kind.size
    return (0, 2**bits - 1) if kind.name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def to_nested(data: Buffer, datatype: str, shape: Sequence[int]) -> object:
    """Nested lists from row-major bytes; a float that is not a number becomes null when it is written as
    JSON.

    Raises a 400 for a datatype that JSON cannot carry.
    """
    kind = BY_NAME[datatype]
    if not kind.letter:
        raise bad_request(f"{datatype} outputs have no JSON form; ask for binary data")
    if kind.letter == "e":
        flat = list(struct.unpack(f"<{len(data) // 2}e", data))
        return _nest(flat, list(shape))
    view = memoryview(data)
    if not shape:
        return view.cast("B").cast(kind.letter)[0]  # type: ignore[call-overload]
    if 0 in shape:  # memoryview cannot be cast to a shape with a zero
        return _nest([], list(shape))
    return view.cast("B").cast(kind.letter, list(shape)).tolist()  # type: ignore[call-overload]


def to_flat(data: Buffer, datatype: str) -> list[object]:
    """All elements in row-major order. Raises a 400 for a datatype that JSON cannot carry."""
    kind = BY_NAME[datatype]
    if not kind.letter:
        raise bad_request(f"{datatype} outputs have no JSON form; ask for binary data")
    if kind.letter == "e":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    return list(memoryview(data).cast("B").cast(kind.letter))  # type: ignore[call-overload]


def _nest(flat: list[object], shape: list[int]) -> object:
    if not shape:
        return flat[0]
    for width in reversed(shape[1:]):
        if width == 0:
            break
        flat = [flat[i : i + width] for i in range(0, len(flat), width)]
    else:
        return flat
    return [_nest([], shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else []


def size_of(datatype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor."""
    return prod(shape) * BY_NAME[datatype].size
