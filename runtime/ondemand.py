"""Models that come when somebody asks for them by name, and go when others need their place."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import memory
from runtime.desired import Target
from runtime.errors import RequestError
from runtime.spec import ModelSpec

if TYPE_CHECKING:
    from runtime.model import Model
    from runtime.reload import Reloader

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
# Seconds. How long a model that could not be loaded is not tried again, and how often it is looked whether
# one has become idle, or is gone.
_REST = 10.0
_LOOK = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A model that is in memory, or on its way there."""

    name: str
    nbytes: int
    idle: bool  # no request waits or runs, and it is not loading


def victims(held: Iterable[Held], need: int, *, most: int, limit: int) -> list[str] | None:
    """Who has to go so that one more model of `need` bytes is among at most `most`, in at most `limit` bytes
    (0: any number). `held` is ordered, the least recently used first. None when there are too few idle ones.
    """
    held = list(held)
    count, used = len(held), sum(one.nbytes for one in held)
    chosen = []
    for one in held:
        if count < most and (not limit or used + need <= limit):
            break
        if one.idle:
            chosen.append(one.name)
            count -= 1
            used -= one.nbytes
    fits = count < most and (not limit or used + need <= limit)
    return chosen if fits else None


class NotLoaded(RequestError):
    """A model that a request loads; whoever cannot wait for that gets this answer."""

    def __init__(self, name: str, why: str, *, retry_after: int = 1) -> None:
        super().__init__(503, f"model {name!r} is not loaded: {why}", retry_after=retry_after)
        self.name = name


