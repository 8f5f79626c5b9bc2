"""`POST /predict`: inputs by name, outputs by name. The form a person types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from runtime.codec import v2
from runtime.codec.request import Parsed, check_datatype, find_input, from_values, in_order, shape_of
from runtime.codec.tensors import to_nested
from runtime.errors import bad_request
from runtime.job import InputTensor, OutputTensor
from runtime.signature import Signature

_FIELDS = {"shape", "datatype", "data"}


def parse(document: Mapping[str, object], signature: Signature) -> Parsed:
    """A checked request from {"inputs": {name: nested lists | {"shape", "datatype", "data"}}} or V2's list.

    Raises a 400 naming the input.
    """
    inputs = document.get("inputs")
    if isinstance(inputs, list):
        return v2.parse_object(document, memoryview(b""), signature)
    if not isinstance(inputs, dict):
        raise bad_request('inputs is missing; send {"inputs": {name: values}}')
    found: dict[str, InputTensor] = {}
    for name, value in inputs.items():
        spec = find_input(signature, name)
        shape: tuple[int, ...] | None = None
        if isinstance(value, dict):
            unknown = sorted(set(value) - _FIELDS)
            if unknown or "data" not in value:
                wrong = f"{unknown[0]!r} is unknown" if unknown else "data is missing"
                raise bad_request(f'input {name!r}: {wrong}; send {{"shape", "datatype", "data"}}')
            if "datatype" in value:
                check_datatype(spec, value["datatype"])
            if "shape" in value:
                shape = shape_of(name, value["shape"])
            value = value["data"]
        found[spec.name] = from_values(spec, value, shape)
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise bad_request("id must be a string")
    return Parsed(inputs=in_order(signature, found), id=request_id)


def render(outputs: Sequence[OutputTensor], *, model: str, version: str, request_id: str) -> bytes:
    """Nested lists for each output; a float that is not a number is null."""
    return orjson.dumps(
        {
            "outputs": {o.spec.name: to_nested(o.data, o.spec.datatype, o.shape) for o in outputs},
            "model": model,
            "model_version": version,
            "id": request_id,
        }
    )
