"""One generation of a served model: its workers, and the truth about its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from runtime import memory
from runtime.arena import Block
from runtime.batcher import Options
from runtime.dispatch import Dispatcher
from runtime.errors import ModelError, Reason, RequestError
from runtime.extras import Extras
from runtime.frames import Frame
from runtime.job import InputTensor, Result
from runtime.logs import Logger
from runtime.metrics import ModelMetrics
from runtime.prestart import Prestarted
from runtime.process import Exit, Worker
from runtime.restarts import Restarts
from runtime.signature import Signature, Wire
from runtime.slot import Slot, Stage
from runtime.spec import Limits
from runtime.telemetry.mark import Mark
from runtime.turns import Turn, Turns


class Model:
    """Starts, watches and replaces the workers of one generation of a model, and admits requests for it.

    Once `error` is set the model has failed and its processes are gone; if the cause may pass, it is tried
    again after a rest. All methods belong to the loop's thread; `run` owns the tasks.
    """

    def __init__(self, started: Prestarted, limits: Limits, log: Logger) -> None:
        self.spec = spec = started.spec
        self.metrics = ModelMetrics(spec.name, spec.version, spec.sla)
        self.signature: Signature | None = None
        self.report: Mapping[str, object] = {}
        self.earlier: Mapping[str, object] = {}  # the report of the version before
        self.error: ModelError | None = None
        self.retired = False  # another generation has taken its place and it takes no more requests
        self.on_change: Callable[[], None] = lambda: None
        self.on_loaded: Callable[[Model, Mapping[str, object]], None] = lambda model, report: None
        self.arena = started.arena
        self.threads = started.threads
        self._log = log.bind(model=spec.name, model_version=spec.version)
        self._started = started
        self._restarts = Restarts(limits.restarts)
        self._rests = limits.restarts.rests
        self._stopping = asyncio.Event()
        self._window = limits.restarts.window
        self._skip: dict[str, str] = {}
        self._slot_memory = limits.slot_memory
        self._turn: Turn | None = None
        self.slots = [
            Slot(self, index, load_limit=limits.load, warm_limit=spec.warm_up.timeout_seconds)
            for index in range(spec.workers)
        ]
        self._dispatcher = Dispatcher(spec.name, self.arena, limits, self.metrics, self.slots)
        self._extras = Extras(self, self.slots, started, limits, self._log)
        self._group: asyncio.TaskGroup | None = None

    def join(self, turns: Turns) -> None:
        """Before anything runs: from now on it takes turns with the other models, by its priority."""
        self._turn = turns.join(weight=self.spec.priority, kick=self._dispatcher.kick)
        self._dispatcher.turn = self._turn

    async def run(self) -> None:
        """Keeps the workers alive until `stop` or until the model fails for good."""
        if self.spec.problem:
            self.failed(ModelError(Reason.LOAD_FAILED, self.spec.problem))
            return
        for rest in self._rests():
            async with asyncio.TaskGroup() as group:
                self._group = group
                for slot in self.slots:
                    group.create_task(slot.run())
            if self._stopping.is_set() or self.error is None or not self.error.passing:
                return
            self._log.info("model tried again later", seconds=rest, reason=self.error.reason.value)
            try:
                await asyncio.wait_for(self._stopping.wait(), rest)
                return
            except TimeoutError:
                self._revive()

    def _revive(self) -> None:
        self.error = None
        self._restarts.forget()
        self._extras.forget()
        for slot in self.slots:
            slot.revive()
        self.on_change()

    async def stop(self, grace: float) -> None:
        """Ends the workers, each within 3 x `grace` seconds, and answers what still waits with 503."""
        self._stopping.set()
        self._dispatcher.fail_all(self._gone("is shutting down"))
        await asyncio.gather(*(slot.stop(grace) for slot in self.slots))
        if self._turn is not None:
            self._turn.leave()

    def close(self) -> None:
        """Raises RuntimeError when a request's memory was never given back."""
        self._started.close()

    @property
    def stage(self) -> Stage:
        if self.error is not None:
            return Stage.FAILED
        stages = {slot.stage for slot in self.slots}
        order = (Stage.READY, Stage.WARMING_UP, Stage.LOADING)
        return next((stage for stage in order if stage in stages), Stage.WAITING)

    @property
    def ready(self) -> bool:
        return self.error is None and any(slot.ready for slot in self.slots)

    @property
    def whole(self) -> bool:
        """All of the workers that it was asked to have answer."""
        return self.error is None and all(slot.ready for slot in self.slots[: self.spec.workers])

    @property
    def serves(self) -> bool:
        """It has answered and has not failed; a worker that died is being replaced."""
        return self.error is None and self.signature is not None

    @property
    def idle(self) -> bool:
        """No request waits or runs."""
        return self._dispatcher.idle

    @property
    def pids(self) -> list[int]:
        return [slot.worker.pid for slot in self.slots if slot.worker is not None]

    @property
    def note(self) -> str:
        """One line about an engine that was replaced or a warm-up that was not possible, or ""."""
        dropped = self.report.get("dropped", self._skip)
        assert isinstance(dropped, Mapping)
        parts = [f"engine {engine} was dropped: {why}" for engine, why in dropped.items()]
        return "; ".join([*parts, *filter(None, [str(self.report.get("note", ""))])])

    def known_signature(self) -> Signature:
        """Raises RequestError(503) before the model was ready and after it failed."""
        if self.error is not None or self.signature is None:
            raise self._gone(f"is {self.stage.value}")
        return self.signature

    def check(self, now: float) -> None:
        """Called a few times a second with the loop's time: kills what hangs, and sees to it that there are
        as many workers as the load needs.
        """
        for slot in self.slots:
            slot.check(now)
        self.metrics.workers = sum(slot.ready for slot in self.slots)
        if self.ready and self._group is not None and not (self._stopping.is_set() or self.retired):
            if self._turn is not None and self._turn.workers != len(self.slots):
                self._turn.resize(need=self._turn.share.need, workers=len(self.slots))
            spare = self._turn.spare if self._turn is not None else 1
            self._extras.look(now, waiting=self._dispatcher.queued, spare=spare, group=self._group)

    def submit(
        self,
        inputs: Sequence[InputTensor],
        *,
        timeout: float,
        abandoned: Callable[[], bool],
        mark: Mark | None = None,
    ) -> asyncio.Future[Result]:
        """Admits a request whose inputs were checked; the future ends within `timeout` seconds.

        Raises RequestError: 503 when the model cannot serve, 429 when its queue or its arena is full.
        """
        self.known_signature()
        return self._dispatcher.submit(inputs, timeout=timeout, abandoned=abandoned, mark=mark)

    def _gone(self, why: str) -> RequestError:
        if self.error is not None:
            why = f"failed, {self.error.reason.value}: {self.error.message}"
        return RequestError(503, f"model {self.spec.name!r} {why}", retry_after=1)

    # What slots ask for and report.

    def launch(self, slot: Slot) -> Worker:
        process, connection = self._started.take()
        self._log.info("worker started", pid=process.pid, worker=slot.index, threads=self.threads)
        return Worker(
            process, connection, arena_size=self.arena.size, on_frame=slot.on_frame, on_exit=slot.on_exit
        )

    def order(self) -> Wire:
        return self.spec.order(self.threads, self._skip, found=self.report or self.earlier)

    def reserve(self, data: bytes) -> Block:
        block = self.arena.allocate(len(data))
        self.arena.write(block.offset, data)
        return block

    def stage_changed(self) -> None:
        self.on_change()

    def loaded(self, slot: Slot, report: Mapping[str, object]) -> None:
        signature = report["signature"]
        assert isinstance(signature, Mapping)
        self.report = report
        self.signature = Signature.from_wire(signature)
        median = float(str(report["medianSeconds"]))
        self._batching(self.signature, report)
        if self._turn is not None:
            self._turn.resize(need=self._slots(slot), workers=len(self.slots))
        self.metrics.loaded = True
        self.metrics.engine = slot.engine
        self.metrics.quantized = bool(report["quantized"])
        self.metrics.warm_up_median = median
        measured = report["candidates"]
        assert isinstance(measured, Mapping)
        self.metrics.candidates = {str(name): float(seconds) for name, seconds in measured.items()}
        dropped = report["dropped"]
        assert isinstance(dropped, Mapping)
        for engine in dropped:
            self.metrics.fallbacks.setdefault((str(engine), slot.engine), 1)
        self._log.info(
            "model ready",
            engine=slot.engine,
            worker=slot.index,
            load_seconds=report["loadSeconds"],
            warm_up_seconds=report["warmSeconds"],
            median_milliseconds=round(median * 1000, 3),
            max_batch_size=self._dispatcher.max_rows,
            note=self.note,
        )
        self._dispatcher.kick()
        self.on_loaded(self, report)
        self.on_change()

    def _slots(self, slot: Slot) -> int:
        """What a run takes of the device's slots: by the memory that its worker holds, or by its threads."""
        if not self._slot_memory or slot.worker is None:
            return int(str(self.report["threads"]))
        return ceil(memory.resident([slot.worker.pid]) / self._slot_memory)

    def _batching(self, signature: Signature, report: Mapping[str, object]) -> None:
        """What the worker measured, to the dispatcher."""
        found = report["batching"]
        assert isinstance(found, Mapping)
        wanted = self.spec.batching
        self._dispatcher.measured(
            signature,
            options=Options(
                max_rows=int(found["maxRows"]),
                max_delay=wanted.max_delay_milliseconds / 1000 if wanted is not None else 0.0,
            ),
            seconds={int(rows): float(seconds) for rows, seconds in found["seconds"].items()},
            output_bytes=int(str(report["outputBytes"])),
            output_rows=int(str(report["outputRows"])),
        )

    def _candidates(self) -> str:
        """What was measured to choose from: "native/1 0.1, onednn/1 0.3" (engine/threads, milliseconds)."""
        measured = self.report.get("candidates", {})
        assert isinstance(measured, Mapping)
        return ", ".join(f"{name} {seconds * 1000:.3g}" for name, seconds in measured.items())

    def parameters(self) -> Wire:
        """How the model is served, for its metadata: plain values, as the V2 protocol wants them."""
        found = self.report.get("batching", {})
        assert isinstance(found, Mapping)
        return {
            "engine": self.metrics.engine,
            "batch_engine": str(self.report.get("batchEngine", "")),
            "threads": int(str(self.report.get("threads", self.threads))),
            "measured_milliseconds": self._candidates(),
            "note": self.note,
            "priority": self.spec.priority,
            "slots": self._turn.slots if self._turn is not None else 1,
            "max_batch_size": self._dispatcher.max_rows,
            "batching": self._dispatcher.split_reason or str(found.get("reason", "")),
            "batching_difference": found.get("difference", 0.0),
        }

    def answered(self, slot: Slot, frame: Frame) -> None:
        self._dispatcher.answered(slot, frame)

    def fell_back(self, engine: str, why: str) -> None:
        self._skip[engine] = why
        self._log.warning("engine dropped", engine=engine, why=why)
        self.on_change()

    def lost(self, slot: Slot, how: Exit) -> None:
        """What the dead worker held is tried again, unless there will be no other worker."""
        self._dispatcher.lost(slot, str(how), gone=self._gone("is shutting down") if slot.stopping else None)
        self.on_change()

    def died(self, slot: Slot, how: Exit) -> float | None:
        """Counts the death; the delay in seconds until the next start, None to give up."""
        reason = Reason.OUT_OF_MEMORY if how.out_of_memory else Reason.WORKER_CRASHED
        label = "Hung" if slot.hung else reason.value
        self.metrics.restarts[label] = self.metrics.restarts.get(label, 0) + 1
        delay = self._restarts.died(asyncio.get_running_loop().time())
        self._log.error("worker died", worker=slot.index, how=str(how), hung=slot.hung, restart_in=delay)
        if delay is None:
            count, window = self._restarts.recent, self._window
            message = (
                f"{count} workers died within {window:g} s, the last by {how}; it is tried again later: "
                "see the log of the pod, and its memory limit"
            )
            self.failed(ModelError(reason, message, passing=True))
        return delay

    def failed(self, error: ModelError) -> None:
        """The first reason is kept. The other workers of the model go too: it serves whole or not at all."""
        if self.error is None:
            self.error = error
            self._log.error("model failed", reason=error.reason.value, message=error.message)
        self.metrics.loaded = False
        self._dispatcher.fail_all(self._gone("failed"))
        for slot in self.slots:
            slot.abandon()
        self.on_change()

    def said_goodbye(self, stats: Mapping[str, object]) -> None:
        level = self._log.info if stats["created"] == stats["destroyed"] else self._log.error
        level(
            "worker stopped" if stats["created"] == stats["destroyed"] else "native handles leaked", **stats
        )
