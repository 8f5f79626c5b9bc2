"""Trying again where trying again is right."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ._clock import SYSTEM_CLOCK, Clock
from .errors import Conflict

T = TypeVar("T")


async def retry_on_conflict(
    attempt: Callable[[], Awaitable[T]],
    *,
    steps: int = 5,
    pause: float = 0.01,
    jitter: float = 0.1,
    clock: Clock = SYSTEM_CLOCK,
    random: Callable[[], float] = _random.random,
) -> T:
    """Call `attempt`, which reads the object and writes it, up to `steps` times while it raises Conflict.

    `pause` seconds lie between two attempts, stretched by up to `jitter` of itself. The last Conflict is
    raised. Inside a reconcile, returning and letting the next event bring the key back is usually better.
    """
    for _ in range(steps - 1):
        try:
            return await attempt()
        except Conflict:
            await clock.sleep(pause * (1.0 + jitter * random()))
    return await attempt()
