"""Which requests run together, and when. Pure: the clock is a number that comes in, memory is elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")
B = TypeVar("B")

_PEAK_DECAY = 0.9


class Why(StrEnum):
    """What made a batch go; the values are the metric's `reason`."""

    FULL = "full"  # no further row fits
    FREE = "free"  # a worker had nothing to do and no delay is wanted
    DELAY = "delay"  # the oldest has waited for max_delay
    DEADLINE = "deadline"  # waiting longer would make one late
    ALL = "all"  # as many wait as were ever under way at once lately: nobody is left to wait for
    AHEAD = "ahead"  # at least half a batch, to a worker that still runs the one before
    ALONE = "alone"  # cannot be joined: another shape, a retry, a model that does not batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Rows and seconds."""

    max_rows: int = 1
    max_delay: float = 0.0


@dataclass(slots=True, eq=False)
class Entry(Generic[T, B]):
    """A waiting request: rows `start` to `start + rows` of its group."""

    item: T
    group: Group[T, B]
    rows: int
    arrived: float
    deadline: float
    start: int
    waiting: bool = True


@dataclass(slots=True, eq=False)
class Group(Generic[T, B]):
    """Requests of one shape that share a buffer, in the order they came. Never more than `capacity` rows."""

    key: Hashable
    capacity: int
    buffer: B
    entries: deque[Entry[T, B]] = field(default_factory=deque)
    end: int = 0  # first row of the buffer that was never given away
    alone: bool = False

    @property
    def rows(self) -> int:
        return self.end - self.entries[0].start if self.entries else 0


@dataclass(frozen=True, slots=True)
class Shift:
    """`rows` rows of a group's buffer from `source` on are to be copied down to `target`."""

    source: int
    rows: int
    target: int


@dataclass(frozen=True, slots=True)
class Dispatch(Generic[T, B]):
    """Neighbouring rows of one group. `last`: the group is empty now and will not be used again."""

    group: Group[T, B]
    entries: Sequence[Entry[T, B]]
    why: Why
    last: bool


