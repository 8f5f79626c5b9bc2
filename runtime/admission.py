"""Requests on their way in: room and time for them, their rows in the arena; and out when time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil

from runtime.arena import Arena, ArenaFull
from runtime.batcher import Batcher, Entry, Group
from runtime.errors import RequestError
from runtime.job import InputTensor, Job, Result
from runtime.metrics import ModelMetrics
from runtime.rows import Rows, row_bytes, shape_key
from runtime.slot import Slot
from runtime.spec import Limits
from runtime.telemetry.mark import Mark

# The share of the arena that the buffer of one batch may take.
_BUFFER_SHARE = 16


class Admission:
    """The waiting side of a model's dispatcher. Every admitted request ends by its deadline, whatever happens
    to it.
    """

    def __init__(
        self,
        name: str,
        arena: Arena,
        limits: Limits,
        metrics: ModelMetrics,
        slots: Sequence[Slot],
        batcher: Batcher[Job, Rows],
    ) -> None:
        self.row_seconds = 0.0  # of one row in whatever batches there were, a moving average
        self._name = name
        self._arena = arena
        self._limits = limits
        self._metrics = metrics
        self._slots = slots
        self._batcher = batcher

    def check(self, timeout: float) -> None:
        """Raises RequestError(429) when the queue is full, or when so much waits that an answer would come
        later than in `timeout` seconds.
        """
        batcher = self._batcher
        if batcher.queued >= self._limits.queue:
            raise self.full(f"{batcher.queued} requests wait for model {self._name!r}")
        ahead = self._backlog()
        if ahead and ahead + self.row_seconds > timeout:
            raise self.full(
                f"model {self._name!r} would answer in {ahead + self.row_seconds:.3g} s, "
                f"later than the {timeout:g} s allowed"
            )

    def admit(
        self,
        inputs: Sequence[InputTensor],
        *,
        now: float,
        deadline: float,
        abandoned: Callable[[], bool],
        mark: Mark | None,
    ) -> Entry[Job, Rows]:
        """Its rows are written and it waits. Raises RequestError(429) when the arena is full."""
        loop = asyncio.get_running_loop()
        try:
            group, rows = self._place(inputs)
        except ArenaFull as error:
            raise self.full(f"the memory of model {self._name!r} is full: {error}") from None
        future: asyncio.Future[Result] = loop.create_future()
        job = Job(group.buffer.block, future=future, abandoned=abandoned, mark=mark)
        entry = self._batcher.admit(group, job, rows, now=now, deadline=deadline)
        group.buffer.write(entry.start, inputs)
        job.expiry = loop.call_at(deadline, self._expire, entry)
        self._metrics.queued = self._batcher.queued
        return entry

    def withdraw(self, entry: Entry[Job, Rows]) -> None:
        """It waits no more; what a worker has of it is left to end. It is still to be answered or dropped."""
        if entry.waiting:
            buffer = entry.group.buffer
            shift, gone = self._batcher.cancel(entry)
            if shift is not None:
                buffer.move(shift.source, shift.rows, shift.target)
            if gone:
                buffer.block.release()
            self._metrics.queued = self._batcher.queued

    def full(self, message: str) -> RequestError:
        waits = self._batcher.queued_rows + 1
        seconds = waits * (self.row_seconds or 0.1) / max(1, len(self._slots))
        return RequestError(429, message, retry_after=min(30, max(1, ceil(seconds))))

    def ran(self, rows: int, seconds: float) -> None:
        self.row_seconds += 0.1 * (seconds / max(1, rows) - self.row_seconds)

    def _place(self, inputs: Sequence[InputTensor]) -> tuple[Group[Job, Rows], int]:
        """The group and the number of rows of a request. Raises ArenaFull."""
        limit = self._batcher.options.max_rows
        key = shape_key(inputs)
        if key is None:
            shape = inputs[0].shape
            whole = self._batcher.open(None, 1, Rows(self._arena, inputs, 1, whole=True), alone=True)
            return whole, shape[0] if shape else 1
        rows = inputs[0].shape[0]
        if limit == 1 or rows >= limit:
            return self._batcher.open(key, rows, Rows(self._arena, inputs, rows), alone=True), rows
        group = self._batcher.room(key, rows)
        if group is None:
            size = sum(row_bytes(tensor) for tensor in inputs)
            capacity = max(rows, min(limit, self._arena.size // _BUFFER_SHARE // max(1, size)))
            try:
                buffer = Rows(self._arena, inputs, capacity)
            except ArenaFull:
                capacity = rows
                buffer = Rows(self._arena, inputs, capacity)
            group = self._batcher.open(key, capacity, buffer)
        return group, rows

    def _backlog(self) -> float:
        """Seconds until a request that comes now would start; 0 when a worker is idle, so that a wrong
        estimate cannot keep itself alive.
        """
        workers = 0
        rows = self._batcher.queued_rows
        for slot in self._slots:
            if slot.ready:
                if not slot.inflight:
                    return 0.0
                workers += 1
                rows += sum(batch.rows for batch in slot.inflight[1:])
        return rows * self.row_seconds / max(1, workers)

    def _expire(self, entry: Entry[Job, Rows]) -> None:
        entry.item.expiry = None
        if any(slot.worker is not None and slot.ready for slot in self._slots):
            error = RequestError(504, f"model {self._name!r} did not answer before the deadline")
        else:
            error = RequestError(503, f"model {self._name!r} has no live worker", retry_after=1)
        self.withdraw(entry)
        entry.item.fail(error)
