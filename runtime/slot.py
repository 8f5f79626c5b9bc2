"""One worker's place in a model: starts a process, loads the model into it, and another when it dies."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from runtime.arena import ArenaFull, Block
from runtime.batch import Batch
from runtime.errors import ModelError, Reason
from runtime.frames import Frame, Op, Tensor
from runtime.process import Exit, Worker
from runtime.scheduler import Run
from runtime.signature import Wire

# How a native library dies of its own fault; oneDNN on the Paddle 3.3 line is known to.
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS}


class Stage(StrEnum):
    """What a worker is doing; the names are those of the progress report."""

    WAITING = "Waiting"
    LOADING = "Loading"
    WARMING_UP = "WarmingUp"
    READY = "Ready"
    FAILED = "Failed"


class Owner(Protocol):
    """What a slot needs of its model."""

    def launch(self, slot: Slot) -> Worker: ...
    def order(self) -> Wire: ...
    def reserve(self, data: bytes) -> Block: ...
    def stage_changed(self) -> None: ...
    def loaded(self, slot: Slot, report: Mapping[str, object]) -> None: ...
    def answered(self, slot: Slot, frame: Frame) -> None: ...
    def fell_back(self, engine: str, why: str) -> None: ...
    def lost(self, slot: Slot, how: Exit) -> None: ...
    def died(self, slot: Slot, how: Exit) -> float | None: ...
    def failed(self, error: ModelError) -> None: ...
    def said_goodbye(self, stats: Mapping[str, object]) -> None: ...


class Slot:
    """Guarantees at most one live process. `run` returns when stopped, or when the model has failed for
    good.
    """

    def __init__(self, owner: Owner, index: int, *, load_limit: float, warm_limit: float) -> None:
        self.index = index
        self.stage = Stage.WAITING
        self.engine = ""
        self.worker: Worker | None = None
        self.inflight: list[Batch] = []  # the first one runs, the others wait in the worker
        self.turn: Run | None = None  # the slots of the device that it holds while it is busy
        self._busy_since = 0.0
        self.hung = False
        self._owner = owner
        self._limits = {Stage.LOADING: load_limit, Stage.WARMING_UP: warm_limit}
        self._stage_since = 0.0
        self._order: Block | None = None
        self._stopping = asyncio.Event()
        self._error: ModelError | None = None
        self._died_in = Stage.WAITING

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def ready(self) -> bool:
        return self.stage is Stage.READY

    def give(self, batch: Batch, now: float) -> None:
        """The worker was sent this batch; it runs after those before it."""
        if not self.inflight:
            self._busy_since = now
        self.inflight.append(batch)

    def take(self) -> Batch | None:
        """The batch that ran, to be answered; the next one is taken to begin now."""
        if not self.inflight:
            return None
        self._busy_since = asyncio.get_running_loop().time()
        return self.inflight.pop(0)

    async def run(self) -> None:
        while not self._stopping.is_set():
            self._error = None
            self.hung = False
            try:
                worker = self._owner.launch(self)
                self.worker = worker
                self._enter(Stage.LOADING)
                self._load(worker)
            except (OSError, ArenaFull) as error:
                self._owner.failed(
                    ModelError(Reason.LOAD_FAILED, f"no worker can be started: {error}", passing=True)
                )
                return
            how = await asyncio.shield(worker.exited)
            if self._stopping.is_set():
                break
            if self._error is not None:
                self._owner.failed(self._error)
                return
            starting = self._died_in in (Stage.LOADING, Stage.WARMING_UP)
            if starting and self.engine == "onednn" and how.signal in _CRASHES:
                self._owner.fell_back(self.engine, f"crashed while {self._died_in.value} ({how})")
                continue
            delay = self._owner.died(self, how)
            if delay is None:
                return
            try:
                await asyncio.wait_for(self._stopping.wait(), delay)
            except TimeoutError:
                continue

    def check(self, now: float) -> None:
        """Kills a worker that takes longer than it may, to load, to warm up or to run."""
        if self.worker is None:
            return
        limit = self._limits.get(self.stage)
        if limit is not None and now - self._stage_since > limit:
            reason = Reason.WARM_UP_FAILED if self.stage is Stage.WARMING_UP else Reason.LOAD_FAILED
            self._error = ModelError(
                reason, f"{self.stage.value} took longer than {limit:g} s with {self.engine}", passing=True
            )
            self.worker.kill()
        elif self.inflight and now - self._busy_since > self.inflight[0].limit:
            self.hung = True
            self.worker.kill()

    def leave(self) -> None:
        """It is given nothing more; what it holds it still ends."""
        self.stage = Stage.WAITING

    async def stop(self, grace: float) -> None:
        self._stopping.set()
        if self.worker is not None:
            await self.worker.stop(grace)

    def abandon(self) -> None:
        """The model has failed: no other process after this one, which ends now, until `revive`."""
        self._stopping.set()
        if self.worker is not None:
            self.worker.kill()

    def revive(self) -> None:
        """After `abandon`, once `run` has returned: it may be run again."""
        self._stopping.clear()

    def on_exit(self, worker: Worker, how: Exit) -> None:
        """At once, before anything else is given to the dead worker; `run` then decides what follows."""
        self._died_in = self.stage
        self.stage = Stage.WAITING
        self.worker = None
        self._release_order()
        self._owner.lost(self, how)

    def on_frame(self, worker: Worker, frame: Frame) -> None:
        if worker is not self.worker:
            return
        if frame.op in (Op.DONE, Op.ERROR) and self.inflight:
            self._owner.answered(self, frame)
        elif frame.op is Op.PROGRESS:
            said = json.loads(frame.payload)
            self.engine = said["engine"]
            self._enter(Stage(said["stage"]))
        elif frame.op is Op.READY:
            self._release_order()
            report = json.loads(frame.payload)
            self.engine = report["engine"]
            self._enter(Stage.READY)
            self._owner.loaded(self, report)
        elif frame.op is Op.ERROR:
            said = json.loads(frame.payload)
            reason = Reason(said["reason"]) if said["reason"] else Reason.LOAD_FAILED
            self._error = ModelError(reason, said["message"])
            worker.send(Frame(Op.SHUTDOWN, 0))
        elif frame.op is Op.STATS:
            self._owner.said_goodbye(json.loads(frame.payload))

    def _load(self, worker: Worker) -> None:
        """The order goes through the arena: samples for warm-up may be larger than a frame."""
        data = json.dumps(self._owner.order()).encode()
        self._order = self._owner.reserve(data)
        at = Tensor(14, 0, self._order.offset, len(data), (len(data),))
        worker.send(Frame(Op.LOAD, 0, tensors=(at,)))

    def _release_order(self) -> None:
        if self._order is not None:
            self._order.release()
            self._order = None

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self._stage_since = asyncio.get_running_loop().time()
        self._owner.stage_changed()
