"""ONNX models through onnxruntime's CPU provider."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from runtime.errors import ModelError, Reason, summarise
from runtime.signature import Signature, TensorSpec, check_servable
from runtime.worker.backend import Array, Handle, InvalidInput
from runtime.worker.formats import ModelFiles

_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class _Node(Protocol):
    name: str
    type: str
    shape: list[object]


class _Session(Protocol):
    def get_inputs(self) -> list[_Node]: ...
    def get_outputs(self) -> list[_Node]: ...
    def run(self, names: list[str], feed: dict[str, Array]) -> list[Array]: ...


class OnnxBackend:
    """One session of onnxruntime."""

    engine = "onnxruntime"

    def __init__(self, files: ModelFiles, *, threads: int) -> None:
        import onnxruntime  # only a worker that serves ONNX pays for it

        state = onnxruntime.capi.onnxruntime_pybind11_state
        # Its other run-time errors are ambiguous, so they count as the model's own.
        self._refusal: type[Exception] = state.InvalidArgument

        def make() -> _Session:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            # Threads that wait must not take the cores from the front.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session: _Session = onnxruntime.InferenceSession(
                str(files.model), options, providers=["CPUExecutionProvider"]
            )
            return session

        try:
            self._handle = Handle(f"onnxruntime session {files.model.name}", make)
        except (state.InvalidProtobuf, state.NoSuchFile, state.InvalidGraph) as error:
            said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", summarise(error))
            said = said.replace(str(files.model), files.model.name)
            raise ModelError(
                Reason.CORRUPT_MODEL, f"{files.model.name} is not an ONNX model; is it cut short? ({said})"
            ) from None
        except Exception as error:  # its own exceptions have no common base but Exception
            raise ModelError(Reason.LOAD_FAILED, f"{files.model.name}: {summarise(error)}") from None
        session = self._handle.get()
        try:
            self.signature = check_servable(
                Signature(
                    tuple(_spec(node) for node in session.get_inputs()),
                    tuple(_spec(node) for node in session.get_outputs()),
                )
            )
        except ModelError:
            self.close()
            raise
        self._input_names = [tensor.name for tensor in self.signature.inputs]
        self._output_names = [tensor.name for tensor in self.signature.outputs]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        session = self._handle.get()
        try:
            return session.run(self._output_names, dict(zip(self._input_names, inputs, strict=True)))
        except self._refusal as error:
            raise InvalidInput(summarise(error)) from None

    def close(self) -> None:
        self._handle.close()


def _spec(node: _Node) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) and d > 0 else -1 for d in node.shape or ())
    return TensorSpec(node.name, _TYPES.get(node.type, node.type), shape)
