"""From admitted requests to workers and back: rows in the arena, the batcher's decisions, answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runtime.admission import Admission
from runtime.arena import Arena, ArenaFull
from runtime.batch import Batch, Outputs, read_error
from runtime.batcher import Batcher, Dispatch, Entry, Options
from runtime.costs import Costs
from runtime.errors import RequestError
from runtime.frames import MAX_ROWS, TIMES, Frame, Op
from runtime.job import InputTensor, Job, Result
from runtime.metrics import ModelMetrics
from runtime.rows import Rows
from runtime.signature import Signature
from runtime.slot import Slot
from runtime.spec import Limits
from runtime.split import Whole, oversized
from runtime.telemetry.mark import Mark
from runtime.turns import Turn

_MOST_ATTEMPTS = 2
# A second batch waits in a busy worker only when runs are so short that the way there and back counts.
_AHEAD_SECONDS = 0.05


class Dispatcher:
    """Each request is answered exactly once: with a Result or a RequestError.

    Requests that a dying worker ran are tried once more, each alone; the one that ends a second worker is
    taken for the cause (500). A batch that fails without a death is tried again request by request, so that
    an error meets only the one that has it. All methods belong to the loop's thread.

    With a `turn` a worker begins a batch only when the scheduler of all models says so; without one at once.
    """

    def __init__(
        self, name: str, arena: Arena, limits: Limits, metrics: ModelMetrics, slots: Sequence[Slot]
    ) -> None:
        self.split_reason = ""  # why batching was given up while serving
        self.turn: Turn | None = None
        self._name = name
        self._arena = arena
        self._limits = limits
        self._metrics = metrics
        self._slots = slots
        self._costs = Costs()
        self._outputs = Outputs(arena)
        self._batcher: Batcher[Job, Rows] = Batcher(Options(), self._costs.seconds)
        self._admission = Admission(name, arena, limits, metrics, slots, self._batcher)
        self._kicking = False
        self._asks = False  # it waits for its turn
        self._timer: asyncio.TimerHandle | None = None

    def measured(
        self,
        signature: Signature,
        *,
        options: Options,
        seconds: dict[int, float],
        output_bytes: int,
        output_rows: int,
    ) -> None:
        """What loading and warm-up found; requests may come from now on. `seconds` is by rows."""
        self._outputs.measured(signature, output_bytes, output_rows)
        self._costs.reset(seconds)
        self._batcher.options = options
        if seconds:
            rows = min(max(seconds), options.max_rows)
            self._admission.row_seconds = self._costs.seconds(None, rows) / rows

    def submit(
        self,
        inputs: Sequence[InputTensor],
        *,
        timeout: float,
        abandoned: Callable[[], bool],
        mark: Mark | None = None,
    ) -> asyncio.Future[Result]:
        """Admits a checked request; the future ends within `timeout` seconds. One with more rows than a batch
        may have runs in parts.

        Raises RequestError(429) when the queue or the arena is full, or when so much waits that the answer
        would come too late.
        """
        self._admission.check(timeout)
        now = asyncio.get_running_loop().time()
        self.kick_soon()
        limit = self._batcher.options.max_rows
        if oversized(inputs, limit):
            self._metrics.split += 1
            return Whole(
                self._admission, inputs, limit, now=now, deadline=now + timeout, abandoned=abandoned,
                mark=mark, unscaled=self._unscaled,
            ).future  # fmt: skip
        return self._admission.admit(
            inputs, now=now, deadline=now + timeout, abandoned=abandoned, mark=mark
        ).item.future

    def kick_soon(self) -> None:
        """Once in this turn of the loop, so that what one poll brought runs together."""
        if not self._kicking:
            self._kicking = True
            asyncio.get_running_loop().call_soon(self.kick)

    def kick(self) -> None:
        """Gives waiting requests to workers that can take them."""
        self._kicking = self._asks = False
        batcher = self._batcher
        if batcher.queued:
            loop = asyncio.get_running_loop()
            now = loop.time()
            for slot in self._slots:
                while (
                    slot.ready
                    and not slot.inflight
                    and self._may_begin(now)
                    and (batch := batcher.next(now, idle=True))
                ):
                    self._dispatch(slot, batch)
            for slot in self._slots:
                while self._may_go_ahead(slot) and (batch := batcher.next(now, idle=False)):
                    self._dispatch(slot, batch)
            if batcher.queued and batcher.options.max_delay > 0:
                self._arm(loop, now)
        if self.turn is not None and not self._asks:
            self.turn.rest()
        self._metrics.queued = batcher.queued

    def answered(self, slot: Slot, frame: Frame) -> None:
        """A worker's DONE or ERROR for the batch it ran."""
        batch = slot.take()
        if batch is None:
            return
        self._left(batch)
        self._turned(slot)
        if batch.seq != frame.seq:
            # Answers come in the order of the questions, or nothing about them can be trusted.
            self._retry(batch, "answered out of turn")
            if slot.worker is not None:
                slot.worker.kill()
            return
        if frame.op is Op.DONE:
            self._done(batch, frame)
        else:
            self._failed(slot, batch, frame)

    def lost(self, slot: Slot, why: str, *, gone: RequestError | None = None) -> None:
        """The worker died: what it ran is tried again, or answered (with `gone` if given); what waited
        behind that was not begun.
        """
        first = True
        while (batch := slot.take()) is not None:
            self._left(batch)
            if gone is not None:
                batch.fail(gone)
            else:
                self._retry(batch, why, counted=first)
            first = False
        self._turned(slot)

    def fail_all(self, error: RequestError) -> None:
        """Answers everything that waits; what is in a worker is left to end."""
        for group in self._batcher.drain():
            for entry in group.entries:
                entry.item.fail(error)
            group.buffer.block.release()
        self._metrics.queued = 0

    @property
    def max_rows(self) -> int:
        return self._batcher.options.max_rows

    @property
    def queued(self) -> int:
        return self._batcher.queued

    @property
    def idle(self) -> bool:
        return not self._batcher.queued and not any(slot.inflight for slot in self._slots)

    # To the worker.

    def _may_begin(self, now: float) -> bool:
        """Whether an idle worker may be given a batch, as far as the other models are concerned."""
        self._asks = False
        turn = self.turn
        if turn is None or turn.free:
            return True
        group = self._batcher.prospect(now)
        if group is None:
            return False
        due = min(entry.deadline for entry in group.entries)
        if self._metrics.sla is not None:
            due = min(due, group.entries[0].arrived + self._metrics.sla)
        may = turn.asks(due=due, cost=self._costs.seconds(group.key, group.rows))
        self._asks = not may
        return may

    def _turned(self, slot: Slot) -> None:
        """The worker's batch has ended: its turn is over, unless it has another batch already."""
        turn, run = self.turn, slot.turn
        if turn is None or run is None:
            return
        if slot.inflight:
            batch = slot.inflight[0]
            turn.follow(run, self._costs.seconds(batch.shape, batch.rows))
        else:
            slot.turn = None
            turn.end(run)
        self._metrics.slot_seconds = turn.share.slot_seconds

    def _may_go_ahead(self, slot: Slot) -> bool:
        return (
            slot.ready
            and len(slot.inflight) == 1
            and (self.turn is None or not self.turn.contended)
            and 0 < self._costs.seconds(None, slot.inflight[0].rows) < _AHEAD_SECONDS
        )

    def _dispatch(self, slot: Slot, chosen: Dispatch[Job, Rows]) -> None:
        buffer = chosen.group.buffer
        alive = self._closed_up(chosen, buffer)
        if alive:
            self._send(slot, alive, buffer, chosen)
        if chosen.last:
            buffer.block.release()

    def _closed_up(self, chosen: Dispatch[Job, Rows], buffer: Rows) -> list[Entry[Job, Rows]]:
        """Those whose client is still there, their rows moved together."""
        alive = []
        row = chosen.entries[0].start
        for entry in chosen.entries:
            if entry.item.done or entry.item.abandoned():
                self._batcher.completed(1)
                entry.item.drop()
                continue
            if entry.start != row:
                buffer.move(entry.start, entry.rows, row)
                entry.start = row
            row += entry.rows
            alive.append(entry)
        return alive

    def _send(
        self, slot: Slot, entries: list[Entry[Job, Rows]], buffer: Rows, chosen: Dispatch[Job, Rows]
    ) -> None:
        rows = sum(entry.rows for entry in entries)
        try:
            window = self._arena.allocate(self._outputs.window(rows))
        except ArenaFull as error:
            self._batcher.completed(len(entries))
            for entry in entries:
                entry.item.fail(self._admission.full(f"the memory of model {self._name!r} is full: {error}"))
            return
        cost = self._costs.seconds(chosen.group.key, rows)
        limit = max(self._limits.run_at_least, 20 * cost) if cost else self._limits.run_unknown
        batch = Batch(entries, buffer, window, chosen.why, limit)
        self._metrics.inflight += len(entries)
        self._metrics.dispatched(rows, chosen.why.value)
        self._run(slot, batch)

    def _run(self, slot: Slot, batch: Batch) -> None:
        assert slot.worker is not None
        frame = Frame(Op.RUN, 0, rows=min(batch.rows, MAX_ROWS), tensors=batch.tensors())
        batch.seq = slot.worker.send(frame)
        batch.sent()
        if self.turn is not None and slot.turn is None:
            slot.turn = self.turn.begin(self._costs.seconds(batch.shape, batch.rows))
        slot.give(batch, asyncio.get_running_loop().time())

    def _arm(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """One timer, for the group that is due first; only when a worker could take it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._batcher.wake(now)
        if due is not None and any(slot.ready and not slot.inflight for slot in self._slots):
            self._timer = loop.call_at(due, self.kick)

    # And back.

    def _done(self, batch: Batch, frame: Frame) -> None:
        if len(batch.entries) > 1 and not self._outputs.scaled(frame, batch.rows):
            self._unscaled()
            self._singly(batch)
            return
        times = TIMES.unpack(frame.payload)
        run = times[1] / 1e9
        batch.ran(times)
        self._costs.observe(batch.shape, batch.rows, run)
        self._admission.ran(batch.rows, run)
        self._metrics.duration.observe(run)
        now = asyncio.get_running_loop().time()
        waited = 0.0
        answers: list[tuple[Job, Result]] = []
        for entry in batch.entries:
            outputs = self._outputs.of(batch, entry, frame)
            queue = max(0.0, now - entry.arrived - run)
            waited += queue
            answers.append((entry.item, Result(outputs, queue, run)))
        self._metrics.statistics.ran(batch.rows, len(batch.entries), waited, times)
        batch.release()
        self.kick()  # the worker is fed before the answers are written
        for job, result in answers:
            job.succeed(result)

    def _unscaled(self) -> None:
        """The probe at load saw other data; from now on nothing of this model is joined or split."""
        self.split_reason = "a run gave outputs of another number of rows than its inputs"
        self._batcher.options = Options()
        self.kick_soon()

    def _failed(self, slot: Slot, batch: Batch, frame: Frame) -> None:
        error, need = read_error(frame)
        if need and not all(entry.item.done for entry in batch.entries):
            self._larger_window(slot, batch, need)
        elif len(batch.entries) > 1:
            self._singly(batch)
        else:
            batch.release()
            self.kick()
            batch.entries[0].item.fail(error)

    def _larger_window(self, slot: Slot, batch: Batch, need: int) -> None:
        """The window was a guess, or the file's output shapes are not what the network gives."""
        self._outputs.needed(need, batch.rows)
        limit = self._arena.size // 2
        if need <= limit:
            try:
                larger = self._arena.allocate(need)
            except ArenaFull as full:
                error = self._admission.full(f"the memory of model {self._name!r} is full: {full}")
            else:
                batch.window.release()
                batch.window = larger
                self._metrics.inflight += len(batch.entries)
                self._batcher.completed(-len(batch.entries))
                self._run(slot, batch)
                return
        elif len(batch.entries) > 1:
            self._singly(batch)
            return
        else:
            error = RequestError(500, f"the outputs need {need} bytes, the limit is {limit}; send fewer rows")
        batch.release()
        self.kick()
        for entry in batch.entries:
            entry.item.fail(error)

    def _singly(self, batch: Batch) -> None:
        """Every request of a batch that failed waits again, to run alone."""
        for entry in batch.entries:
            self._again(entry)
        batch.release()
        self.kick()

    def _retry(self, batch: Batch, why: str, *, counted: bool = True) -> None:
        for entry in batch.entries:
            job = entry.item
            job.attempts += counted
            if job.attempts < _MOST_ATTEMPTS:
                self._again(entry)
            else:
                job.fail(
                    RequestError(500, f"the request ended {job.attempts} workers of {self._name!r} ({why})")
                )
        batch.release()
        self.kick()

    def _again(self, entry: Entry[Job, Rows]) -> None:
        job = entry.item
        if job.done or job.block is None:
            return
        job.block.acquire()  # the reference of the group it will wait in
        self._batcher.again(entry)

    def _left(self, batch: Batch) -> None:
        self._metrics.inflight -= len(batch.entries)
        self._batcher.completed(len(batch.entries))
