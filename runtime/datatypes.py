"""Tensor element types: the V2 protocol's names, their sizes, and the codes that frames carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["bool", "int", "float", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataType:
    """One element type. `letter` is its struct/array letter ("" if Python has none)."""

    name: str
    code: int
    size: int
    letter: str
    numpy: str
    group: Group


_ALL = (
    DataType(name="BOOL", code=1, size=1, letter="?", numpy="bool", group="bool"),
    DataType(name="UINT8", code=2, size=1, letter="B", numpy="uint8", group="int"),
    DataType(name="UINT16", code=3, size=2, letter="H", numpy="uint16", group="int"),
    DataType(name="UINT32", code=4, size=4, letter="I", numpy="uint32", group="int"),
    DataType(name="UINT64", code=5, size=8, letter="Q", numpy="uint64", group="int"),
    DataType(name="INT8", code=6, size=1, letter="b", numpy="int8", group="int"),
    DataType(name="INT16", code=7, size=2, letter="h", numpy="int16", group="int"),
    DataType(name="INT32", code=8, size=4, letter="i", numpy="int32", group="int"),
    DataType(name="INT64", code=9, size=8, letter="q", numpy="int64", group="int"),
    DataType(name="FP16", code=10, size=2, letter="e", numpy="float16", group="float"),
    DataType(name="FP32", code=11, size=4, letter="f", numpy="float32", group="float"),
    DataType(name="FP64", code=12, size=8, letter="d", numpy="float64", group="float"),
    # numpy has no bfloat16: two opaque bytes, which only the binary form can carry.
    DataType(name="BF16", code=13, size=2, letter="", numpy="uint16", group="float"),
    DataType(name="BYTES", code=14, size=1, letter="", numpy="uint8", group="bytes"),
)

BY_NAME = {datatype.name: datatype for datatype in _ALL}
BY_CODE = {datatype.code: datatype for datatype in _ALL}
BY_NUMPY = {datatype.numpy: datatype for datatype in _ALL if datatype.name not in ("BF16", "BYTES")}
