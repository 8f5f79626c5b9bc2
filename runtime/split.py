"""Requests with more rows than a batch may have: run in parts like any others, answered as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import prod

from runtime.admission import Admission
from runtime.batcher import Entry
from runtime.datatypes import BY_NAME
from runtime.errors import RequestError
from runtime.job import InputTensor, Job, OutputTensor, Result
from runtime.rows import Rows, row_bytes, shape_key
from runtime.telemetry.mark import Mark


def oversized(inputs: Sequence[InputTensor], limit: int) -> bool:
    """Whether a request has more rows than the `limit` of a batch, in a model that makes batches."""
    shape = inputs[0].shape
    return 1 < limit < (shape[0] if shape else 0) and shape_key(inputs) is not None


def parts(inputs: Sequence[InputTensor], limit: int) -> list[list[InputTensor]]:
    """Neighbouring rows, `limit` at a time and the rest last; views into the data, no copies."""
    rows = inputs[0].shape[0]
    views = [(tensor, memoryview(tensor.data).cast("B"), row_bytes(tensor)) for tensor in inputs]
    return [
        [
            InputTensor(
                tensor.spec,
                (min(limit, rows - start), *tensor.shape[1:]),
                view[start * size : (start + limit) * size],
            )
            for tensor, view, size in views
        ]
        for start in range(0, rows, limit)
    ]


def join(results: Sequence[Result], rows: Sequence[int]) -> Result | None:
    """One result of all, in their order; None when outputs do not have the `rows` of their parts or differ in
    their other dimensions, so that they cannot be one tensor.
    """
    outputs = []
    for tensors in zip(*(result.outputs for result in results), strict=True):
        first = tensors[0]
        for tensor, count in zip(tensors, rows, strict=True):
            if tensor.shape[:1] != (count,) or tensor.shape[1:] != first.shape[1:]:
                return None
        shape = (sum(rows), *first.shape[1:])
        data = b"".join(tensor.data for tensor in tensors)
        assert len(data) == prod(shape) * BY_NAME[first.spec.datatype].size
        outputs.append(OutputTensor(first.spec, shape, data))
    return Result(outputs, min(result.queue for result in results), sum(result.run for result in results))


class Whole:
    """A request in parts. `future` ends once: with all parts joined, or with the first error of one; then
    what is left of the others is given up. All parts have the request's deadline, and go when its client
    does.
    """

    def __init__(
        self,
        admission: Admission,
        inputs: Sequence[InputTensor],
        limit: int,
        *,
        now: float,
        deadline: float,
        abandoned: Callable[[], bool],
        mark: Mark | None,
        unscaled: Callable[[], None],
    ) -> None:
        """`unscaled` is called when the outputs do not follow the rows after all; the request then runs as it
        came. Raises RequestError(429) when there is no room for all of it.
        """
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._admission = admission
        self._inputs = inputs  # kept for the case that it has to run as it came
        self._deadline = deadline
        self._abandoned = abandoned
        self._mark = mark
        self._unscaled = unscaled
        self._entries: list[Entry[Job, Rows]] = []
        try:
            for part in parts(inputs, limit):
                self._admit(part, now)
        except RequestError:
            self._give_up()
            raise
        self._left = len(self._entries)
        for entry in self._entries:
            entry.item.future.add_done_callback(self._ended)
        self.future.add_done_callback(self._give_up)

    def _admit(self, inputs: Sequence[InputTensor], now: float) -> Entry[Job, Rows]:
        entry = self._admission.admit(
            inputs, now=now, deadline=self._deadline, abandoned=self._gone, mark=self._mark
        )
        self._entries.append(entry)
        return entry

    def _gone(self) -> bool:
        return self.future.done() or self._abandoned()

    def _ended(self, part: asyncio.Future[Result]) -> None:
        error = None if part.cancelled() else part.exception()
        if self.future.done():
            return
        self._left -= 1
        if part.cancelled():
            self.future.cancel()
        elif error is not None:
            self.future.set_exception(error)
        elif not self._left:
            self._join()

    def _join(self) -> None:
        whole = join(
            [entry.item.future.result() for entry in self._entries], [entry.rows for entry in self._entries]
        )
        if whole is not None:
            self.future.set_result(whole)
            return
        self._entries.clear()
        try:
            entry = self._admit(self._inputs, asyncio.get_running_loop().time())
        except RequestError as error:
            self.future.set_exception(error)
            return
        entry.item.future.add_done_callback(self._as_it_came)
        self._unscaled()

    def _as_it_came(self, alone: asyncio.Future[Result]) -> None:
        error = None if alone.cancelled() else alone.exception()
        if self.future.done():
            return
        if alone.cancelled():
            self.future.cancel()
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(alone.result())

    def _give_up(self, _: object = None) -> None:
        """Of what has not ended yet."""
        for entry in self._entries:
            if not entry.item.done:
                self._admission.withdraw(entry)
                entry.item.drop()
