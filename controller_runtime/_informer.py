"""A synchronised copy with listeners: the reflector's sink in front of a store."""

from __future__ import annotations

import asyncio
import random as _random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeAlias

import structlog

from ._clock import SYSTEM_CLOCK, Clock, deadline
from ._informer_api import Handler, Registration
from ._metrics_api import WatchMetrics
from ._objects import Key, Kind, Object, Objects
from ._reflector import Reflector
from ._reflector_api import ListWatch, ReflectorOptions
from ._selectors import Selector
from ._store import Delta, IndexFunction, Store
from ._wire import Entry, MalformedObject, StoredObject, Transform
from .errors import CacheSyncTimeout, Forbidden, NotFound

_log = structlog.get_logger("controller_runtime.informer")

_Notification: TypeAlias = Callable[[Handler], None]
_DRAIN_SECONDS = 0.005
_REMIND_EVERY = 60.0


class SharedInformer:
    """Keeps a `Store` current and tells handlers of every change; one per kind, shape and namespace.

    A batch of changes is in the store, as a whole, before the first handler hears of it. Each handler has a
    buffer of its own and hears everything in order; handlers that are busy yield to the event loop every few
    milliseconds. Versions are published after the changes are buffered, so a worker that waits for a version
    and then finishes its key finds the resulting event queued behind it.
    """

    def __init__(
        self,
        kind: Kind,
        source: ListWatch,
        *,
        metrics: WatchMetrics,
        namespace: str = "",
        indexes: Mapping[str, IndexFunction] | None = None,
        transform: Transform | None = None,
        options: ReflectorOptions | None = None,
        resync: float = 36_000.0,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.namespace = namespace
        self.store = Store(kind, indexes)
        self.last_error = ""
        self._kind = kind
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._resync = resync
        self._registrations: list[_Registration] = []
        self._version = ""
        self._synced = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._reminded = float("-inf")
        self._reflector = Reflector(
            source, self, options=options, transform=transform, clock=clock, random=random
        )

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    @property
    def last_resource_version(self) -> str:
        return self._version

    @property
    def stale(self) -> bool:
        """Its watch is older than any healthy one; what it holds may be out of date."""
        return self._reflector.stale

    def where(self) -> str:
        """The resource and its scope, for messages."""
        scope = f"namespace {self.namespace}" if self.namespace else "all namespaces"
        return f"{self._kind.resource} in {scope}" if self._kind.namespaced else self._kind.resource

    def sync_failure(self) -> str:
        """Why there is no first list yet."""
        return self.last_error or f"{self.where()}: no answer from the API server yet"

    def add_handler(self, handler: Handler) -> Registration:
        registration = self.add_listener(handler)
        registration.push([_add(StoredObject(entry, self._kind), True) for _, entry in self.store.entries()])
        if self.synced:
            registration.push([registration.mark_synced])
        return registration

    def add_listener(self, handler: Handler) -> _Registration:
        """Like `add_handler`, without the objects that are there already."""
        registration = _Registration(self, handler)
        self._registrations.append(registration)
        return registration

    async def wait_synced(self, timeout: float) -> None:
        try:
            async with deadline(self._clock, timeout):
                await self._synced.wait()
        except TimeoutError:
            raise CacheSyncTimeout(f"not synced after {timeout:g} s: {self.sync_failure()}") from None

    async def wait_version(self, version: int) -> None:
        """Return once the copy has come to `version` or further. Cancel it to stop waiting."""
        if version_number(self._version) >= version:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (version, future)
        self._waiting.append(waiter)
        try:
            await future
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def get(self, key: Key) -> Object | None:
        return self.store.get(key)

    def list(
        self, *, namespace: str | None = None, labels: Selector = None, index: tuple[str, str] | None = None
    ) -> Objects:
        return self.store.list(namespace=namespace, labels=labels, index=index)

    async def run(self) -> NoReturn:
        timer = None

        def resync() -> None:
            nonlocal timer
            deltas = [Delta(key, entry, entry) for key, entry in self.store.entries()]
            self._notify(deltas, False)
            timer = self._clock.call_later(self._resync * (0.9 + 0.2 * self._random()), resync)

        timer = self._clock.call_later(self._resync * (0.9 + 0.2 * self._random()), resync)
        try:
            await self._reflector.run()
        finally:
            timer.cancel()

    # -- the reflector's sink

    def replace(self, entries: dict[Key, Entry], version: str) -> None:
        first = not self.synced
        deltas = self.store.replace(entries)
        self._metrics.listed()
        self._notify(deltas, first)
        if first:
            self._synced.set()
            for registration in self._registrations:
                registration.push([registration.mark_synced])
        self._publish(version)

    def apply(self, events: Sequence[tuple[str, Entry]], version: str) -> None:
        store = self.store
        deltas: list[Delta] = []
        for kind, entry in events:
            delta = store.delete(entry) if kind == "DELETED" else store.put(entry)
            if delta is not None:
                deltas.append(delta)
        if deltas:
            self._notify(deltas, False)
        self._publish(version)

    def malformed(self, error: MalformedObject) -> None:
        self._metrics.malformed()
        _log.error("skipped a malformed object", kind=str(self._kind), error=str(error)[:500])

    def failed(self, error: Exception, pause: float) -> None:
        cause = self._explain(error)
        now = self._clock.monotonic()
        if cause != self.last_error or now >= self._reminded + _REMIND_EVERY:
            self._reminded = now
            _log.warning("watch failed", kind=str(self._kind), error=cause, retry_in=round(pause, 1))
        self.last_error = cause

    def connected(self) -> None:
        if self.last_error:
            _log.info("watch works again", kind=str(self._kind))
        self.last_error = ""

    def ended(self, reason: str) -> None:
        self._metrics.watch_ended(reason)

    # -- inside

    def _explain(self, error: Exception) -> str:
        """The failure in one line, with what to do about the two that people meet."""
        group = self._kind.group or '""'
        if isinstance(error, Forbidden):
            return f"{self.where()}: {error}; grant get, list, watch on {self._kind.plural} in group {group}"
        if isinstance(error, NotFound):
            return (
                f"{self.where()}: {self._kind.api_version} {self._kind.kind} is not installed; apply its CRD"
            )
        return f"{self.where()}: {error}"

    def _notify(self, deltas: Sequence[Delta], initial: bool) -> None:
        self._metrics.objects(len(self.store), self.store.size)
        if not self._registrations or not deltas:
            return
        kind = self._kind
        notifications: list[_Notification] = []
        for delta in deltas:
            old = StoredObject(delta.old, kind) if delta.old is not None else None
            new = StoredObject(delta.new, kind) if delta.new is not None else None
            if new is None:
                assert old is not None
                notifications.append(_delete(old, delta.unknown))
            elif old is None:
                notifications.append(_add(new, initial))
            else:
                notifications.append(_update(old, new))
        for registration in self._registrations:
            registration.push(notifications)

    def _publish(self, version: str) -> None:
        self._version = version
        if not self._waiting:
            return
        reached = version_number(version)
        left = []
        for waiter in self._waiting:
            if waiter[0] <= reached:
                if not waiter[1].done():
                    waiter[1].set_result(None)
            else:
                left.append(waiter)
        self._waiting = left

    def forget(self, registration: _Registration) -> None:
        if registration in self._registrations:
            self._registrations.remove(registration)

    def handler_failed(self, handler: Handler) -> None:
        self._metrics.handler_failed()
        _log.exception("event handler failed", kind=str(self._kind), handler=type(handler).__name__)


class _Registration:
    """A handler's buffer, emptied by event-loop callbacks: no task to own or to leak."""

    def __init__(self, informer: SharedInformer, handler: Handler) -> None:
        self._informer = informer
        self._handler = handler
        self._buffer: deque[_Notification] = deque()
        self._scheduled = False
        self._removed = False
        self._synced = asyncio.Event()

    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self, timeout: float) -> None:
        async with deadline(self._informer._clock, timeout):
            await self._synced.wait()

    def remove(self) -> None:
        self._removed = True
        self._buffer.clear()
        self._informer.forget(self)

    def mark_synced(self, handler: Handler) -> None:
        self._synced.set()

    def push(self, notifications: list[_Notification]) -> None:
        if self._removed or not notifications:
            return
        self._buffer.extend(notifications)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _DRAIN_SECONDS
        buffer, handler = self._buffer, self._handler
        while buffer:
            try:
                buffer.popleft()(handler)
            except Exception:
                self._informer.handler_failed(handler)
            if buffer and loop.time() > end:
                loop.call_soon(self._drain)
                return
        self._scheduled = False


def _add(obj: Object, initial: bool) -> _Notification:
    return lambda handler: handler.on_add(obj, initial)


def _update(old: Object, new: Object) -> _Notification:
    return lambda handler: handler.on_update(old, new)


def _delete(obj: Object, unknown: bool) -> _Notification:
    return lambda handler: handler.on_delete(obj, unknown)


def version_number(version: str) -> int:
    """A resourceVersion as the number it is; -1 for one that is none."""
    return int(version) if version.isdigit() else -1
