"""How long a key waits before it is tried again."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from ._clock import SYSTEM_CLOCK, Clock

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


class RateLimiter(Protocol[K_contra]):
    """Turns a key's failures in a row into a delay."""

    def when(self, key: K_contra) -> float:
        """Count one failure of `key` and return the seconds to wait."""
        ...

    def forget(self, key: K_contra) -> None:
        """Drop what is known of `key`; call it on success, or the memory of the key leaks."""
        ...

    def failures(self, key: K_contra) -> int:
        """Failures in a row counted so far."""
        ...


class ExponentialRateLimiter(Generic[K]):
    """min(base * 2^failures, maximum) seconds, per key.

    With the defaults (5 ms, 1000 s) the nineteenth failure in a row reaches the maximum.
    """

    __slots__ = ("_base", "_failures", "_maximum")

    def __init__(self, *, base: float = 0.005, maximum: float = 1000.0) -> None:
        if base <= 0 or maximum < base:
            raise ValueError(f"base={base}, maximum={maximum}: need 0 < base <= maximum")
        self._base = base
        self._maximum = maximum
        self._failures: dict[K, int] = {}

    def when(self, key: K) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Past 2^64 the float would one day overflow; the maximum was reached long before.
        return min(self._base * 2.0 ** min(failures, 64), self._maximum)

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def __len__(self) -> int:
        return len(self._failures)


class BucketRateLimiter(Generic[K]):
    """A token bucket over all keys together: `rate` keys a second, `burst` at once.

    A key that finds the bucket empty reserves the next free token, so delays grow evenly and none is lost.
    """

    __slots__ = ("_burst", "_clock", "_rate", "_tokens", "_updated")

    def __init__(self, *, rate: float = 10.0, burst: int = 100, clock: Clock = SYSTEM_CLOCK) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate={rate}, burst={burst}: need rate > 0 and burst >= 1")
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock.monotonic()

    def when(self, key: K) -> float:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate) - 1.0
        self._updated = now
        return max(0.0, -self._tokens / self._rate)

    def forget(self, key: K) -> None:
        return None

    def failures(self, key: K) -> int:
        return 0


class MaxOfRateLimiter(Generic[K]):
    """The longest delay of several limiters."""

    __slots__ = ("_limiters",)

    def __init__(self, *limiters: RateLimiter[K]) -> None:
        if not limiters:
            raise ValueError("limiters: need at least one")
        self._limiters = limiters

    def when(self, key: K) -> float:
        return max([limiter.when(key) for limiter in self._limiters])

    def forget(self, key: K) -> None:
        for limiter in self._limiters:
            limiter.forget(key)

    def failures(self, key: K) -> int:
        return max(limiter.failures(key) for limiter in self._limiters)
