"""The signature of a Paddle 3 program (PIR, JSON), read from the file itself.

The predictor knows names and input types but neither shapes nor output types before it ran.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.errors import ModelError, Reason
from runtime.signature import Signature, TensorSpec

_TYPES = {
    "t_bool": "BOOL",
    "t_ui8": "UINT8",
    "t_i8": "INT8",
    "t_i16": "INT16",
    "t_i32": "INT32",
    "t_i64": "INT64",
    "t_f16": "FP16",
    "t_bf16": "BF16",
    "t_f32": "FP32",
    "t_f64": "FP64",
}


def read_signature(file: Path, params: Path | None = None) -> Signature:
    """Raises ModelError(CorruptModel) when the file is not a PIR program, or lacks the `params` it needs.

    Without its weights Paddle runs a program all the same, on whatever the memory holds.
    """
    try:
        document = json.loads(file.read_bytes())
        magic = document["base_code"]["magic"]
        ops = list(_operations(document["program"]["regions"]))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            Reason.CORRUPT_MODEL, f"{file.name} is not readable JSON ({error}); it may be cut short"
        ) from None
    except (KeyError, TypeError, IndexError):
        raise ModelError(
            Reason.CORRUPT_MODEL,
            f"{file.name} is JSON but not a Paddle program (no base_code and program); "
            "export it with paddle.jit.save of Paddle 3",
        ) from None
    if magic != "pir":
        raise ModelError(Reason.CORRUPT_MODEL, f"{file.name} says magic {magic!r}, expected 'pir'")
    if params is None and any(_kind(op) == "p" for op in ops):
        missing = file.with_suffix(".pdiparams").name
        raise ModelError(Reason.CORRUPT_MODEL, f"{missing} is missing beside {file.name}")
    try:
        inputs = [_tensor(op) for op in ops if _kind(op) == "data"]
        fetched = sorted(
            (op for op in ops if _kind(op) == "fetch"), key=lambda op: int(str(_attribute(op, "col")))
        )
        return Signature(tuple(inputs), tuple(_tensor(op) for op in fetched))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ModelError(
            Reason.CORRUPT_MODEL, f"{file.name}: an input or output is not readable ({error!r})"
        ) from None


def fingerprint(file: Path) -> str:
    """The same for two exports of one network: names of its layers and weights, which count up in the process
    that exports, are left out. Raises ValueError for what is no JSON.
    """
    bare = json.dumps(_without_names(json.loads(file.read_bytes())))
    return hashlib.sha256(bare.encode()).hexdigest()


def _without_names(value: object) -> object:
    if isinstance(value, list):
        return [_without_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("N") == "struct_name":
        return None
    if value.get("#") == "p":
        return {**value, "A": [item for item in value["A"] if not isinstance(item, str)]}
    return {key: _without_names(item) for key, item in value.items()}


def _operations(regions: object) -> Iterator[Mapping[str, object]]:
    """The operations of the outermost block: inputs and outputs are never inside a branch."""
    assert isinstance(regions, list)
    for block in regions[0]["blocks"]:
        yield from block["ops"]


def _kind(op: Mapping[str, object]) -> str:
    """`1.data` -> data; the number is the dialect."""
    return str(op["#"]).rpartition(".")[2]


def _attribute(op: Mapping[str, object], name: str) -> object:
    attributes = op["A"]
    assert isinstance(attributes, list)
    for attribute in attributes:
        if attribute["N"] == name:
            return attribute["AT"]["D"]
    raise KeyError(name)


def _tensor(op: Mapping[str, object]) -> TensorSpec:
    results = op["O"]
    assert isinstance(results, list)
    element, dims = results[0]["TT"]["D"][:2]
    name = str(_attribute(op, "name"))
    kind = str(element["#"]).rpartition(".")[2]
    if kind not in _TYPES:
        raise ValueError(f"{name} has element type {kind}")
    return TensorSpec(name, _TYPES[kind], tuple(int(d) for d in dims))
