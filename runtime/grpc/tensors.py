"""V2 over gRPC: messages to checked requests and results to messages."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from runtime.codec.request import (
    Parsed,
    Wish,
    check_datatype,
    find_input,
    from_binary,
    in_order,
    names,
    shape_of,
)
from runtime.codec.tensors import to_bytes
from runtime.datatypes import BY_NAME
from runtime.errors import bad_request
from runtime.grpc.stubs import open_inference_pb2 as pb
from runtime.job import InputTensor, OutputTensor
from runtime.signature import Signature, TensorSpec

# The typed field of each datatype; FP16 and BF16 have none.
FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def parse(request: pb.ModelInferRequest, signature: Signature) -> Parsed:
    """A checked request. Raises a 400 naming the input."""
    _refuse_shared_memory(request.parameters, "the request")
    for item in request.inputs:
        _refuse_shared_memory(item.parameters, f"input {item.name!r}")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise bad_request(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs; send one for each, "
            "or none"
        )
    if not request.inputs:
        raise bad_request(f"inputs is empty; the model expects {names(signature.inputs)}")
    found: dict[str, InputTensor] = {}
    for index, item in enumerate(request.inputs):
        spec = find_input(signature, item.name)
        if spec.name in found:
            raise bad_request(f"input {spec.name!r} is given twice")
        check_datatype(spec, item.datatype)
        shape = shape_of(spec.name, list(item.shape))
        if not raw:
            found[spec.name] = from_binary(spec, _typed(spec, item.contents), shape)
        elif item.HasField("contents"):
            raise bad_request(
                f"input {spec.name!r}: contents and raw_input_contents are both given; send one"
            )
        else:
            found[spec.name] = from_binary(spec, raw[index], shape)
    return Parsed(
        inputs=in_order(signature, found),
        id=request.id,
        wishes=_wishes(request, signature),
        binary=bool(raw),
        timeout=_timeout(request.parameters),
    )


def _typed(spec: TensorSpec, contents: pb.InferTensorContents) -> bytes:
    field = FIELDS.get(spec.datatype)
    if field is None:
        raise bad_request(f"input {spec.name!r}: {spec.datatype} has no typed contents; send it raw")
    values = getattr(contents, field)
    if not values:
        raise bad_request(f"input {spec.name!r}: {field} is empty; {spec.datatype} values belong there")
    kind = BY_NAME[spec.datatype]
    if kind.group == "float":
        return array(kind.letter, values).tobytes()
    return to_bytes(spec.name, list(values), spec.datatype)


def _wishes(request: pb.ModelInferRequest, signature: Signature) -> list[Wish] | None:
    if not request.outputs:
        return None
    known = {spec.name for spec in signature.outputs}
    wishes = []
    for item in request.outputs:
        if item.name not in known:
            raise bad_request(f"output {item.name!r} is unknown; the model has {names(signature.outputs)}")
        _refuse_shared_memory(item.parameters, f"output {item.name!r}")
        if "classification" in item.parameters:
            raise bad_request(f"output {item.name!r}: the classification extension is not supported")
        wishes.append(Wish(item.name, True))
    return wishes


def _refuse_shared_memory(parameters: Mapping[str, pb.InferParameter], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise bad_request(f"{where}: shared memory is not enabled on this server; send the data in the call")


def _timeout(parameters: Mapping[str, pb.InferParameter]) -> float | None:
    """Microseconds on the wire; 0 means the server's own limit."""
    if "timeout" not in parameters:
        return None
    given = parameters["timeout"]
    kind = given.WhichOneof("parameter_choice")
    value = getattr(given, kind) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise bad_request("parameter timeout must be a whole number of microseconds, as int64_param")
    return value / 1e6 if value else None


def render(
    parsed: Parsed, outputs: Sequence[OutputTensor], *, model: str, version: str, request_id: str
) -> pb.ModelInferResponse:
    """Raw when the request was raw or an output has no typed form, else typed."""
    if parsed.wishes is not None:
        by_name = {output.spec.name: output for output in outputs}
        outputs = [by_name[wish.name] for wish in parsed.wishes]
    response = pb.ModelInferResponse(model_name=model, model_version=version, id=request_id)
    raw = parsed.binary or any(output.spec.datatype not in FIELDS for output in outputs)
    for output in outputs:
        item = response.outputs.add(name=output.spec.name, datatype=output.spec.datatype, shape=output.shape)
        if raw:
            response.raw_output_contents.append(output.data)
        else:
            kind = BY_NAME[output.spec.datatype]
            values = memoryview(output.data).cast(kind.letter)  # type: ignore[call-overload]
            getattr(item.contents, FIELDS[output.spec.datatype]).extend(values)
    return response
