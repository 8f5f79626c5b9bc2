"""Time as a dependency: everything here that waits, waits on a `Clock`, so that no test has to sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A scheduled callback that can still be called off."""

    def cancel(self) -> None:
        """Call the callback off; no effect once it ran."""
        ...


class Clock(Protocol):
    """A source of time. All durations are seconds as floats."""

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary origin; for every measurement and deadline."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; only for what people or other machines read."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; 0 or less gives other tasks one turn."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` in the event loop after `seconds` (>= 0). Must be called in the loop's thread."""
        ...


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


SYSTEM_CLOCK = SystemClock()


@asynccontextmanager
async def deadline(clock: Clock, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """`asyncio.timeout` measured by `clock`: cancels the body after `seconds` and raises TimeoutError.

    `None` never expires. The yielded object's `expired()` tells this deadline from a TimeoutError that the
    body raised itself.
    """
    async with asyncio.timeout(None) as scope:
        if seconds is None:
            yield scope
            return
        timer = clock.call_later(max(0.0, seconds), lambda: scope.reschedule(0.0))
        try:
            yield scope
        finally:
            timer.cancel()


def rfc3339(wall: float, *, micro: bool = False) -> str:
    """Wall-clock seconds as Kubernetes writes them: `Time` (whole seconds) or, with `micro`, `MicroTime`."""
    micros = round(wall * 1_000_000)
    seconds, rest = divmod(micros, 1_000_000)
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{base}.{rest:06d}Z" if micro else f"{base}Z"
