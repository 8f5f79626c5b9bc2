"""A client of the gRPC port."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from runtime.grpc.stubs import open_inference_pb2 as pb
from runtime.grpc.stubs import open_inference_pb2_grpc as v2_stubs
from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from runtime.grpc.stubs import paddle_serving_pb2_grpc as paddle_stubs
from tests.runtime.conftest import DEADLINE

X = struct.pack("<3f", 1, 2, 3)
Y = struct.pack("<2f", 13, 13)


class Client:
    """Both services on one channel; every call has a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.v2: Any = v2_stubs.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        self.paddle: Any = paddle_stubs.PaddleModelServiceStub(channel)  # type: ignore[no-untyped-call]

    def infer(self, request: pb.ModelInferRequest, **options: object) -> pb.ModelInferResponse:
        response: pb.ModelInferResponse = self.v2.ModelInfer(request, **{"timeout": DEADLINE, **options})
        return response


@contextmanager
def client(address: str, **options: object) -> Iterator[Client]:
    """A channel of its own: others to the same address would share a connection with it."""
    settings = {"grpc.use_local_subchannel_pool": 1, **options}
    with grpc.insecure_channel(address, options=tuple(settings.items())) as channel:
        yield Client(channel)


def raw(name: str = "lin", data: bytes = X, **fields: Any) -> pb.ModelInferRequest:
    """Rows of the model that has one input x of three numbers."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[len(data) // 12, 3])
    return pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[data], **fields)


def listed(*tensors: Mapping[str, object]) -> bytes:
    return paddle.TensorList(tensors=tensors).SerializeToString()  # type: ignore[arg-type]


TENSORS = listed({"name": "x", "datatype": "FP32", "shape": [1, 3], "content": X})


def error_of(call: Callable[[], object]) -> grpc.RpcError:
    """The error that a call ends with; it must."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"answered: {answer}")


def status(error: grpc.RpcError) -> tuple[str, str]:
    """Name of the code, and the details."""
    assert isinstance(error, grpc.Call)
    return error.code().name, error.details() or ""


def trailing(error: grpc.RpcError) -> dict[str, object]:
    assert isinstance(error, grpc.Call)
    return {str(name): value for name, value in error.trailing_metadata() or ()}
