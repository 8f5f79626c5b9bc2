"""Kubernetes Events (events.k8s.io/v1): told to people, never in a reconcile's way.

Recording only puts a note on a bounded list; one writer talks to the server. Repeats of one event become one
Event with a series, a flood of similar ones is combined, and an object that floods is rationed.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

import structlog

from ._clock import SYSTEM_CLOCK, Clock, rfc3339
from ._kinds import EVENT
from ._objects import JSON, Key, Kind, Object
from .errors import (
    AlreadyExists,
    ApiError,
    NotFound,
    ServerError,
    TooManyRequests,
    TransportError,
    Unauthorized,
)

_log = structlog.get_logger("controller_runtime.events")

K = TypeVar("K")
V = TypeVar("V")

MAX_NOTE_BYTES = 1024
MAX_REASON = 128
COMBINED = "(combined from similar events): "


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions:
    """`queue`: notes not yet written; more are dropped. `burst`, `refill`: new Events per component, object
    and type at once, and seconds until one more is allowed. `similar`: from this many different messages of
    one reason within `similar_window` seconds on, they are combined. `series_interval`: least seconds
    between two updates of one series, doubling up to `series_interval_max`. `series_end`: a series this long
    without a repeat is over. `remembered`: objects and series kept in mind. `tries`, `retry`: attempts for
    one write and seconds between them.
    """

    queue: int = 1000
    burst: int = 25
    refill: float = 300.0
    similar: int = 10
    similar_window: float = 600.0
    series_interval: float = 10.0
    series_interval_max: float = 1800.0
    series_end: float = 360.0
    remembered: int = 4096
    tries: int = 12
    retry: float = 10.0


class EventApi(Protocol):
    """The two calls the writer makes; `Client` has them. One without a fence: an Event harms nobody."""

    async def create(self, raw: Object | JSON) -> Object: ...
    async def patch(
        self, kind: Kind, key: Key, patch: JSON, *, type: Literal["merge"] = "merge"
    ) -> Object: ...


class EventRecorder(Protocol):
    """What reconcilers are given. Never blocks, never raises."""

    def normal(self, obj: Object, reason: str, message: str, *, action: str = "") -> None:
        """All is well and someone may want to know. `reason` is CamelCase; `action` defaults to it."""
        ...

    def warning(self, obj: Object, reason: str, message: str, *, action: str = "") -> None:
        """Something a person may have to look at."""
        ...


class _Identity(NamedTuple):
    """What makes two events the same one."""

    component: str
    type: str
    reason: str
    action: str
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    note: str


class _Lru(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was not used for longest."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def touch(self, key: K, make: Callable[[], V]) -> V:
        value = self.get(key)
        if value is None:
            value = self[key] = make()
            if len(self) > self._size:
                self.popitem(last=False)
        else:
            self.move_to_end(key)
        return value


@dataclass(slots=True)
class _Bucket:
    tokens: float
    updated: float


@dataclass(slots=True)
class _Similar:
    notes: set[str] = field(default_factory=set)
    last: float = 0.0


@dataclass(slots=True)
class _Series:
    identity: _Identity
    body: JSON
    last: float
    last_wall: float
    count: int = 1
    written: int = 0  # the count on the server; 0 before the first write
    next_write: float = 0.0
    interval: float = 0.0
    queued: bool = False


class EventBroadcaster:
    """Collects the notes of all recorders and writes them with one task, `run`.

    Guarantees: `record` neither blocks nor raises; memory is bounded; the count of a series is exact on the
    server once it has ended or the writer is drained.
    """

    def __init__(
        self,
        api: EventApi,
        *,
        options: EventOptions = EventOptions(),
        clock: Clock = SYSTEM_CLOCK,
        uniform: Callable[[float, float], float] = random.uniform,
        instance: str = "",
        dropped: Callable[[str], None] | None = None,
    ) -> None:
        self._api = api
        self._options = options
        self._clock = clock
        self._uniform = uniform
        self._instance = (instance or socket.gethostname())[:128]
        self._dropped = dropped
        self._buckets: _Lru[tuple[str, ...], _Bucket] = _Lru(options.remembered)
        self._similar: _Lru[tuple[str, ...], _Similar] = _Lru(options.remembered)
        self._series: _Lru[_Identity, _Series] = _Lru(options.remembered)
        self._pending: deque[_Series] = deque()
        self._later: set[_Identity] = set()  # repeats that wait for their series' next write
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sequence = 0
        self._draining = False

    def recorder(self, component: str) -> EventRecorder:
        """A recorder that signs as `component` (reportingController)."""
        return _Recorder(self, component)

    def record(self, component: str, type: str, obj: Object, reason: str, note: str, action: str) -> None:
        try:
            self._record(component, type, obj, reason, note, action)
        except Exception:
            _log.exception("event not recorded", reason=reason)

    def _record(self, component: str, type: str, obj: Object, reason: str, note: str, action: str) -> None:
        now = self._clock.monotonic()
        reason = reason[:MAX_REASON]
        about = (component, type, obj.kind.kind, obj.namespace, obj.name, obj.uid)
        similar = self._similar.touch((*about, reason), _Similar)
        if now - similar.last > self._options.similar_window:
            similar.notes.clear()
        similar.last = now
        if note not in similar.notes and len(similar.notes) >= self._options.similar - 1:
            note_key = COMBINED
            note = COMBINED + note
        else:
            note_key = note
            similar.notes.add(note)
        identity = _Identity(
            component, type, reason, (action or reason)[:MAX_REASON],
            obj.api_version, obj.kind.kind, obj.namespace, obj.name, obj.uid, note_key,
        )  # fmt: skip
        series = self._series.get(identity)
        if series is not None and now - series.last <= self._options.series_end:
            self._series.move_to_end(identity)
            series.count += 1
            series.last, series.last_wall = now, self._clock.wall()
            if not series.queued:
                if now >= series.next_write:
                    self._enqueue(series)
                else:
                    self._later.add(identity)
                    self._wake.set()
            return
        if not self._allow(about, now):
            self._drop("rationed")
            return
        if len(self._pending) >= self._options.queue:
            self._drop("queue full")
            return
        self._series.pop(identity, None)
        fresh = _Series(identity, self._body(identity, obj, note), now, self._clock.wall())
        self._series.touch(identity, lambda: fresh)
        self._enqueue(fresh)

    def _allow(self, about: tuple[str, ...], now: float) -> bool:
        options = self._options
        bucket = self._buckets.touch(about, lambda: _Bucket(float(options.burst), now))
        bucket.tokens = min(float(options.burst), bucket.tokens + (now - bucket.updated) / options.refill)
        bucket.updated = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def _body(self, identity: _Identity, obj: Object, note: str) -> JSON:
        wall = self._clock.wall()
        self._sequence += 1
        suffix = f"{int(wall * 1e6):x}{self._sequence & 0xFFFF:04x}"
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{identity.name[: 252 - len(suffix)]}.{suffix}",
                "namespace": identity.namespace or "default",
            },
            "eventTime": rfc3339(wall, micro=True),
            "type": identity.type,
            "reason": identity.reason,
            "action": identity.action,
            "note": _cut(note, MAX_NOTE_BYTES),
            "reportingController": identity.component,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": identity.api_version,
                "kind": identity.kind,
                "namespace": identity.namespace,
                "name": identity.name,
                "uid": identity.uid,
                "resourceVersion": obj.resource_version,
            },
        }

    def _enqueue(self, series: _Series) -> None:
        series.queued = True
        self._later.discard(series.identity)
        self._pending.append(series)
        self._idle.clear()
        self._wake.set()

    def _drop(self, reason: str) -> None:
        if self._dropped is not None:
            self._dropped(reason)

    async def run(self) -> None:
        """Write until cancelled. Failing writes are retried, then dropped and logged; nothing is raised."""
        while True:
            while self._pending:
                series = self._pending.popleft()
                series.queued = False
                if self._clock.monotonic() < series.next_write and not self._draining:
                    self._later.add(series.identity)  # it was repeated while its last write was under way
                    continue
                try:
                    await self._write(series)
                except Exception:
                    _log.exception("event not written", reason=series.identity.reason)
                    self._drop("failed")
            self._idle.set()
            self._wake.clear()
            timer = None
            if self._later:
                known = [self._series[identity] for identity in self._later if identity in self._series]
                self._later = {series.identity for series in known}
                due = min([series.next_write for series in known], default=0.0)
                timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()
            self._promote(self._clock.monotonic())

    def _promote(self, now: float) -> None:
        for identity in list(self._later):
            series = self._series.get(identity)
            if series is None:
                self._later.discard(identity)
            elif now >= series.next_write and not series.queued:
                self._enqueue(series)

    async def drain(self, timeout: float) -> None:
        """Have everything written, held back repeats included, or give up after `timeout` seconds."""
        self._draining = True
        for identity in list(self._later):
            series = self._series.get(identity)
            if series is not None and not series.queued:
                self._enqueue(series)
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("events left unwritten at shutdown", count=len(self._pending))

    async def _write(self, series: _Series) -> None:
        options = self._options
        for attempt in range(1, options.tries + 1):
            count = series.count
            try:
                await self._send(series, count)
            except (TransportError, ServerError, TooManyRequests, Unauthorized, OSError) as error:
                if attempt == options.tries:
                    _log.warning("event given up", reason=series.identity.reason, error=str(error))
                    self._drop("failed")
                    return
                # All at once after an outage would be the next outage.
                await self._clock.sleep(options.retry * self._uniform(0.5, 1.5))
                continue
            except ApiError as error:
                _log.info("event refused", reason=series.identity.reason, error=str(error))
                self._drop("refused")
                return
            series.written = count
            series.interval = min(
                series.interval * 2 or options.series_interval * (count > 1), options.series_interval_max
            )
            series.next_write = self._clock.monotonic() + series.interval
            return

    async def _send(self, series: _Series, count: int) -> None:
        progress = {"count": count, "lastObservedTime": rfc3339(series.last_wall, micro=True)}
        metadata = series.body["metadata"]
        if series.written:
            try:
                key = Key(metadata["namespace"], metadata["name"])
                await self._api.patch(EVENT, key, {"series": progress})
                return
            except NotFound:  # it expired on the server: start over under a new name
                self._sequence += 1
                metadata["name"] = f"{metadata['name'].rpartition('.')[0]}.{self._sequence:x}r"
        body = {**series.body, "series": progress} if count > 1 else series.body
        try:
            await self._api.create(body)
        except AlreadyExists:
            return  # an earlier try got through and its answer did not


class _Recorder:
    __slots__ = ("_broadcaster", "_component")

    def __init__(self, broadcaster: EventBroadcaster, component: str) -> None:
        self._broadcaster = broadcaster
        self._component = component

    def normal(self, obj: Object, reason: str, message: str, *, action: str = "") -> None:
        self._broadcaster.record(self._component, "Normal", obj, reason, message, action)

    def warning(self, obj: Object, reason: str, message: str, *, action: str = "") -> None:
        self._broadcaster.record(self._component, "Warning", obj, reason, message, action)


def _cut(text: str, limit: int) -> str:
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: limit - 3].decode(errors="ignore") + "..."
