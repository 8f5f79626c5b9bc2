"""One request on its way through a model: its tensors in the arena, its deadline, its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.arena import Arena, Block
from runtime.codec.tensors import Buffer
from runtime.datatypes import BY_NAME
from runtime.errors import RequestError
from runtime.frames import Tensor
from runtime.signature import TensorSpec


@dataclass(frozen=True, slots=True)
class InputTensor:
    """A checked input: its place in the signature is its place in the request."""

    spec: TensorSpec
    shape: tuple[int, ...]
    data: Buffer


@dataclass(frozen=True, slots=True)
class OutputTensor:
    spec: TensorSpec
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """`queue` and `run` are seconds."""

    outputs: Sequence[OutputTensor]
    queue: float
    run: float


class Job:
    """Owns one arena block with all its inputs.

    The block has one reference of the job and one of each batch that carries it: a request whose deadline
    passed gives up its own, and the memory stays until the worker that reads it has answered or is dead.
    """

    __slots__ = (
        "abandoned", "attempts", "block", "deadline", "expiry", "future", "queued_at", "rows", "tensors",
    )  # fmt: skip

    def __init__(
        self,
        arena: Arena,
        inputs: Sequence[InputTensor],
        *,
        future: asyncio.Future[Result],
        now: float,
        deadline: float,
        abandoned: Callable[[], bool],
    ) -> None:
        """Copies the inputs into the arena. Raises ArenaFull."""
        sizes = [-(-len(tensor.data) // 64) * 64 for tensor in inputs]
        self.block: Block | None = arena.allocate(sum(sizes))
        self.tensors: list[Tensor] = []
        offset = self.block.offset
        for index, (tensor, size) in enumerate(zip(inputs, sizes, strict=True)):
            arena.write(offset, tensor.data)
            code = BY_NAME[tensor.spec.datatype].code
            self.tensors.append(Tensor(code, index, offset, len(tensor.data), tensor.shape))
            offset += size
        first = inputs[0].shape
        self.rows = first[0] if first else 1
        self.future = future
        self.queued_at = now
        self.deadline = deadline
        self.abandoned = abandoned
        self.attempts = 0
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        return self.future.done()

    def succeed(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)
        self._leave()

    def fail(self, error: RequestError) -> None:
        """Idempotent; the first answer counts."""
        if not self.future.done():
            self.future.set_exception(error)
        self._leave()

    def drop(self) -> None:
        """Nobody waits for the answer any more."""
        self.future.cancel()
        self._leave()

    def _leave(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None
        if self.block is not None:
            self.block.release()
            self.block = None


class Batch:
    """What a worker is busy with. One request for now; a batch of several has the same life."""

    __slots__ = ("block", "job", "window")

    def __init__(self, job: Job, window: Block) -> None:
        assert job.block is not None
        self.job = job
        self.block = job.block.acquire()
        self.window = window

    def release(self) -> None:
        """Only when no worker can read or write the memory any more."""
        self.block.release()
        self.window.release()