class OnDemand:
    """The models of a folder, as a desired state: `fixed` ones always, of the others those last asked for.

    Guarantees: one load of a name at a time, whatever the number of requests for it; never more than `most`
    models of the folder, nor more than `limit` bytes (by the size of their files before they are loaded);
    and a model goes only when no request waits for it or runs. All but `read` belongs to the loop's thread.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[str], ModelSpec],
        *,
        fixed: Sequence[Target] = (),
        most: int = 4,
        limit: int = 0,
        patience: float = 30.0,
    ) -> None:
        """`make` is the specification of a `name=path`; `patience` is how long a load waits for room."""
        self.revision = ""
        self.loads: dict[tuple[str, str], int] = {}  # by (model, result)
        self.evictions: dict[str, int] = {}
        self._folder = folder
        self._make = make
        self._fixed = fixed
        self._most = most
        self._limit = limit
        self._patience = patience
        self._wanted: OrderedDict[str, int] = OrderedDict()  # bytes by name, the least recently used first
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._awaited: Counter[str] = Counter()  # requests that wait for it, or are about to be admitted
        self._room = asyncio.Lock()
        self._reloader: Reloader | None = None

    def attach(self, reloader: Reloader) -> None:
        """Before anything is asked for."""
        self._reloader = reloader
        reloader.registry.on_demand = self

    # As the source of the desired state.

    def changed(self) -> bool:
        return False  # the reloader is told

    def read(self) -> Sequence[Target]:
        return [*self._fixed, *(Target(spec=self._spec(name)) for name in list(self._wanted))]

    # For the registry.

    def names(self) -> list[str]:
        """What the folder holds now."""
        try:
            found = [path.stem if path.suffix == ".onnx" else path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return sorted({name for name in found if self._known(name)})

    def used(self, name: str) -> None:
        """A request for `name` came."""
        if name in self._wanted:
            self._wanted.move_to_end(name)

    def comes(self, name: str) -> bool:
        """It is loading for a request."""
        return name in self._coming

    def owns(self, name: str) -> bool:
        return name in self._wanted

    @property
    def resident(self) -> int:
        """How many of its models are in memory, or on their way there."""
        return len(self._wanted)

    def state(self, name: str) -> NotLoaded | None:
        """Why `name` does not answer although the folder has it; None when the folder does not."""
        if not self._known(name):
            return None
        if (left := self._rests(name)) > 0:
            return NotLoaded(name, self._failed[name][1], retry_after=max(1, round(left)))
        return NotLoaded(name, "it is loading" if name in self._coming else "a request for it loads it")

    def _rests(self, name: str) -> float:
        """Seconds until a model that could not be loaded is tried again."""
        until, _ = self._failed.get(name, (0.0, ""))
        return until - asyncio.get_running_loop().time()

    # For requests.

    async def load(self, name: str, timeout: float) -> None:
        """Returns once `name` serves; it stays at least until the caller waits for something else. Raises
        RequestError: 404, or 503 when it does not serve within `timeout` seconds (it goes on loading, for
        those who come again) or cannot be loaded.
        """
        assert self._reloader is not None
        state = self.state(name)
        if state is None:
            raise RequestError(404, f"model {name[:100]!r} is unknown")
        if self._rests(name) > 0:
            raise state
        if self._reloader.registry.draining:
            raise NotLoaded(name, "the server is draining")
        task = self._coming.get(name)
        if task is None:
            task = self._coming[name] = asyncio.create_task(self._bring(name))
            task.add_done_callback(lambda _: self._coming.pop(name, None))
        self._awaited[name] += 1
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            asyncio.get_running_loop().call_soon(self._awaited.subtract, [name])
        if not task.done():
            raise NotLoaded(name, f"it is still loading after {timeout:.3g} s")
        if task.cancelled():
            raise NotLoaded(name, "the server is draining")
        if (error := task.exception()) is not None:
            raise error

    def close(self) -> None:
        """Nothing more is loaded; whoever waits is told so."""
        for task in list(self._coming.values()):
            task.cancel()

    # One load.

    async def _bring(self, name: str) -> None:
        assert self._reloader is not None
        spec = await asyncio.to_thread(self._spec, name)
        need = memory.needed(await asyncio.to_thread(_size, spec.path), spec.workers, 0)
        try:
            async with asyncio.timeout(self._patience), self._room:
                await self._make_room(name, need)
                self._wanted[name] = need
        except TimeoutError:
            raise self._counted(
                name, "no room", NotLoaded(name, "all models that could make room for it are busy")
            ) from None
        try:
            error = await self._reloader.load(name)
        except (KeyError, TimeoutError):
            raise self._counted(name, "failed", NotLoaded(name, "it was taken out again")) from None
        except asyncio.CancelledError:
            self._wanted.pop(name, None)
            raise
        if error is None:
            self._counted(name, "loaded", None)
            return
        why = f"{error.reason.value}: {error.message}"
        self._failed[name] = (asyncio.get_running_loop().time() + _REST, why)
        self._forget(name)
        raise self._counted(name, "failed", NotLoaded(name, why, retry_after=round(_REST)))

    async def _make_room(self, name: str, need: int) -> None:
        """Lets the least recently used go. Raises RequestError(503) when it cannot ever fit."""
        if self._limit and need > self._limit:
            raise self._counted(
                name,
                "no room",
                NotLoaded(name, f"it needs about {need >> 20} MiB, more than --on-demand-memory allows"),
            )
        while True:
            for gone in [one for one in self._wanted if self._model(one) is None and one not in self._coming]:
                del self._wanted[gone]  # it was unloaded by hand
            chosen = victims(self._held(), need, most=self._most, limit=self._limit)
            if chosen is not None:
                break
            await asyncio.sleep(_LOOK)
        leaving = [model for name in chosen if (model := self._model(name)) is not None]
        for victim in chosen:
            self.evictions[victim] = self.evictions.get(victim, 0) + 1
            self._forget(victim)
        while any(model.pids for model in leaving):  # noqa: ASYNC110 - the kernel says when
            await asyncio.sleep(_LOOK)

    def _held(self) -> list[Held]:
        found = []
        for name, nbytes in self._wanted.items():
            model = self._model(name)
            here = model is not None and name not in self._coming
            measured = memory.resident(model.pids) if self._limit and here and model is not None else 0
            idle = here and model is not None and model.idle and not self._awaited[name]
            found.append(Held(name=name, nbytes=measured or nbytes, idle=idle))
        return found

    def _forget(self, name: str) -> None:
        assert self._reloader is not None
        self._wanted.pop(name, None)
        self._reloader.mark()

    def _model(self, name: str) -> Model | None:
        assert self._reloader is not None
        return self._reloader.registry.models.get(name)

    def _counted(self, name: str, result: str, error: NotLoaded | None) -> NotLoaded:
        self.loads[name, result] = self.loads.get((name, result), 0) + 1
        return error or NotLoaded(name, result)

    # Files.

    def _known(self, name: str) -> bool:
        return _NAME.fullmatch(name) is not None and self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        folder, file = self._folder / name, self._folder / f"{name}.onnx"
        with suppress(OSError):
            return folder if folder.is_dir() else file if file.is_file() else None
        return None

    def _spec(self, name: str) -> ModelSpec:
        return self._make(f"{name}={self._path(name) or self._folder / name}")


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 for what cannot be read."""
    try:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
