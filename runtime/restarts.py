"""When a dead worker may be started again. Pure: the clock is a number that comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartOptions:
    """Seconds. After `budget` deaths within `window` the model has failed; it is tried again after `rest`,
    then after twice as long, up to `longest_rest`.
    """

    first_delay: float = 0.1
    longest_delay: float = 30.0
    factor: float = 2.0
    budget: int = 5
    window: float = 120.0
    rest: float = 60.0
    longest_rest: float = 300.0

    def rests(self) -> Iterator[float]:
        """How long a failed model rests before each next try."""
        pause = self.rest
        while True:
            yield pause
            pause = min(self.longest_rest, 2 * pause)


@dataclass(slots=True)
class Restarts:
    """The deaths of one model's workers. The delay doubles with each death in the window and starts over
    after it.
    """

    options: RestartOptions = field(default_factory=RestartOptions)
    _deaths: deque[float] = field(default_factory=deque)

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None when the budget is spent."""
        while self._deaths and self._deaths[0] <= now - self.options.window:
            self._deaths.popleft()
        self._deaths.append(now)
        count = len(self._deaths)
        if count >= self.options.budget:
            return None
        return min(
            self.options.longest_delay,
            self.options.first_delay * self.options.factor ** (count - 1),
        )

    def forget(self) -> None:
        """After a rest: what died before says nothing about the next try."""
        self._deaths.clear()

    @property
    def recent(self) -> int:
        return len(self._deaths)
