"""Notices when something holds up the event loop, and names it.

Leases, probes and watches all live in one loop, so one synchronous call in a reconcile freezes the operator.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

import structlog

_log = structlog.get_logger("controller_runtime.watchdog")
_FRAMES = 6


class _Observes(Protocol):
    def observe(self, amount: float) -> None: ...


def task_label(task: asyncio.Task[object] | None) -> str:
    """The name of a task for logs and metrics: the controller's, when one of its workers runs."""
    if task is None:
        return "callback"
    name = task.get_name()
    if name.startswith("controller/"):
        return name.split("/")[1]
    return "other" if name.startswith("Task-") else name


class Watchdog:
    """Measures the lateness of a timer in the loop, and from a thread watches for a loop that stands still.

    `async with Watchdog(...)`: a beat every `interval` seconds goes to `lag`; when no beat came for
    `threshold` seconds the thread logs, once for each block, the task that runs, its controller and the
    innermost frames, *while* it blocks, and calls `blocked(label)` in that thread. The end of a block is
    logged with its length.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        interval: float = 0.1,
        lag: _Observes | None = None,
        blocked: Callable[[str], None] | None = None,
    ) -> None:
        if threshold <= 0 or interval <= 0:
            raise ValueError(f"threshold={threshold}, interval={interval}: give seconds above 0")
        self._threshold = threshold
        self._interval = interval
        self._lag = lag
        self._blocked = blocked
        self._beat = 0.0
        self._reported = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None

    def silence(self) -> float:
        """Seconds since the loop last ran the heartbeat; about `interval` at most while all is well."""
        return time.monotonic() - self._beat

    async def __aenter__(self) -> Watchdog:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat = time.monotonic()
        self._timer = self._loop.call_later(self._interval, self._tick)
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _tick(self) -> None:
        assert self._loop is not None
        now = time.monotonic()
        late = max(0.0, now - self._beat - self._interval)
        self._beat = now
        if self._lag is not None:
            self._lag.observe(late)
        if self._reported:
            _log.warning("event loop runs again", controller=self._reported, seconds=round(late, 3))
            self._reported = ""
        self._timer = self._loop.call_later(self._interval, self._tick)

    def _watch(self) -> None:
        while not self._stop.wait(self._threshold / 2):
            beat = self._beat
            if self._reported or time.monotonic() - beat < self._threshold + self._interval:
                continue
            try:
                self._report(beat)
            except Exception:
                _log.exception("watchdog cannot look at the event loop")

    def _report(self, beat: float) -> None:
        assert self._loop is not None
        frame = sys._current_frames().get(self._loop_thread)
        task = asyncio.current_task(self._loop)
        if self._beat != beat:
            return  # it moved while we looked
        label = task_label(task)
        self._reported = label
        stack = [] if frame is None else traceback.extract_stack(frame)[-_FRAMES:]
        _log.warning(
            "event loop blocked",
            controller=label,
            task=task.get_name() if task is not None else "",
            seconds=round(time.monotonic() - beat, 3),
            frames=[f"{entry.filename}:{entry.lineno} {entry.name}" for entry in stack],
        )
        if self._blocked is not None:
            self._blocked(label)
