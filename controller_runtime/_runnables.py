"""What a manager runs, in groups that start and stop together."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, runtime_checkable

import structlog

_log = structlog.get_logger("controller_runtime.manager")

CANCEL_PATIENCE = 5.0
"""Seconds that a cancelled runnable gets to end before it is left behind with a log line."""


class RunnableObject(Protocol):
    async def run(self) -> None:
        """Work until done or cancelled. Raising stops the manager, returning does not."""
        ...


@runtime_checkable
class Drainable(Protocol):
    """A runnable that can be asked to finish what it is at: `run` then returns by itself."""

    def drain(self) -> None:
        """Take on nothing new. Must not block."""
        ...


Runnable: TypeAlias = RunnableObject | Callable[[], Awaitable[None]]
"""An object with a coroutine method `run`, or a coroutine function without arguments."""


class Group:
    """Runnables that start together, and together are drained, waited for and cancelled.

    Owns one task for each; a failure is reported to `failed` at once and the others go on.
    """

    def __init__(self, name: str, failed: Callable[[BaseException], None]) -> None:
        self.name = name
        self._failed = failed
        self._runnables: list[Runnable] = []
        self._tasks: dict[asyncio.Task[None], Runnable] = {}
        self._running = False

    def __len__(self) -> int:
        return len(self._runnables)

    @property
    def runnables(self) -> list[Runnable]:
        return list(self._runnables)

    def add(self, runnable: Runnable) -> None:
        """Add one; it starts at once if the group is running."""
        self._runnables.append(runnable)
        if self._running:
            self._start(runnable)

    def start(self) -> None:
        self._running = True
        for runnable in self._runnables:
            self._start(runnable)

    async def stop(self, grace: float, *, hurry: asyncio.Event | None = None) -> bool:
        """Drain those that can, cancel the others, wait `grace` seconds (or until `hurry`), then cancel all.

        False when something had to be cancelled after all. Nothing is started any more.
        """
        self._running = False
        for task, runnable in self._tasks.items():
            if isinstance(runnable, Drainable) and grace > 0:
                runnable.drain()
            else:
                task.cancel()
        clean = await self._wait(grace, hurry) if grace > 0 else True
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=CANCEL_PATIENCE)
            for task in stuck:
                _log.error("does not end when cancelled; left behind", group=self.name, task=task.get_name())
        return clean

    async def _wait(self, grace: float, hurry: asyncio.Event | None) -> bool:
        tasks = asyncio.ensure_future(asyncio.wait(list(self._tasks))) if self._tasks else None
        if tasks is None:
            return True
        waits: set[asyncio.Future[object]] = {tasks}  # type: ignore[arg-type]
        hurried = asyncio.ensure_future(hurry.wait()) if hurry is not None else None
        if hurried is not None:
            waits.add(hurried)  # type: ignore[arg-type]
        try:
            await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            return tasks.done()
        finally:
            for wait in waits:
                wait.cancel()

    def _start(self, runnable: Runnable) -> None:
        task = asyncio.get_running_loop().create_task(self._run(runnable), name=runnable_name(runnable))
        self._tasks[task] = runnable
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _run(self, runnable: Runnable) -> None:
        await call(runnable)


def call(runnable: Runnable) -> Awaitable[None]:
    """Begin a runnable's work. Raises TypeError for what cannot be awaited."""
    run: object = getattr(runnable, "run", runnable)
    work: object = run() if callable(run) else None
    if not inspect.isawaitable(work):
        raise TypeError(f"{runnable_name(runnable)}: neither a coroutine function nor an object with run()")
    return work


def runnable_name(runnable: Runnable) -> str:
    """For logs and task names: its `name`, else what it is called."""
    name = getattr(runnable, "name", None) or getattr(runnable, "__qualname__", None)
    return str(name or type(runnable).__name__)
