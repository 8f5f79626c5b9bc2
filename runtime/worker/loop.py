"""The worker's life: frames in, frames out, one by one, until SHUTDOWN or until the front is gone."""

from __future__ import annotations

import json
import mmap
import os
import socket
import time
from collections.abc import Mapping, Sequence

import numpy

from runtime.datatypes import BY_CODE, BY_NAME
from runtime.errors import ModelError, Reason, summarise
from runtime.frames import MAX_FRAME, TIMES, WINDOW, Frame, FrameError, Op, Tensor, pack, unpack
from runtime.worker.backend import Array, Counters, InvalidInput
from runtime.worker.calm import Calm
from runtime.worker.loading import Loaded, Order, load

_ALIGN = 64


class Loop:
    """Owns the socket, the mapping of the arena and the backend. `run` returns when there is nothing more to
    do.
    """

    def __init__(self, connection: socket.socket, arena_fd: int, calm: Calm) -> None:
        self._socket = connection
        self._calm = calm
        size = os.fstat(arena_fd).st_size
        self._arena = mmap.mmap(arena_fd, size)
        self._loaded: Loaded | None = None
        self._runs = 0

    def run(self) -> None:
        while True:
            message = self._socket.recv(MAX_FRAME + 1)
            if not message:
                return  # the front closed its end
            received = time.monotonic_ns()
            frame = unpack(message, len(self._arena))
            if frame.op is Op.SHUTDOWN:
                self._calm.leave()
                self._close()
                self._reply(Op.STATS, frame, payload=self._stats())
                return
            try:
                self._answer(frame, received)
            except ModelError as error:
                self._error(frame, kind="model", reason=error.reason.value, message=error.message)
            except InvalidInput as error:
                self._error(frame, kind="invalid", message=str(error))
            except MemoryError as error:
                self._error(frame, kind="memory", reason=Reason.OUT_OF_MEMORY.value, message=summarise(error))
            except FrameError:
                raise  # the two ends disagree about the protocol; nothing said now could be trusted
            except Exception as error:  # whatever an engine raises is an answer to this request, not the end
                self._error(frame, kind="internal", message=summarise(error))

    def _answer(self, frame: Frame, received: int) -> None:
        if frame.op is Op.RUN:
            self._run(frame, received)
        elif frame.op is Op.LOAD:
            self._load(frame)
        elif frame.op is Op.STATS:
            self._reply(Op.STATS, frame, payload=self._stats())
        else:
            raise FrameError(f"op {frame.op!r} is not for a worker")

    def _load(self, frame: Frame) -> None:
        self._close()
        text = frame.payload or b"".join(self._view(tensor) for tensor in frame.tensors)
        order = Order.from_wire(json.loads(text))

        def progress(stage: str, engine: str) -> None:
            self._reply(Op.PROGRESS, frame, payload=_json({"stage": stage, "engine": engine}))

        self._loaded = load(order, progress, self._calm)
        self._calm.end()
        self._reply(Op.READY, frame, payload=_json(self._loaded.to_wire()))

    def _run(self, frame: Frame, received: int) -> None:
        if self._loaded is None:
            raise FrameError("RUN before LOAD")
        inputs = []
        window: Tensor | None = None
        for tensor in frame.tensors:
            if tensor.index == WINDOW:
                window = tensor
            else:
                inputs.append(self._array(tensor))
        started = time.monotonic_ns()
        outputs = self._loaded.backend.run(inputs)
        self._runs += 1
        ran = time.monotonic_ns()
        needed = sum(-(-output.nbytes // _ALIGN) * _ALIGN for output in outputs)
        if window is None or needed > window.nbytes:
            self._error(frame, kind="window", message=f"outputs need {needed} bytes", need=needed)
            return
        tensors = self._write(outputs, window.offset)
        times = TIMES.pack(started - received, ran - started, time.monotonic_ns() - ran)
        self._reply(Op.DONE, frame, tensors=tensors, payload=times)

    def _array(self, tensor: Tensor) -> Array:
        """A view into the arena: the engine's copy from it is the only one."""
        kind = BY_CODE[tensor.datatype]
        count = tensor.nbytes // kind.size
        flat = numpy.frombuffer(self._arena, dtype=kind.numpy, count=count, offset=tensor.offset)
        return flat.reshape(tensor.dims)

    def _write(self, outputs: Sequence[Array], offset: int) -> list[Tensor]:
        assert self._loaded is not None
        tensors = []
        for index, (output, spec) in enumerate(zip(outputs, self._loaded.signature.outputs, strict=True)):
            kind = BY_NAME[spec.datatype]
            if output.dtype != kind.numpy:
                raise RuntimeError(
                    f"output {spec.name!r} is {output.dtype}, the model file says {spec.datatype}"
                )
            target = numpy.frombuffer(self._arena, dtype=output.dtype, count=output.size, offset=offset)
            target[:] = output.reshape(-1)
            tensors.append(Tensor(kind.code, index, offset, output.nbytes, output.shape))
            offset += -(-output.nbytes // _ALIGN) * _ALIGN
        return tensors

    def _view(self, tensor: Tensor) -> bytes:
        return self._arena[tensor.offset : tensor.offset + tensor.nbytes]

    def _stats(self) -> bytes:
        return _json({"runs": self._runs, "created": Counters.created, "destroyed": Counters.destroyed})

    def _error(
        self, frame: Frame, *, kind: str, message: str, reason: str = "", need: int | None = None
    ) -> None:
        body: dict[str, object] = {"kind": kind, "reason": reason, "message": message[:2000]}
        if need is not None:
            body["need"] = need
        self._reply(Op.ERROR, frame, payload=_json(body))

    def _reply(self, op: Op, frame: Frame, *, tensors: Sequence[Tensor] = (), payload: bytes = b"") -> None:
        self._socket.send(
            pack(
                Frame(
                    op, frame.seq, frame.generation, frame.rows, tensors, payload, sent_ns=time.monotonic_ns()
                )
            )
        )

    def _close(self) -> None:
        if self._loaded is not None:
            self._loaded.backend.close()
            self._loaded = None


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode()
