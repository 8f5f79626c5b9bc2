"""From admitted requests to workers and back: a bounded queue, the arena, one batch in each worker."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil, prod

from runtime.arena import ALIGN, Arena, ArenaFull
from runtime.datatypes import BY_NAME
from runtime.errors import RequestError
from runtime.frames import MAX_ROWS, TIMES, WINDOW, Frame, Op, Tensor
from runtime.job import Batch, InputTensor, Job, OutputTensor, Result
from runtime.metrics import ModelMetrics
from runtime.signature import Signature
from runtime.slot import Slot
from runtime.spec import Limits

_MOST_ATTEMPTS = 2
_FIRST_WINDOW = 64 * 1024
_STATUS = {"invalid": 400, "memory": 503}


class Dispatcher:
    """Requests go to workers in the order they came, each is answered exactly once: a Result or a
    RequestError.

    A request that a dying worker held is tried once more on the next one; if that dies too, the request is
    taken for the cause (500). All methods belong to the loop's thread.
    """

    def __init__(
        self, name: str, arena: Arena, limits: Limits, metrics: ModelMetrics, slots: Sequence[Slot]
    ) -> None:
        self.signature: Signature | None = None
        self._name = name
        self._arena = arena
        self._limits = limits
        self._metrics = metrics
        self._slots = slots
        self._queue: deque[Job] = deque()
        self._largest_output = 0
        self._run_seconds = 0.0  # of one row, a moving average

    def measured(self, signature: Signature, seconds: float, output_bytes: int) -> None:
        """What loading and warm-up found; requests may come from now on."""
        self.signature = signature
        self._run_seconds = seconds
        self._largest_output = max(self._largest_output, output_bytes)

    def submit(
        self, inputs: Sequence[InputTensor], *, timeout: float, abandoned: Callable[[], bool]
    ) -> asyncio.Future[Result]:
        """Admits a checked request; the future ends within `timeout` seconds.

        Raises RequestError(429) when the queue or the arena is full.
        """
        if len(self._queue) >= self._limits.queue:
            raise self._full(f"{len(self._queue)} requests wait for model {self._name!r}")
        loop = asyncio.get_running_loop()
        now = loop.time()
        future: asyncio.Future[Result] = loop.create_future()
        try:
            job = Job(
                self._arena, inputs, future=future, now=now, deadline=now + timeout, abandoned=abandoned
            )
        except ArenaFull as error:
            raise self._full(f"the memory of model {self._name!r} is full: {error}") from None
        job.expiry = loop.call_at(job.deadline, self._expire, job)
        self._queue.append(job)
        self.kick()
        return future

    def kick(self) -> None:
        """Gives waiting requests to free workers; batching will take several at once from the queue here."""
        for slot in self._slots:
            while self._queue and slot.free:
                job = self._queue.popleft()
                if job.done:
                    continue
                if job.abandoned():
                    job.drop()
                    continue
                self._dispatch(slot, job, self._output_bytes(job.rows))
        self._metrics.queued = len(self._queue)

    def answered(self, slot: Slot, frame: Frame) -> None:
        """A worker's DONE or ERROR for what it was given."""
        batch = self._take(slot)
        if batch is None:
            return
        job = batch.job
        if frame.op is not Op.DONE:
            batch_error, need = _read_error(frame)
            if need and not job.done:
                batch.window.release()
                self._larger_window(slot, job, need)
                batch.block.release()
            else:
                batch.release()
                self.kick()
                job.fail(batch_error)
            return
        _, run_ns, _ = TIMES.unpack(frame.payload)
        run = run_ns / 1e9
        self._run_seconds += 0.1 * (run / max(1, frame.rows) - self._run_seconds)
        self._metrics.duration.observe(run)
        outputs = self._read(frame)
        batch.release()
        self.kick()  # the worker is fed before the answer is written
        waited = asyncio.get_running_loop().time() - job.queued_at - run
        job.succeed(Result(outputs, max(0.0, waited), run))

    def lost(self, slot: Slot, why: str, *, gone: RequestError | None = None) -> None:
        """The worker died: what it held is queued once more, at the front, or answered (with `gone` if
        given).
        """
        batch = self._take(slot)
        if batch is None:
            return
        job = batch.job
        batch.release()
        if job.done:
            return
        job.attempts += 1
        if gone is not None:
            job.fail(gone)
        elif job.attempts < _MOST_ATTEMPTS:
            self._queue.appendleft(job)
            self.kick()
        else:
            job.fail(RequestError(500, f"the request ended {job.attempts} workers of {self._name!r} ({why})"))

    def fail_all(self, error: RequestError) -> None:
        """Answers everything that waits; what is in a worker is left to end."""
        while self._queue:
            self._queue.popleft().fail(error)
        self._metrics.queued = 0

    @property
    def idle(self) -> bool:
        return not self._queue and all(slot.inflight is None for slot in self._slots)

    def _take(self, slot: Slot) -> Batch | None:
        batch, slot.inflight = slot.inflight, None
        if batch is not None:
            self._metrics.inflight -= 1
        return batch

    def _dispatch(self, slot: Slot, job: Job, output_bytes: int) -> None:
        assert slot.worker is not None
        try:
            window = self._arena.allocate(output_bytes)
        except ArenaFull as error:
            job.fail(self._full(f"the memory of model {self._name!r} is full: {error}"))
            return
        rows = min(job.rows, MAX_ROWS)
        slot.inflight = Batch(job, window)
        slot.busy_since = asyncio.get_running_loop().time()
        slot.run_limit = (
            max(self._limits.run_at_least, 20 * self._run_seconds * rows)
            if self._run_seconds
            else self._limits.run_unknown
        )
        self._metrics.inflight += 1
        out = Tensor(BY_NAME["BYTES"].code, WINDOW, window.offset, window.nbytes, ())
        slot.worker.send(Frame(Op.RUN, 0, rows=rows, tensors=(*job.tensors, out)))

    def _larger_window(self, slot: Slot, job: Job, need: int) -> None:
        """The window was a guess, or the file's output shapes are not what the network gives."""
        self._largest_output = max(self._largest_output, need)
        if need > self._arena.size // 2:
            limit = self._arena.size // 2
            job.fail(
                RequestError(500, f"the outputs need {need} bytes, the limit is {limit}; send fewer rows")
            )
            self.kick()
            return
        self._dispatch(slot, job, need)
        if slot.free:
            self.kick()

    def _output_bytes(self, rows: int) -> int:
        """Exact when only first dimensions are open, else the most that was ever needed."""
        assert self.signature is not None
        total = 0
        for tensor in self.signature.outputs:
            if any(d < 0 for d in tensor.shape[1:]):
                return max(self._largest_output, _FIRST_WINDOW)
            first = rows if tensor.shape and tensor.shape[0] < 0 else 1
            size = abs(prod(tensor.shape)) * first * BY_NAME[tensor.datatype].size
            total += -(-size // ALIGN) * ALIGN
        return total

    def _read(self, frame: Frame) -> list[OutputTensor]:
        assert self.signature is not None
        return [
            OutputTensor(spec, tensor.dims, self._arena.read(tensor.offset, tensor.nbytes))
            for spec, tensor in zip(self.signature.outputs, frame.tensors, strict=True)
        ]

    def _expire(self, job: Job) -> None:
        job.expiry = None
        if any(slot.worker is not None and slot.ready for slot in self._slots):
            job.fail(RequestError(504, f"model {self._name!r} did not answer before the deadline"))
        else:
            job.fail(RequestError(503, f"model {self._name!r} has no live worker", retry_after=1))
        if job in self._queue:
            self._queue.remove(job)
            self._metrics.queued = len(self._queue)

    def _full(self, message: str) -> RequestError:
        seconds = (len(self._queue) + 1) * (self._run_seconds or 0.1) / max(1, len(self._slots))
        return RequestError(429, message, retry_after=min(30, max(1, ceil(seconds))))


def _read_error(frame: Frame) -> tuple[RequestError, int]:
    """The answer for an ERROR frame, and the output bytes it asks for (0 when it is no matter of space)."""
    said = json.loads(frame.payload)
    kind = str(said["kind"])
    status = _STATUS.get(kind, 500)
    retry_after = 1 if status == 503 else None
    return RequestError(status, str(said["message"]), retry_after=retry_after), int(said.get("need", 0))
