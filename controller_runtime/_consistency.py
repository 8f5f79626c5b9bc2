"""Reading your own writes: a key is not finished before the cache has seen what its reconcile wrote.

Replies of writes are never put into the cache; a late one would roll it back. Instead the worker waits, for
this one key, until the watch has brought the written version (KEP-5647 does the same in Kubernetes itself).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from ._cache import Cache
from ._clock import SYSTEM_CLOCK, Clock, deadline
from ._informer import SharedInformer, version_number
from ._informer_api import Registration
from ._objects import Key, Kind, Object


@dataclass(frozen=True, slots=True)
class Write:
    """One write that succeeded. `version` -1: the object is gone, `uid` says which one."""

    kind: Kind
    key: Key
    uid: str
    version: int
    labels: Mapping[str, str] | None


class WriteLog:
    """What one reconcile, and the tasks it started, wrote; the last write per object counts."""

    __slots__ = ("_writes",)

    def __init__(self) -> None:
        self._writes: dict[tuple[Kind, Key], Write] = {}

    def __len__(self) -> int:
        return len(self._writes)

    def wrote(self, kind: Kind, obj: Object) -> None:
        """Note the reply of a create, update, patch or apply. One without a numeric version is ignored."""
        version = version_number(obj.resource_version)
        if version >= 0:
            key = obj.key
            self._writes[kind, key] = Write(kind, key, obj.uid, version, obj.labels)

    def deleted(self, kind: Kind, key: Key, uid: str) -> None:
        """Note a deletion that took effect at once; with uid "" any later object under the name will do."""
        self._writes[kind, key] = Write(kind, key, uid, -1, None)

    def __iter__(self) -> Iterator[Write]:
        return iter(self._writes.values())


_current: ContextVar[WriteLog | None] = ContextVar("controller_runtime_writes", default=None)


def current_log() -> WriteLog | None:
    """The log that the running reconcile's writes belong to; None outside of any."""
    return _current.get()


class CacheBarrier:
    """The `WriteBarrier` of a client and a cache: what was written since `begin` must come back by the watch.

    Waits at most `timeout` seconds; then the key goes on with what the cache has, as events will come anyway.
    """

    def __init__(self, cache: Cache, *, timeout: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._cache = cache
        self._timeout = timeout
        self._clock = clock

    def begin(self) -> None:
        """Collect the writes of this task, and of the tasks it starts, from here on."""
        _current.set(WriteLog())

    def pending(self) -> Awaitable[bool] | None:
        """None when the cache has seen everything; else an awaitable that says whether it has, in time."""
        log = _current.get()
        if not log:
            return None
        behind = [
            (informer, write)
            for write in log
            for informer in self._cache.covering(write.kind, write.key, write.labels)
            if not _has_seen(informer, write)
        ]
        return self._settle(behind) if behind else None

    async def _settle(self, behind: Sequence[tuple[SharedInformer, Write]]) -> bool:
        try:
            async with deadline(self._clock, self._timeout):
                for informer, write in behind:
                    await _until_seen(informer, write)
        except TimeoutError:
            return False
        return True


def _has_seen(informer: SharedInformer, write: Write) -> bool:
    held = informer.store.header_version(write.key)
    if write.version < 0:
        return held is None or (bool(write.uid) and held[0] != write.uid)
    if version_number(informer.last_resource_version) >= write.version:
        return True
    return held is not None and version_number(held[1]) >= write.version


async def _until_seen(informer: SharedInformer, write: Write) -> None:
    if write.version >= 0:
        await informer.wait_version(write.version)
        return
    gone = _Gone(informer, write)
    try:
        await gone.wait()
    finally:
        gone.remove()


class _Gone:
    """A passing handler that waits for one deletion."""

    def __init__(self, informer: SharedInformer, write: Write) -> None:
        self._informer = informer
        self._write = write
        self._event = asyncio.Event()
        self._registration: Registration = informer.add_listener(self)

    async def wait(self) -> None:
        if not _has_seen(self._informer, self._write):
            await self._event.wait()

    def remove(self) -> None:
        self._registration.remove()

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        self._check(obj.key)

    def on_update(self, old: Object, new: Object) -> None:
        self._check(new.key)

    def on_delete(self, obj: Object, state_unknown: bool) -> None:
        self._check(obj.key)

    def _check(self, key: Key) -> None:
        if key == self._write.key and _has_seen(self._informer, self._write):
            self._event.set()
