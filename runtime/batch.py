"""One batch in a worker: its requests, the memory it reads and writes, and what the worker said of it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from math import prod

from runtime.arena import ALIGN, Arena, Block
from runtime.batcher import Entry, Why
from runtime.datatypes import BY_NAME
from runtime.errors import RequestError
from runtime.frames import WINDOW, Frame, Tensor
from runtime.job import Job, OutputTensor
from runtime.rows import Rows
from runtime.signature import Signature

_FIRST_WINDOW = 64 * 1024
_STATUS = {"invalid": 400, "memory": 503}


class Batch:
    """Rows `start` to `start + rows` of a buffer, given to a worker as sequence number `seq`.

    Holds the buffer and the window for the outputs until `release`, which is called when no worker can read
    or write them any more.
    """

    __slots__ = ("buffer", "entries", "limit", "marks", "rows", "seq", "start", "why", "window")

    def __init__(
        self, entries: Sequence[Entry[Job, Rows]], buffer: Rows, window: Block, why: Why, limit: float
    ) -> None:
        self.entries = entries
        self.buffer = buffer
        self.window = window
        self.why = why
        self.limit = limit  # seconds after which the run counts as hung
        self.start = entries[0].start
        self.rows = sum(entry.rows for entry in entries)
        self.seq = 0
        self.marks = [entry.item.mark for entry in entries if entry.item.mark is not None]
        buffer.block.acquire()

    def tensors(self) -> list[Tensor]:
        """Inputs, then the window."""
        window = Tensor(BY_NAME["BYTES"].code, WINDOW, self.window.offset, self.window.nbytes, ())
        return [*self.buffer.tensors(self.start, self.rows), window]

    @property
    def shape(self) -> Hashable:
        """What its costs are kept under. A retry runs in a lane of its own and counts for no shape."""
        key = self.entries[0].group.key
        return None if self.buffer.whole or (isinstance(key, tuple) and key[:1] == ("again",)) else key

    def sent(self) -> None:
        for mark in self.marks:
            mark.dispatched(self.rows, len(self.entries), self.marks)

    def ran(self, times: tuple[int, int, int]) -> None:
        for mark in self.marks:
            mark.ran(times)

    def fail(self, error: RequestError) -> None:
        """Releases it and answers all of its requests."""
        self.release()
        for entry in self.entries:
            entry.item.fail(error)

    def release(self) -> None:
        self.buffer.block.release()
        self.window.release()


class Outputs:
    """How large outputs are, before and after they are there."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._row = 0  # the most bytes that a row ever needed
        self.signature: Signature | None = None

    def measured(self, signature: Signature, nbytes: int, rows: int) -> None:
        self.signature = signature
        self.needed(nbytes, rows)

    def needed(self, nbytes: int, rows: int) -> None:
        self._row = max(self._row, -(-nbytes // max(1, rows)))

    def window(self, rows: int) -> int:
        """Bytes to reserve: exact when only first dimensions are open, else the most that was needed."""
        assert self.signature is not None
        total = 0
        for tensor in self.signature.outputs:
            if any(d < 0 for d in tensor.shape[1:]):
                return max(self._row * rows + ALIGN * len(self.signature.outputs), _FIRST_WINDOW)
            first = rows if tensor.shape and tensor.shape[0] < 0 else 1
            size = abs(prod(tensor.shape)) * first * BY_NAME[tensor.datatype].size
            total += -(-size // ALIGN) * ALIGN
        return total

    def of(self, batch: Batch, entry: Entry[Job, Rows], frame: Frame) -> list[OutputTensor]:
        """The outputs of one request of a batch; if there are several, it has been seen to scale."""
        if len(batch.entries) == 1:
            return self._whole(frame)
        return self._slice(frame, entry.start - batch.start, entry.rows)

    def _whole(self, frame: Frame) -> list[OutputTensor]:
        assert self.signature is not None
        return [
            OutputTensor(spec, tensor.dims, self._arena.read(tensor.offset, tensor.nbytes))
            for spec, tensor in zip(self.signature.outputs, frame.tensors, strict=True)
        ]

    def scaled(self, frame: Frame, rows: int) -> bool:
        """Every output has as many rows as the batch."""
        return all(tensor.dims[:1] == (rows,) for tensor in frame.tensors)

    def _slice(self, frame: Frame, row: int, rows: int) -> list[OutputTensor]:
        assert self.signature is not None
        found = []
        for spec, tensor in zip(self.signature.outputs, frame.tensors, strict=True):
            size = tensor.nbytes // tensor.dims[0]
            data = self._arena.read(tensor.offset + row * size, rows * size)
            found.append(OutputTensor(spec, (rows, *tensor.dims[1:]), data))
        return found


def read_error(frame: Frame) -> tuple[RequestError, int]:
    """The answer for an ERROR frame, and the output bytes it asks for (0 when it is no matter of space)."""
    said = json.loads(frame.payload)
    kind = str(said["kind"])
    status = _STATUS.get(kind, 500)
    retry_after = 1 if status == 503 else None
    return RequestError(status, str(said["message"]), retry_after=retry_after), int(said.get("need", 0))
