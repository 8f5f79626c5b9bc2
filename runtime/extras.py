"""Workers beyond those that a model was asked to have: they come with the load and go when it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from runtime import memory
from runtime.arena import Block
from runtime.errors import ModelError
from runtime.frames import Frame
from runtime.logs import Logger
from runtime.prestart import Prestarted
from runtime.process import Exit, Worker
from runtime.scaling import Look, Mode, Scaler
from runtime.signature import Wire
from runtime.slot import Owner, Slot
from runtime.spec import Limits

_GRACE = 5.0
_LOOK = 0.02
# Seconds without another worker after one that had no room, died or could not load.
_REST = 30.0


class Extras:
    """Adds slots to a model's and takes them away again; those it began with stay. A worker that goes is
    given nothing more, ends what it holds, and then ends itself; one that dies or cannot load is given up,
    and the model serves on with the others.
    """

    def __init__(
        self, owner: Owner, slots: list[Slot], started: Prestarted, limits: Limits, log: Logger
    ) -> None:
        self._owner = owner
        self._slots = slots
        self._least = len(slots)
        self._started = started
        self._limits = limits
        self._log = log
        mode = Mode(limits.worker_mode)
        self._scaler = Scaler(mode, least=self._least, patience=limits.scale_down_after)
        self._fixed = mode is Mode.FIXED
        self._leaving: set[Slot] = set()
        self._made = self._least

    def look(self, now: float, *, waiting: int, spare: int, group: asyncio.TaskGroup) -> None:
        """Called a few times a second while the model serves, with the loop's time."""
        if self._fixed:
            return
        slots = self._slots
        ready = sum(slot.ready for slot in slots)
        look = Look(
            workers=len(slots),
            busy=sum(bool(slot.inflight) for slot in slots if slot.ready),
            waiting=waiting,
            coming=len(slots) - ready,
            spare=spare,
        )
        step = self._scaler.step(now, look)
        if step > 0:
            self._grow(now, group)
        elif step < 0 and slots[-1].ready:
            self._leaving.add(slots[-1])
            slots[-1].leave()
            group.create_task(self._end(slots[-1]))

    def forget(self) -> None:
        """The model starts anew, with the workers that it was asked to have."""
        del self._slots[self._least :]
        self._leaving.clear()

    def _grow(self, now: float, group: asyncio.TaskGroup) -> None:
        spec = self._started.spec
        used = memory.resident(slot.worker.pid for slot in self._slots[:1] if slot.worker is not None)
        free, limit = memory.free()
        if refused := memory.refusal(memory.needed(spec.size, 1, used), free, limit):
            self._scaler.refused(now, _REST)
            self._log.info("no room for another worker", why=refused)
            return
        try:
            self._started.start(1, calm=False)  # it is needed now, and has a CPU of its own
        except OSError as error:
            self._scaler.refused(now, _REST)
            self._log.warning("another worker cannot be started", error=str(error))
            return
        slot = Slot(
            _Guest(self._owner, self._given_up), self._made, load_limit=self._limits.load,
            warm_limit=spec.warm_up.timeout_seconds,
        )  # fmt: skip
        self._made += 1
        self._slots.append(slot)
        self._log.info("worker added", worker=slot.index, workers=len(self._slots))
        group.create_task(self._run(slot))

    async def _run(self, slot: Slot) -> None:
        await slot.run()
        if slot in self._slots and slot not in self._leaving and not slot.stopping:
            self._scaler.refused(asyncio.get_running_loop().time(), _REST)
            self._slots.remove(slot)
            self._owner.stage_changed()

    async def _end(self, slot: Slot) -> None:
        while slot.inflight:  # noqa: ASYNC110 - bounded by what a run may take
            await asyncio.sleep(_LOOK)
        await slot.stop(_GRACE)
        self._leaving.discard(slot)
        if slot in self._slots:
            self._slots.remove(slot)
        self._log.info("worker taken away", worker=slot.index, workers=len(self._slots))
        self._owner.stage_changed()

    def _given_up(self, why: str) -> None:
        self._log.warning("an additional worker is given up", why=why)


class _Guest:
    """The owner of an additional worker: the model, but for what would end the model."""

    def __init__(self, owner: Owner, given_up: Callable[[str], None]) -> None:
        self._owner = owner
        self._given_up = given_up

    def launch(self, slot: Slot) -> Worker:
        return self._owner.launch(slot)

    def order(self) -> Wire:
        return self._owner.order()

    def reserve(self, data: bytes) -> Block:
        return self._owner.reserve(data)

    def stage_changed(self) -> None:
        self._owner.stage_changed()

    def loaded(self, slot: Slot, report: Mapping[str, object]) -> None:
        self._owner.loaded(slot, report)

    def answered(self, slot: Slot, frame: Frame) -> None:
        self._owner.answered(slot, frame)

    def fell_back(self, engine: str, why: str) -> None:
        self._owner.fell_back(engine, why)

    def lost(self, slot: Slot, how: Exit) -> None:
        self._owner.lost(slot, how)

    def died(self, slot: Slot, how: Exit) -> float | None:
        self._given_up(f"it died, {how}")
        return None

    def failed(self, error: ModelError) -> None:
        self._given_up(error.message)

    def said_goodbye(self, stats: Mapping[str, object]) -> None:
        self._owner.said_goodbye(stats)
