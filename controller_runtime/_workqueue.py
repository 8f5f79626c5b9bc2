"""The queue between event handlers and workers: deduplicated, prioritised, delayed.

Semantics are those of the priority queue of Go's controller-runtime, with the starvation of low priorities
bounded by `Ageing`.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from ._clock import SYSTEM_CLOCK, Clock, Timer
from ._ratelimit import ExponentialRateLimiter, RateLimiter

K = TypeVar("K", bound=Hashable)

LOW_PRIORITY = -100
"""Priority of what an initial list or an unchanged object brings: behind everything that just happened."""

_SLACK = 64


class QueueShutDown(Exception):
    """The queue hands out nothing any more."""


class Item(NamedTuple, Generic[K]):
    """A key handed to a worker, with the priority it had."""

    key: K
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Every `share`-th hand-out goes to the oldest ready key once that has waited `after` seconds.

    So a steady stream of urgent keys slows the others down to 1/share of the hand-outs and never stops them,
    and a backlog of old keys takes no more than that from the urgent ones.
    """

    after: float = 10.0
    share: int = 8


DEFAULT_AGEING = Ageing()


class QueueMetrics(Protocol):
    """What the queue reports; only of keys that are ready, never of delayed ones."""

    def added(self, priority: int) -> None: ...
    def moved(self, before: int, after: int) -> None: ...
    def taken(self, priority: int, waited: float) -> None: ...
    def done(self, worked: float) -> None: ...
    def retried(self) -> None: ...


class _NoMetrics:
    def added(self, priority: int) -> None:
        pass

    def moved(self, before: int, after: int) -> None:
        pass

    def taken(self, priority: int, waited: float) -> None:
        pass

    def done(self, worked: float) -> None:
        pass

    def retried(self) -> None:
        pass


class _State(enum.Enum):
    WAITING = enum.auto()  # in the waiting heap, until ready_at
    READY = enum.auto()  # in the ready heap
    PARKED = enum.auto()  # ready, but its key is in a worker's hands; in no heap until done()
    TAKEN = enum.auto()  # handed out: what heaps still hold of it is stale


class _Entry(Generic[K]):
    __slots__ = ("counter", "key", "priority", "ready_at", "since", "state")

    def __init__(self, key: K, priority: int, counter: int) -> None:
        self.key = key
        self.priority = priority
        self.counter = counter
        self.ready_at = 0.0
        self.since = 0.0
        self.state = _State.WAITING


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """A snapshot for debugging. `ready` includes keys held back because a worker has them."""

    ready: int
    waiting: int
    processing: int
    shut_down: bool


