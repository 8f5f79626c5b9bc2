"""What strangers send, byte for byte: each target takes any bytes and raises only for a fault of ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.message import DecodeError

from runtime.codec import predict, v2
from runtime.codec.request import Parsed, load_object
from runtime.codec.tensors import size_of
from runtime.errors import RequestError
from runtime.fast import _LINE, _read
from runtime.frames import WINDOW, Frame, FrameError, Op, Tensor, pack, unpack
from runtime.grpc import paddle, tensors
from runtime.grpc.stubs import open_inference_pb2 as pb
from runtime.grpc.stubs import paddle_serving_pb2 as ps
from runtime.signature import Signature, TensorSpec
from runtime.telemetry.context import parse_traceparent

SIGNATURE = Signature(
    (
        TensorSpec("x", "FP32", (-1, 3)),
        TensorSpec("ids", "INT64", (-1, 2)),
        TensorSpec("flags", "BOOL", (-1, -1)),
        TensorSpec("half", "FP16", (1,)),
    ),
    (TensorSpec("y", "FP32", (-1, 2)),),
)
ONE = Signature((TensorSpec("x", "FP32", (-1, -1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
ARENA = 1 << 20


def _checked(parsed: Parsed, signature: Signature) -> None:
    """What was let through fits the model to the byte: a worker reads it as it is."""
    assert [tensor.spec for tensor in parsed.inputs] == list(signature.inputs)
    for tensor in parsed.inputs:
        tensor.spec.check_shape(tensor.shape)
        assert len(tensor.data) == size_of(tensor.spec.datatype, tensor.shape)
    assert parsed.timeout is None or parsed.timeout > 0


def _refused(call: Callable[[], object]) -> None:
    """It may only be a 400 with something to read."""
    refusal: RequestError | None = None
    try:
        call()
    except RequestError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status == 400
        assert refusal.message
        json.dumps({"error": refusal.message}).encode()


def v2_binary(data: bytes) -> None:
    """The header's value, then the body, parted by a zero byte."""
    length, found, body = data.partition(b"\0")
    text = length.decode("latin-1") if found else None
    for signature in (SIGNATURE, ONE):
        _refused(
            lambda s=signature: _checked(v2.parse(body if found else data, text, s), s)  # type: ignore[misc]
        )


def predict_json(data: bytes) -> None:
    _refused(lambda: _checked(predict.parse(load_object(data), SIGNATURE), SIGNATURE))


def v2_grpc(data: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    for signature in (SIGNATURE, ONE):
        _refused(lambda s=signature: _checked(tensors.parse(request, s), s))  # type: ignore[misc]


def paddle_grpc(data: bytes) -> None:
    for signature in (SIGNATURE, ONE):
        _refused(lambda s=signature: _checked(paddle.parse(data, s), s))  # type: ignore[misc]


def frame(data: bytes) -> None:
    """A message of a worker that has gone mad; what is taken for a frame is one."""
    try:
        found = unpack(data, ARENA)
    except FrameError:
        return
    assert pack(found) == data
    for tensor in found.tensors:
        assert 0 <= tensor.offset <= tensor.offset + tensor.nbytes <= ARENA


def http_head(data: bytes) -> None:
    """The short way's own reading: what it takes has one plain length."""
    line = _LINE.match(data)
    head = _read(data) if line is not None else None
    if head is not None:
        assert 0 <= int(head.headers["Content-Length"]) < 10**12


def traceparent(data: bytes) -> None:
    found = parse_traceparent(data.decode("latin-1"))
    if found is not None:
        assert 0 < found.trace < 2**128
        assert 0 < found.span < 2**64


def _binary_seed() -> bytes:
    def described(name: str, datatype: str, shape: Sequence[int], size: int) -> dict[str, object]:
        return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}

    inputs = [
        described("x", "FP32", [1, 3], 12), described("ids", "INT64", [1, 2], 16),
        described("flags", "BOOL", [1, 1], 1), described("half", "FP16", [1], 2),
    ]  # fmt: skip
    head = json.dumps({"inputs": inputs, "parameters": {"timeout": 5}, "outputs": [{"name": "y"}]}).encode()
    return b"%d\0%s%s" % (len(head), head, bytes(31))


def _grpc_seed() -> bytes:
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 2, 3]}},
        {"name": "ids", "datatype": "INT64", "shape": [1, 2], "contents": {"int64_contents": [1, 2]}},
        {"name": "flags", "datatype": "BOOL", "shape": [1, 1], "contents": {"bool_contents": [True]}},
        {"name": "half", "datatype": "FP16", "shape": [1]},
    ]
    parameters = {"timeout": {"int64_param": 5}}
    request = pb.ModelInferRequest(inputs=inputs, parameters=parameters, outputs=[{"name": "y"}])  # type: ignore[arg-type, list-item]
    return request.SerializeToString()


def _raw_grpc_seed() -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1, 2]}
    return pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[bytes(8)]).SerializeToString()  # type: ignore[list-item]


def _paddle_seed() -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1, 2], "content": bytes(8)}
    return ps.TensorList(tensors=[tensor]).SerializeToString()  # type: ignore[list-item]


_FRAME = Frame(Op.RUN, 7, 1, 2, (Tensor(11, 0, 64, 24, (2, 3)), Tensor(14, WINDOW, 128, 4096, ())))
_PREDICT = {"x": [[1, 2, 3]], "ids": {"shape": [1, 2], "data": [1, 2]}, "flags": [[True]], "half": [0.5]}
TARGETS: Mapping[str, tuple[Callable[[bytes], None], Sequence[bytes]]] = {
    "v2_binary": (
        v2_binary,
        (
            _binary_seed(),
            b"0\0" + struct.pack("<4f", 1, 2, 3, 4),
            _binary_seed()[4:],
            b'{"inputs": [{"name": "x", "datatype": ["FP32"], "shape": [1, 3]}]}',  # was a fault once
        ),
    ),
    "predict_json": (predict_json, (json.dumps({"inputs": _PREDICT}).encode(),)),
    "v2_grpc": (v2_grpc, (_grpc_seed(), _raw_grpc_seed())),
    "paddle_grpc": (paddle_grpc, (_paddle_seed(),)),
    "frame": (frame, (pack(_FRAME), pack(Frame(Op.DONE, 7, payload=bytes(24))))),
    "http_head": (
        http_head,
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nX-Request-Id: a\r\n\r\n",
            b"POST /v2/models/m/versions/v1/infer HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        ),
    ),
    "traceparent": (traceparent, (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",)),
}
