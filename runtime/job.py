"""One request on its way through a model: its rows in the arena, its deadline, its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.arena import Block
from runtime.codec.tensors import Buffer
from runtime.errors import RequestError
from runtime.signature import TensorSpec
from runtime.telemetry.mark import Mark


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
    """Holds one reference to the block with its rows, beside that of each batch that carries it: a request
    whose deadline passed gives up its own, and the memory stays until the worker that reads it has answered
    or is dead.
    """

    __slots__ = ("abandoned", "attempts", "block", "expiry", "future", "mark")

    def __init__(
        self,
        block: Block,
        *,
        future: asyncio.Future[Result],
        abandoned: Callable[[], bool],
        mark: Mark | None = None,
    ) -> None:
        self.block: Block | None = block.acquire()
        self.future = future
        self.abandoned = abandoned
        self.mark = mark
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
