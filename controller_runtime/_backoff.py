"""Growing pauses between attempts, with jitter, forgotten after a quiet time."""

from __future__ import annotations

import random as _random
from collections.abc import Callable

from ._clock import SYSTEM_CLOCK, Clock


class Backoff:
    """Pauses of one activity: `base * factor^n` up to `cap`, each stretched by up to `jitter` times itself.

    Not shared: every watch has its own, so that one failing server path cannot slow the others. The pause
    starts at `base` again when `reset_after` seconds went by since the last one was asked for. Defaults are
    those of client-go's reflector, so the steady state is 30-60 s.
    """

    def __init__(
        self,
        *,
        base: float = 0.8,
        cap: float = 30.0,
        factor: float = 2.0,
        jitter: float = 1.0,
        reset_after: float = 120.0,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._base = base
        self._cap = cap
        self._factor = factor
        self._jitter = jitter
        self._reset_after = reset_after
        self._clock = clock
        self._random = random
        self._pause = base
        self._last = clock.monotonic()

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        now = self._clock.monotonic()
        if now - self._last > self._reset_after:
            self._pause = self._base
        pause = self._pause
        self._pause = min(pause * self._factor, self._cap)
        pause *= 1.0 + self._jitter * self._random()
        self._last = now + pause  # the pause itself is not quiet time
        return pause
