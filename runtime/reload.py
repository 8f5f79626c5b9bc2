"""Hot reload: what is served is brought to what is desired, one model at a time or several at once.

Start-up is the same thing with nothing there yet.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from artifacts import ArtifactError
from runtime import golden, memory
from runtime.desired import Source, Target
from runtime.errors import ModelError, Reason
from runtime.fetch import Files
from runtime.generations import Generations
from runtime.logs import Logger
from runtime.model import Model
from runtime.prestart import Prestarted
from runtime.registry import Registry, Reload
from runtime.signature import Wire, check_successor
from runtime.slot import Stage
from runtime.spec import Limits
from runtime.worker.calm import prompt

_WATCH_EVERY = 0.25
# Seconds that a thread may keep the interpreter from the loop: files are read in threads while requests come.
_SWITCH = 0.0005
# How long a generation that nobody uses stays: a request whose body is on its way may still name it.
_LINGER = 0.5


@dataclass(slots=True, kw_only=True)
class Seat:
    """The place of one name. `settled` is the target that serves, or that was tried last."""

    name: str
    target: Target | None
    settled: Hashable = None
    forced: bool = False
    trying: Hashable = None
    error: ModelError | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    rested: asyncio.Event = field(default_factory=asyncio.Event)  # nothing is under way


class Reloader:
    """Owns every generation of every model from `run` until `stop`.

    Guarantees: a name that serves goes on serving until its next generation has loaded, answered its warm-up
    and golden samples and takes what its clients send; then requests go to the new one from one turn of the
    loop to the next, and the old one ends when it holds no request any more. What goes wrong before that
    leaves what serves as it was, and says so in `registry.reloads`. A target that changes while it is being
    prepared is given up for the newer one. Targets are compared, so telling it twice is doing it once.
    """

    def __init__(
        self,
        source: Source,
        ready_made: Sequence[tuple[Target, Prestarted]],
        limits: Limits,
        log: Logger,
        *,
        pulled_to: Path = Path("/models"),
        any_signature: bool = False,
    ) -> None:
        self._source = source
        self._taken = source.revision
        self._limits = limits
        self._log = log
        self._files = Files(pulled_to)
        self._any_signature = any_signature
        self._generations = Generations(limits, log)
        self._seats: dict[str, Seat] = {}
        self._promised: dict[str, int] = {}
        self._taken_out: dict[str, Hashable] = {}
        self._dirty = asyncio.Event()
        self._read = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._actors: list[asyncio.Task[None]] = []
        for target, _ in ready_made:
            name = target.spec.name
            seat = self._seats[name] = Seat(name=name, target=target)
            if not target.spec.problem or target.entry is None:
                seat.settled = target.identity
        self.registry = Registry(self._generations.first(ready_made))

    def on_new(self, adopt: Callable[[Model], None]) -> None:
        """`adopt` is told of each generation before it begins, also of those that are there."""
        self._generations.adopt = adopt
        for model in self._generations.alive:
            adopt(model)

    # What others ask for. All in the loop's thread.

    def mark(self) -> None:
        """The desired state is to be read again; also without a change of its file."""
        self._dirty.set()

    async def load(self, name: str) -> ModelError | None:
        """Brings `name` to what is desired, also when it was unloaded or has failed; files that no digest
        pins are loaded again. Returns when it serves, with None, or the reason why the newest version does
        not. Raises KeyError for a name that is not desired.
        """
        self.registry.unloaded.pop(name, None)
        await self._reread()
        seat = self._seats[name]
        if seat.target is None:
            raise KeyError(name)
        model = self.registry.models.get(name)
        loading = model is not None and model.error is None and not model.serves
        serves = model is not None and model.serves and seat.error is None and seat.target.pinned
        if seat.trying is None and not loading and not serves:
            seat.forced = True
            seat.rested.clear()
            seat.wake.set()
        await seat.rested.wait()
        while True:  # what was installed where nothing served loads now; its slots keep the time
            model = self.registry.models.get(name)
            if seat.error is not None or model is None or model.error is not None:
                return seat.error or (model.error if model is not None else None)
            if model.whole:
                return None
            await asyncio.sleep(0.02)

    async def unload(self, name: str) -> None:
        """Takes `name` out until `load`, or until its entry in the desired state changes. Raises KeyError."""
        model = self.registry.models[name]
        target = self._seats[name].target
        self.registry.unloaded[name] = model.spec.version
        self._taken_out[name] = target.identity if target is not None else None
        self._want(name, None)

    def release(self) -> Wire:
        """How far the newest desired state is: Pending, Done, or Failed with the reason of the first model
        that does not serve it.
        """
        state, reason, message = "Done", "", ""
        for seat in self._seats.values():
            model = self.registry.models.get(seat.name)
            if seat.target is None or seat.name in self.registry.unloaded:
                continue
            error = seat.error or (model.error if model is not None else None)
            waits = seat.trying is not None or seat.settled != seat.target.identity
            if waits or (error is None and (model is None or not model.whole)):
                state = "Pending"
            elif error is not None and not reason:
                reason, message = error.reason.value, f"model {seat.name}: {error.message}"
        if state == "Done" and reason:
            state = "Failed"
        return {"revision": self._taken, "state": state, "reason": reason, "message": message}

    async def _reread(self) -> None:
        self._read.clear()
        self._dirty.set()
        async with asyncio.timeout(10.0):
            await self._read.wait()

    # Life.

    async def run(self) -> None:
        """Until `stop`."""
        sys.setswitchinterval(_SWITCH)
        prompt()
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name, model in self.registry.models.items():
                seat = self._seats[name]
                if seat.settled is not None:
                    group.create_task(model.run())
                self._actors.append(group.create_task(self._keep(seat)))
            self._actors.append(group.create_task(self._watch()))
            self._actors.append(group.create_task(self._follow()))

    def quiesce(self) -> None:
        """Nothing new is begun and what is being prepared is given up; what serves goes on."""
        self._generations.stopping = True
        for actor in self._actors:
            actor.cancel()

    async def stop(self) -> None:
        """Ends all generations; `run` returns then. Raises RuntimeError when memory was never given back."""
        self.quiesce()
        await self._generations.stop()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_EVERY)
            self._generations.check(loop.time())
            if self._source.changed():
                self._dirty.set()

    async def _follow(self) -> None:
        """Reads the desired state when it is dirty, and tells the seats."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                targets = await asyncio.to_thread(self._source.read)
            except ArtifactError as error:
                self.registry.problem = error.message
                self._log.error("desired state not read", reason=error.reason.value, message=error.message)
            else:
                self.registry.problem = ""
                self._taken = self._source.revision
                self._take(targets)
            self._read.set()

    def _take(self, targets: Sequence[Target]) -> None:
        wanted = {target.spec.name: target for target in targets}
        for name, target in wanted.items():
            if name in self.registry.unloaded:
                if self._taken_out.get(name) == target.identity:
                    continue
                self.registry.unloaded.pop(name)
            self._want(name, target)
        for name in [name for name in self._seats if name not in wanted]:
            self.registry.unloaded.pop(name, None)
            self._want(name, None)

    def _want(self, name: str, target: Target | None) -> None:
        seat = self._seats.get(name)
        if seat is None:
            if target is None or self._group is None:
                return
            seat = self._seats[name] = Seat(name=name, target=target)
            self._actors.append(self._group.create_task(self._keep(seat)))
            return
        before, seat.target = seat.target, target
        if (before and before.identity) != (target and target.identity):
            seat.wake.set()

    # One seat.

    async def _keep(self, seat: Seat) -> None:
        """The actor of one name: at most one attempt at a time, the newest target last."""
        rests = self._limits.restarts.rests()
        while True:
            seat.wake.clear()
            target = seat.target
            if target is None:
                self._leave(seat)
            elif seat.settled != target.identity or seat.forced:
                seat.forced = False
                seat.rested.clear()
                if not await self._attempt(seat, target):
                    continue
                if seat.error is None:
                    rests = self._limits.restarts.rests()
            if seat.forced or seat.wake.is_set():
                continue
            seat.rested.set()
            rest = next(rests) if seat.error is not None and seat.error.passing else None
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await seat.wake.wait()
                    continue
            seat.forced = True

    async def _attempt(self, seat: Seat, target: Target) -> bool:
        """Whether the attempt came to its end; else a newer target has taken its place."""
        assert self._group is not None
        seat.trying = target.identity
        work = asyncio.create_task(self._bring(seat, target))
        woken = asyncio.create_task(seat.wake.wait())
        try:
            while not work.done():
                await asyncio.wait({work, woken}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    now = seat.target
                    if now is None or now.identity != target.identity:
                        return False
                    seat.wake.clear()
                    woken = asyncio.create_task(seat.wake.wait())
            seat.settled = target.identity
            seat.error = work.result()
            return True
        finally:
            seat.trying = None
            woken.cancel()
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError):
                    await work
                self.registry.reloads.pop(seat.name, None)
                self._log.info("reload given up", model=seat.name, model_version=target.spec.version)

    async def _bring(self, seat: Seat, target: Target) -> ModelError | None:
        """None when `target` is served or was installed, else why it is not."""
        spec = target.spec
        old = self.registry.models.get(seat.name)
        reload = self.registry.reloads[seat.name] = Reload(version=spec.version, digest=spec.digest)
        try:
            target = await self._files.fetch(target, reload)
            if old is None or not old.serves:
                self._install(self._make(target), old)
            else:
                await self._replace(old, target, reload)
            await self._files.tidy(target)
        except ModelError as error:
            reload.state, reload.reason, reload.message = "Failed", error.reason.value, error.message
            self._log.error(
                "reload failed", model=seat.name, old_version=old.spec.version if old is not None else "",
                new_version=spec.version, reason=error.reason.value, message=error.message,
            )  # fmt: skip
            if old is None:
                old = self._make(target)
                self.registry.install(old)
            if old.serves:
                self._counted(old, "failed", error.reason.value)
            else:
                old.error = None
                old.failed(error)
            return error
        self.registry.reloads.pop(seat.name, None)
        return None

    async def _replace(self, old: Model, target: Target, reload: Reload) -> None:
        """A generation beside the one that serves, and the swap. Raises ModelError."""
        name = target.spec.name
        reload.state = Stage.LOADING.value
        need = memory.needed(target.spec.size, target.spec.workers, memory.resident(old.pids))
        free, limit = memory.free()
        if refused := memory.refusal(need, free, limit, promised=sum(self._promised.values())):
            raise ModelError(Reason.INSUFFICIENT_MEMORY, refused, passing=True)
        self._promised[name] = need
        candidate = None
        try:
            candidate = self._make(target)
            candidate.earlier = old.report
            await self._ready(candidate, reload)
            if not self._any_signature:
                check_successor(old.known_signature(), candidate.known_signature())
            await golden.check(candidate)
        except BaseException:
            if candidate is not None:
                self._retire(candidate, linger=0.0)
            raise
        finally:
            self._promised.pop(name, None)
        self._install(candidate, old)

    async def _ready(self, candidate: Model, reload: Reload) -> None:
        """Runs it until all its workers answer. Its slots hold the time limits. Raises ModelError."""
        assert self._group is not None
        changed = asyncio.Event()
        told, candidate.on_change = candidate.on_change, changed.set
        self._group.create_task(candidate.run())
        while not candidate.whole:
            if candidate.error is not None:
                raise candidate.error
            await changed.wait()
            changed.clear()
            reload.state = candidate.stage.value
        candidate.on_change = told

    def _make(self, target: Target) -> Model:
        workers = sum(seat.target.spec.workers for seat in self._seats.values() if seat.target is not None)
        return self._generations.make(target, workers=workers)

    def _install(self, model: Model, old: Model | None) -> None:
        """The swap."""
        assert self._group is not None
        swapped = old is not None and old.serves
        self.registry.install(model)
        if not swapped:
            self._group.create_task(model.run())
        if old is not None:
            self._retire(old, linger=_LINGER if swapped else 0.0)
        if swapped and old is not None:
            self._counted(model, "succeeded", "")
            self._log.info(
                "model swapped", model=model.spec.name, old_version=old.spec.version,
                new_version=model.spec.version, old_digest=old.spec.digest, new_digest=model.spec.digest,
            )  # fmt: skip

    def _leave(self, seat: Seat) -> None:
        """The name is not desired any more."""
        seat.settled = seat.error = None
        model = self.registry.models.get(seat.name)
        self.registry.remove(seat.name)
        if model is not None:
            self._log.info("model unloaded", model=seat.name, model_version=model.spec.version)
            self._retire(model, linger=_LINGER)

    def _retire(self, model: Model, *, linger: float) -> None:
        """It ends once it holds no request, `linger` seconds from now at the soonest."""
        assert self._group is not None
        self._group.create_task(self._generations.retire(model, linger=linger))

    def _counted(self, model: Model, result: str, reason: str) -> None:
        counts = model.metrics.reloads
        counts[result, reason] = counts.get((result, reason), 0) + 1