class Batcher(Generic[T, B]):
    """Guarantees: an entry is given out at most once, and exactly once unless it is cancelled; a batch has
    one shape and at most `max_rows` rows, unless a single request alone has more; requests of one shape go
    in the order they came; with no delay wanted, nothing waits while a worker is idle.

    `seconds(key, rows)` is what a run is expected to take. A group whose tightest deadline is nearer than
    twice that goes before others, else the one whose first request came first.
    """

    def __init__(self, options: Options, seconds: Callable[[Hashable, int], float]) -> None:
        self.options = options
        self.queued = 0  # requests
        self.queued_rows = 0
        self._seconds = seconds
        self._lanes: dict[Hashable, deque[Group[T, B]]] = {}
        self._under_way = 0
        self._peak = float(options.max_rows)

    def room(self, key: Hashable, rows: int) -> Group[T, B] | None:
        """The group of this shape that still takes `rows` more."""
        lane = self._lanes.get(key)
        if not lane:
            return None
        last = lane[-1]
        limit = min(last.capacity, self.options.max_rows)
        return last if not last.alone and last.end + rows <= limit else None

    def open(self, key: Hashable, capacity: int, buffer: B, *, alone: bool = False) -> Group[T, B]:
        """A new group behind the others of its shape; an entry must be admitted to it next."""
        group: Group[T, B] = Group(key, capacity, buffer, alone=alone)
        self._lanes.setdefault(key, deque()).append(group)
        return group

    def admit(self, group: Group[T, B], item: T, rows: int, *, now: float, deadline: float) -> Entry[T, B]:
        entry = Entry(item, group, rows, now, deadline, group.end)
        group.end += rows
        group.entries.append(entry)
        self.queued += 1
        self.queued_rows += rows
        self._under_way += 1
        self._peak = max(self._peak, self._under_way)
        return entry

    def again(self, entry: Entry[T, B]) -> None:
        """A request that was given out comes back, to run alone in its old place in the order."""
        group: Group[T, B] = Group(("again", id(entry)), entry.rows, entry.group.buffer, alone=True)
        group.entries.append(entry)
        group.end = entry.start + entry.rows
        entry.group = group
        entry.waiting = True
        self._lanes[group.key] = deque([group])
        self.queued += 1
        self.queued_rows += entry.rows
        self._under_way += 1

    def cancel(self, entry: Entry[T, B]) -> tuple[Shift | None, bool]:
        """Forgets a waiting entry: what is to be moved into its place, and whether its group is gone."""
        group = entry.group
        if not entry.waiting:
            raise ValueError("the entry does not wait")
        entry.waiting = False
        self._count_out([entry])
        self._under_way -= 1
        at = group.entries.index(entry)
        del group.entries[at]
        if not group.entries:
            self._remove(group)
            return None, True
        behind = group.end - entry.start - entry.rows
        for index in range(at, len(group.entries)):
            group.entries[index].start -= entry.rows
        group.end -= entry.rows
        return (Shift(entry.start + entry.rows, behind, entry.start) if behind else None), False

    def next(self, now: float, *, idle: bool) -> Dispatch[T, B] | None:
        """What to run now on a worker that is idle, or (not `idle`) as the second batch of a busy one."""
        group = self._pick(now)
        if group is None:
            return None
        why = self._why(group, now, idle)
        if why is None:
            return None
        taken: list[Entry[T, B]] = []
        for entry in self._fitting(group, now):
            entry.waiting = False
            taken.append(entry)
        for _ in taken:
            group.entries.popleft()
        last = not group.entries
        if last:
            self._remove(group)
        self._count_out(taken)
        self._peak = max(float(self._under_way), self._peak * _PEAK_DECAY)
        return Dispatch(group, taken, why, last)

    def prospect(self, now: float) -> Group[T, B] | None:
        """The group that `next` would give to an idle worker now."""
        group = self._pick(now)
        return group if group is not None and self._why(group, now, True) is not None else None

    def wake(self, now: float) -> float | None:
        """When an idle worker should be offered work again, if nothing happens before."""
        group = self._pick(now)
        return None if group is None else self._due(group)[0]

    def completed(self, count: int) -> None:
        """So many of the requests that were given out are answered, or come back by `again`."""
        self._under_way -= count

    def drain(self) -> list[Group[T, B]]:
        """Takes everything out, for all of it to be answered otherwise."""
        groups = [group for lane in self._lanes.values() for group in lane]
        for group in groups:
            self._under_way -= len(group.entries)
            for entry in group.entries:
                entry.waiting = False
        self._lanes.clear()
        self.queued = self.queued_rows = 0
        return groups

    def _pick(self, now: float) -> Group[T, B] | None:
        best: Group[T, B] | None = None
        best_rank = (2, 0.0)
        if len(self._lanes) == 1:
            return next(iter(self._lanes.values()))[0]
        for lane in self._lanes.values():
            group = lane[0]
            slack = min(entry.deadline for entry in group.entries) - now
            urgent = slack < 2 * self._seconds(group.key, group.rows)
            rank = (0, slack) if urgent else (1, group.entries[0].arrived)
            if rank < best_rank:
                best, best_rank = group, rank
        return best

    def _why(self, group: Group[T, B], now: float, idle: bool) -> Why | None:
        full = group.rows >= min(group.capacity, self.options.max_rows) or len(self._lanes[group.key]) > 1
        if not idle:
            return Why.AHEAD if full or 2 * group.rows >= self.options.max_rows else None
        if group.alone:
            return Why.ALONE
        if full:
            return Why.FULL
        if self.options.max_delay <= 0:
            return Why.FREE
        if self.queued == self._under_way and self.queued >= self._peak:
            return Why.ALL
        due, why = self._due(group)
        return why if now >= due else None

    def _due(self, group: Group[T, B]) -> tuple[float, Why]:
        waited = group.entries[0].arrived + self.options.max_delay
        tightest = min(entry.deadline for entry in group.entries)
        latest = tightest - 2 * self._seconds(group.key, group.rows)
        return (waited, Why.DELAY) if waited <= latest else (latest, Why.DEADLINE)

    def _fitting(self, group: Group[T, B], now: float) -> Iterator[Entry[T, B]]:
        """Entries from the front while nobody who could be in time becomes late by those behind."""
        rows = 0
        slack = float("inf")
        for entry in group.entries:
            together = rows + entry.rows
            cost = self._seconds(group.key, together)
            mine = entry.deadline - now
            if rows and (cost > slack or together > self.options.max_rows):
                return
            if mine >= cost:
                slack = min(slack, mine)
            rows = together
            yield entry

    def _count_out(self, entries: Sequence[Entry[T, B]]) -> None:
        self.queued -= len(entries)
        self.queued_rows -= sum(entry.rows for entry in entries)

    def _remove(self, group: Group[T, B]) -> None:
        lane = self._lanes[group.key]
        lane.remove(group)
        if not lane:
            del self._lanes[group.key]
