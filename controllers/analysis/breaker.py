"""Stops asking a server that does not answer. No I/O; the clock is injected."""

from collections.abc import Callable
from typing import Final

#: Errors in a row that open it, and the seconds until one question is let through again.
ERRORS: Final = 5
PAUSE: Final = 15.0


class Breaker:
    """Closed: everything passes. Open: nothing, but one trial every `pause` seconds. A success closes it.

    A trial that is never reported (its task was cancelled) costs one pause, not the breaker.
    """

    def __init__(self, clock: Callable[[], float], *, errors: int = ERRORS, pause: float = PAUSE) -> None:
        self._clock = clock
        self._limit = errors
        self._pause = pause
        self._errors = 0
        self._next_trial = 0.0

    @property
    def open(self) -> bool:
        return self._errors >= self._limit

    def allow(self) -> bool:
        """Whether to ask now. True while open is a trial: its outcome must be reported."""
        if not self.open:
            return True
        now = self._clock()
        if now < self._next_trial:
            return False
        self._next_trial = now + self._pause
        return True

    def wait(self) -> float:
        """Seconds until the next trial; 0 when one may ask."""
        return max(0.0, self._next_trial - self._clock()) if self.open else 0.0

    def succeeded(self) -> None:
        self._errors = 0

    def failed(self) -> None:
        self._errors += 1
        if self._errors == self._limit:
            self._next_trial = self._clock() + self._pause
