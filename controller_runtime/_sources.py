"""Where a controller's keys come from: watched kinds, channels, timers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from ._clock import SYSTEM_CLOCK, Clock, Timer
from ._handlers import EnqueueForObject, Mapper, QueueFeeder
from ._informer_api import Informer, Registration
from ._objects import Key, Object
from ._predicates import Predicate
from ._workqueue import WorkQueue

_log = structlog.get_logger("controller_runtime.sources")


class Source(Protocol):
    """Feeds a work queue from `start` until `stop`, in the event loop's thread."""

    def start(self, queue: WorkQueue[Key]) -> None:
        """Begin to feed `queue`; must not block."""
        ...

    async def wait_synced(self, timeout: float) -> None:
        """Return once everything that existed at the start was fed; raises after `timeout` seconds."""
        ...

    def stop(self) -> None:
        """Feed nothing more and free what `start` took. Idempotent."""
        ...


class KindSource:
    """The events of one informer, filtered and mapped."""

    def __init__(
        self,
        informer: Informer,
        mapper: Mapper,
        predicate: Predicate | None = None,
        *,
        priority: int = 0,
    ) -> None:
        self._informer = informer
        self._mapper = mapper
        self._predicate = predicate
        self._priority = priority
        self._registration: Registration | None = None

    def start(self, queue: WorkQueue[Key]) -> None:
        feeder = QueueFeeder(queue, self._mapper, self._predicate, priority=self._priority)
        self._registration = self._informer.add_handler(feeder)

    async def wait_synced(self, timeout: float) -> None:
        """Raises CacheSyncTimeout, naming kind and cause, when the informer itself has no list in time."""
        registration = self._registration
        if registration is None or registration.has_synced():
            return
        # The informer first: its error says why. Then our own deliveries, which is what workers wait for.
        await self._informer.wait_synced(timeout)
        await registration.wait_synced(timeout)

    def stop(self) -> None:
        if self._registration is not None:
            self._registration.remove()
            self._registration = None


class Channel:
    """Keys and objects from anywhere but the API server: a prober, a webhook, another thread.

    `enqueue` and `publish` may be called from any thread and at any time; what comes before a controller has
    started is kept, each key once, and every controller that uses the channel gets everything from its
    start on. Never blocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._early: dict[Key, None] = {}
        self._early_objects: dict[Key, Object] = {}
        self._feeders: dict[int, tuple[WorkQueue[Key], QueueFeeder, int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._next = 0

    def enqueue(self, key: Key, *, priority: int | None = None) -> None:
        """Have `key` reconciled; at the priority the channel was attached with unless one is given."""
        self._call(key, None, priority)

    def publish(self, obj: Object) -> None:
        """A generic event: goes through each controller's mapper and its predicate's `generic`."""
        self._call(obj.key, obj, None)

    def source(
        self, mapper: Mapper | None = None, predicate: Predicate | None = None, *, priority: int = 0
    ) -> Source:
        """One controller's end of the channel."""
        return _ChannelSource(self, mapper or EnqueueForObject(), predicate, priority)

    def _call(self, key: Key, obj: Object | None, priority: int | None) -> None:
        with self._lock:
            loop = self._loop
            if loop is None:
                if obj is None:
                    self._early[key] = None
                else:
                    self._early_objects[key] = obj
                return
        if threading.get_ident() == self._thread:
            self._deliver(key, obj, priority)
            return
        try:
            loop.call_soon_threadsafe(self._deliver, key, obj, priority)
        except RuntimeError:
            return  # the loop is closed: nobody is left to reconcile

    def _deliver(self, key: Key, obj: Object | None, priority: int | None) -> None:
        for queue, feeder, usual in self._feeders.values():
            if obj is not None:
                feeder.on_generic(obj)
            else:
                queue.add(key, priority=usual if priority is None else priority)

    def _attach(self, queue: WorkQueue[Key], feeder: QueueFeeder, priority: int) -> int:
        self._next += 1
        self._feeders[self._next] = (queue, feeder, priority)
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
            early, self._early = self._early, {}
            early_objects, self._early_objects = self._early_objects, {}
        for key in early:
            self._deliver(key, None, None)
        for obj in early_objects.values():
            self._deliver(obj.key, obj, None)
        return self._next

    def _detach(self, number: int) -> None:
        self._feeders.pop(number, None)
        if not self._feeders:
            with self._lock:
                self._loop = None


class _ChannelSource:
    def __init__(self, channel: Channel, mapper: Mapper, predicate: Predicate | None, priority: int) -> None:
        self._channel = channel
        self._mapper = mapper
        self._predicate = predicate
        self._priority = priority
        self._number = 0

    def start(self, queue: WorkQueue[Key]) -> None:
        feeder = QueueFeeder(queue, self._mapper, self._predicate, priority=self._priority)
        self._number = self._channel._attach(queue, feeder, self._priority)

    async def wait_synced(self, timeout: float) -> None:
        return None

    def stop(self) -> None:
        self._channel._detach(self._number)


class TimerSource:
    """Adds what `keys` returns every `interval` seconds, for the first time one interval after the start.

    For looks at the world that no event announces. `keys` must not await; if it raises, the error is logged
    and the timer goes on.
    """

    def __init__(
        self,
        interval: float,
        keys: Callable[[], Iterable[Key]],
        *,
        priority: int = 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if interval <= 0:
            raise ValueError(f"interval={interval}: give a number of seconds above 0")
        self._interval = interval
        self._keys = keys
        self._priority = priority
        self._clock = clock
        self._timer: Timer | None = None
        self._queue: WorkQueue[Key] | None = None

    def start(self, queue: WorkQueue[Key]) -> None:
        self._queue = queue
        self._arm()

    async def wait_synced(self, timeout: float) -> None:
        return None

    def stop(self) -> None:
        self._queue = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = self._clock.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        if self._queue is None:
            return
        self._arm()
        try:
            for key in self._keys():
                self._queue.add(key, priority=self._priority)
        except Exception:
            _log.exception("timer source failed", interval=self._interval)