class WorkQueue(Generic[K]):
    """Keys to work on.

    Guarantees:
    - A key is in the queue at most once; adding it again keeps the higher priority and the earlier time.
    - A key is never in two workers' hands: between `get` and `done` it is held back.
    - Nothing is lost: a key added while a worker has it comes out again after `done`.
    - Ready keys come out by priority, highest first, then in the order they were added; a key whose
      priority was raised goes to the end of its new level. `Ageing` bounds how long lower levels wait.
    - After `shutdown` additions are ignored and `get` raises at once, whatever is still queued.

    Not thread-safe: everything happens in the event loop's thread.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        limiter: RateLimiter[K] | None = None,
        metrics: QueueMetrics | None = None,
        ageing: Ageing | None = DEFAULT_AGEING,
    ) -> None:
        self._clock = clock
        self._now = clock.monotonic
        self._limiter: RateLimiter[K] = ExponentialRateLimiter() if limiter is None else limiter
        self._metrics: QueueMetrics = _NoMetrics() if metrics is None else metrics
        self._ageing = ageing
        self._entries: dict[K, _Entry[K]] = {}
        self._processing: dict[K, float] = {}
        self._ready: list[tuple[int, int, _Entry[K]]] = []
        self._ready_count = 0
        self._oldest: deque[_Entry[K]] = deque()
        self._waiting: list[tuple[float, int, _Entry[K]]] = []
        self._waiting_count = 0
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._getters: deque[asyncio.Future[None]] = deque()
        self._counter = 0
        self._handed_out = 0
        self._shut_down = False

    def add(self, key: K, *, priority: int = 0, after: float = 0.0, rate_limited: bool = False) -> None:
        """Queue `key`, now or in `after` seconds.

        `rate_limited` counts a failure of `key` and waits as the limiter says; with both, the shorter delay
        holds.
        """
        if self._shut_down:
            return
        if rate_limited:
            delay = self._limiter.when(key)
            if after <= 0 or delay < after:
                after = delay
        if after > 0:
            self._metrics.retried()
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(key, priority, self._next())
            self._entries[key] = entry
            if after > 0:
                self._delay(entry, self._now() + after)
            else:
                self._make_ready(entry)
            return
        if priority > entry.priority:
            self._raise_priority(entry, priority)
        if entry.state is _State.WAITING:
            if after <= 0:
                self._waiting_count -= 1
                self._make_ready(entry)
            else:
                ready_at = self._now() + after
                if ready_at < entry.ready_at:
                    self._waiting_count -= 1
                    self._delay(entry, ready_at)

    async def get(self) -> Item[K]:
        """Wait for the next key. Always gives other tasks a turn first, so workers cannot hog the loop.

        Raises QueueShutDown after `shutdown`. Cancelling it loses no key.
        """
        await asyncio.sleep(0)
        while True:
            if self._shut_down:
                raise QueueShutDown
            entry = self._pop()
            if entry is not None:
                return Item(entry.key, entry.priority)
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.cancelled():
                    if getter in self._getters:
                        self._getters.remove(getter)
                else:
                    self._wake()  # this turn was already promised to us: pass it on
                raise

    def done(self, key: K) -> None:
        """The worker that got `key` has finished with it. Raises KeyError if none had it."""
        started = self._processing.pop(key)
        self._metrics.done(self._now() - started)
        entry = self._entries.get(key)
        if entry is not None and entry.state is _State.PARKED:
            self._push(entry)

    def forget(self, key: K) -> None:
        """Reset the rate limiter for `key`."""
        self._limiter.forget(key)

    def failures(self, key: K) -> int:
        """Failures in a row that the rate limiter has counted for `key`."""
        return self._limiter.failures(key)

    def shutdown(self) -> None:
        """Hand out nothing more and wake every waiting worker with QueueShutDown. Keys in hand stay valid."""
        self._shut_down = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)

    @property
    def is_shut_down(self) -> bool:
        return self._shut_down

    def __len__(self) -> int:
        """Keys that are ready, held back ones included."""
        return len(self._entries) - self._waiting_count

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            ready=len(self),
            waiting=self._waiting_count,
            processing=len(self._processing),
            shut_down=self._shut_down,
        )

    def unfinished_seconds(self) -> float:
        """The sum of how long each key now in a worker's hands has been there."""
        now = self._now()
        return sum([now - started for started in self._processing.values()])

    def longest_running_seconds(self) -> float:
        """How long the longest of them has been there; 0 if none is."""
        now = self._now()
        return max([now - started for started in self._processing.values()], default=0.0)

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _make_ready(self, entry: _Entry[K]) -> None:
        entry.since = self._now()
        self._metrics.added(entry.priority)
        if entry.key in self._processing:
            entry.state = _State.PARKED
        else:
            self._push(entry)

    def _push(self, entry: _Entry[K]) -> None:
        entry.state = _State.READY
        self._ready_count += 1
        heapq.heappush(self._ready, (-entry.priority, entry.counter, entry))
        if self._ageing is not None:
            self._oldest.append(entry)
            if len(self._oldest) > 2 * self._ready_count + _SLACK:
                self._oldest = deque(kept for kept in self._oldest if kept.state is _State.READY)
        if len(self._ready) > 2 * self._ready_count + _SLACK:
            self._ready = [item for item in self._ready if _is_current(item)]
            heapq.heapify(self._ready)
        self._wake()

    def _raise_priority(self, entry: _Entry[K], priority: int) -> None:
        before, entry.priority = entry.priority, priority
        entry.counter = self._next()
        if entry.state is _State.WAITING:
            return
        self._metrics.moved(before, priority)
        if entry.state is _State.READY:
            heapq.heappush(self._ready, (-priority, entry.counter, entry))

    def _pop(self) -> _Entry[K] | None:
        entry = self._aged() or self._first()
        if entry is None:
            return None
        entry.state = _State.TAKEN
        self._ready_count -= 1
        self._handed_out += 1
        key = entry.key
        del self._entries[key]
        now = self._now()
        self._processing[key] = now
        self._metrics.taken(entry.priority, now - entry.since)
        return entry

    def _first(self) -> _Entry[K] | None:
        ready = self._ready
        while ready:
            item = heapq.heappop(ready)
            if _is_current(item):
                return item[2]
        return None

    def _aged(self) -> _Entry[K] | None:
        ageing, oldest = self._ageing, self._oldest
        if ageing is None:
            return None
        while oldest and oldest[0].state is not _State.READY:
            oldest.popleft()
        if (self._handed_out + 1) % ageing.share or not oldest:
            return None
        return oldest[0] if self._now() - oldest[0].since >= ageing.after else None

    def _wake(self) -> None:
        # Wakes a getter and lets it choose when it runs, rather than handing it this key: keys added
        # in between with a higher priority must come first.
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _delay(self, entry: _Entry[K], ready_at: float) -> None:
        entry.state = _State.WAITING
        entry.ready_at = ready_at
        self._waiting_count += 1
        heapq.heappush(self._waiting, (ready_at, self._next(), entry))
        if len(self._waiting) > 2 * self._waiting_count + _SLACK:
            # A key that always asks to be seen in an hour and is woken earlier leaves a stale item each time.
            self._waiting = [item for item in self._waiting if _is_waiting(item)]
            heapq.heapify(self._waiting)
        self._arm()

    def _arm(self) -> None:
        waiting = self._waiting
        while waiting and not _is_waiting(waiting[0]):
            heapq.heappop(waiting)
        if not waiting:
            return
        ready_at = waiting[0][0]
        if self._timer is not None:
            if self._timer_at <= ready_at:
                return  # it fires earlier, finds nothing due and arms itself again
            self._timer.cancel()
        self._timer_at = ready_at
        self._timer = self._clock.call_later(max(0.0, ready_at - self._now()), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._now()
        while self._waiting and self._waiting[0][0] <= now:
            item = heapq.heappop(self._waiting)
            if _is_waiting(item):
                self._waiting_count -= 1
                self._make_ready(item[2])
        self._arm()


def _is_current(item: tuple[int, int, _Entry[K]]) -> bool:
    return item[2].state is _State.READY and item[2].counter == item[1]


def _is_waiting(item: tuple[float, int, _Entry[K]]) -> bool:
    return item[2].state is _State.WAITING and item[2].ready_at == item[0]
