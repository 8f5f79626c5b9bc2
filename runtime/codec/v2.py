"""The Open Inference Protocol V2 over REST: JSON, the binary tensor extension and raw bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from runtime.codec.request import (
    Parsed,
    Wish,
    check_datatype,
    find_input,
    from_binary,
    from_values,
    in_order,
    load_object,
    names,
    shape_of,
)
from runtime.codec.tensors import Buffer, to_flat
from runtime.datatypes import BY_NAME
from runtime.errors import bad_request
from runtime.job import InputTensor, OutputTensor
from runtime.signature import Signature

HEADER_LENGTH = "Inference-Header-Content-Length"


def parse(body: Buffer, header_length: str | None, signature: Signature) -> Parsed:
    """A checked request; `header_length` is the extension's header as it came. Raises a 400 naming the
    input.
    """
    if header_length is None:
        return parse_object(load_object(body), memoryview(b""), signature)
    length = _header_length(header_length, len(body))
    if length == 0:
        return _raw(body, signature)
    view = memoryview(body)
    return parse_object(load_object(view[:length]), view[length:], signature)


def parse_object(document: Mapping[str, object], blobs: memoryview, signature: Signature) -> Parsed:
    """A V2 request whose JSON was read; `blobs` are the bytes after it, in the order of the inputs."""
    parameters = _parameters(document, "the request")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise bad_request("inputs must be a list of {name, shape, datatype, data}")
    found: dict[str, InputTensor] = {}
    at = 0
    for item in inputs:
        if not isinstance(item, dict):
            raise bad_request("each of inputs must be an object {name, shape, datatype, data}")
        spec = find_input(signature, item.get("name"))
        if spec.name in found:
            raise bad_request(f"input {spec.name!r} is given twice")
        check_datatype(spec, item.get("datatype"))
        if "shape" not in item:
            raise bad_request(f"input {spec.name!r}: shape is missing; the model expects {list(spec.shape)}")
        shape = shape_of(spec.name, item["shape"])
        size = _parameters(item, f"input {spec.name!r}").get("binary_data_size")
        if size is None:
            if "data" not in item:
                raise bad_request(f"input {spec.name!r}: data is missing")
            found[spec.name] = from_values(spec, item["data"], shape)
            continue
        if "data" in item:
            raise bad_request(f"input {spec.name!r}: both data and binary_data_size are given; send one")
        if type(size) is not int or not 0 <= size <= len(blobs) - at:
            raise bad_request(
                f"input {spec.name!r}: binary_data_size {size!r} does not fit the {len(blobs) - at} left"
            )
        found[spec.name] = from_binary(spec, blobs[at : at + size], shape)
        at += size
    if at != len(blobs):
        raise bad_request(f"{len(blobs) - at} bytes follow the last input's binary data; sizes must add up")
    return Parsed(
        inputs=in_order(signature, found),
        id=_text(document, "id"),
        wishes=_wishes(document, parameters, signature),
        binary=_flag(parameters, "binary_data_output", "the request"),
        timeout=_timeout(parameters),
    )


def _header_length(text: str, body_length: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12) or int(text) > body_length:
        raise bad_request(
            f"{HEADER_LENGTH} {text[:40]!r} must be a whole number of at most the body's {body_length} bytes"
        )
    return int(text)


def _raw(body: Buffer, signature: Signature) -> Parsed:
    """Header length 0: the body is the one input of a batch of one, all outputs come as binary."""
    if len(signature.inputs) != 1:
        raise bad_request(f"a raw body needs a model with one input; this one has {names(signature.inputs)}")
    spec = signature.inputs[0]
    # The first dimension is the batch and counts as 1 when it is open.
    shape = list(spec.shape)
    if shape and shape[0] < 0:
        shape[0] = 1
    open_dims = [axis for axis, dim in enumerate(shape) if dim < 0]
    if len(open_dims) > 1:
        raise bad_request(
            f"input {spec.name!r}: a raw body allows one open dimension, not {list(spec.shape)}"
        )
    if open_dims:
        fixed = BY_NAME[spec.datatype].size
        for dim in shape:
            fixed *= dim if dim >= 0 else 1
        shape[open_dims[0]] = len(body) // fixed
    return Parsed(inputs=[from_binary(spec, body, tuple(shape))], binary=True)


def _wishes(
    document: Mapping[str, object], parameters: Mapping[str, object], signature: Signature
) -> list[Wish] | None:
    outputs = document.get("outputs")
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list):
        raise bad_request("outputs must be a list of {name}")
    default = _flag(parameters, "binary_data_output", "the request")
    known = {spec.name for spec in signature.outputs}
    wishes: list[Wish] = []
    for item in outputs:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in known:
            raise bad_request(f"output {name!r} is unknown; the model has {names(signature.outputs)}")
        own = _parameters(item, f"output {name!r}")
        if "classification" in own:
            raise bad_request(f"output {name!r}: the classification extension is not supported")
        wishes.append(
            Wish(name, _flag(own, "binary_data", f"output {name!r}") if "binary_data" in own else default)
        )
    return wishes


def _parameters(item: Mapping[str, object], where: str) -> Mapping[str, object]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise bad_request(f"{where}: parameters must be an object")
    if "shared_memory_region" in parameters:
        raise bad_request(f"{where}: shared memory is not enabled on this server; send the data in the body")
    return parameters


def _flag(parameters: Mapping[str, object], name: str, where: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise bad_request(f"{where}: parameter {name} must be true or false")
    return value


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise bad_request(f"{name} must be a string")
    return value


def _timeout(parameters: Mapping[str, object]) -> float | None:
    """Microseconds on the wire; 0 means the server's own limit."""
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise bad_request(f"parameter timeout {value!r} must be a whole number of microseconds")
    return value / 1e6 if value else None


def render(
    parsed: Parsed, outputs: Sequence[OutputTensor], *, model: str, version: str, request_id: str
) -> tuple[bytes, int | None]:
    """The response body, and its JSON part's length when binary data follows it (None when all is JSON)."""
    chosen = outputs
    binary = dict.fromkeys((output.spec.name for output in outputs), parsed.binary)
    if parsed.wishes is not None:
        by_name = {output.spec.name: output for output in outputs}
        chosen = [by_name[wish.name] for wish in parsed.wishes]
        binary = {wish.name: wish.binary for wish in parsed.wishes}
    rendered = []
    blobs: list[bytes] = []
    for output in chosen:
        item: dict[str, object] = {
            "name": output.spec.name,
            "datatype": output.spec.datatype,
            "shape": output.shape,
        }
        if binary[output.spec.name]:
            item["parameters"] = {"binary_data_size": len(output.data)}
            blobs.append(output.data)
        else:
            item["data"] = to_flat(output.data, output.spec.datatype)
        rendered.append(item)
    document: dict[str, object] = {"model_name": model, "id": request_id, "outputs": rendered}
    if version:
        document["model_version"] = version
    head = orjson.dumps(document)
    if not any(binary.values()):
        return head, None
    return b"".join([head, *blobs]), len(head)
