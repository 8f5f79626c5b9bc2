"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

_SETTLE_TURNS = 30


class _FakeTimer:
    __slots__ = ("callback", "cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Implements `Clock`. Time stands still until `advance` or `jump`.

    `advance` visits every timer on the way, in order, and lets the event loop settle after each, so code
    that sleeps in a loop behaves as it would in real time. `jump` moves the time without running anything,
    which is what a blocked event loop looks like from inside.
    """

    def __init__(self, *, start: float = 1000.0, wall: float = 1_767_225_600.0) -> None:
        self._now = start
        self._wall_offset = wall - start
        self._timers: list[tuple[float, int, _FakeTimer]] = []
        self._sequence = itertools.count()

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    def set_wall(self, wall: float) -> None:
        """Step the wall clock (as NTP or a person would) and leave the monotonic one alone."""
        self._wall_offset = wall - self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        timer = self.call_later(seconds, wake)
        try:
            await future
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _FakeTimer:
        timer = _FakeTimer(self._now + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._sequence), timer))
        return timer

    @property
    def pending(self) -> int:
        """Timers that are scheduled and not called off."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def jump(self, seconds: float) -> None:
        """Move time forward and run nothing; overdue timers run at the next `advance` (also by 0)."""
        self._now += seconds

    async def advance(self, seconds: float = 0.0) -> None:
        """Move time forward by `seconds`, running each timer when it is due."""
        target = self._now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= target:
            when, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, when)
            timer.callback()
            await settle()
        self._now = max(self._now, target)
        await settle()


async def settle(turns: int = _SETTLE_TURNS) -> None:
    """Give every runnable task `turns` turns of the event loop; no time passes on a `FakeClock`."""
    for _ in range(turns):
        await asyncio.sleep(0)
