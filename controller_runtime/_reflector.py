"""Keeping a copy of one collection current: list once, then watch from there, for ever."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable, Mapping
from typing import NoReturn

import orjson

from ._backoff import Backoff
from ._clock import SYSTEM_CLOCK, Clock, Timer
from ._lines import LineSplitter
from ._objects import Key
from ._reflector_api import ListWatch, ReflectorOptions, Sink, State
from ._transport import Stream, is_expired
from ._wire import (
    MAX_LINE,
    Entry,
    ListPage,
    MalformedObject,
    Transform,
    bookmark_from,
    control_event,
    decode_page,
    entry_from,
    event_from,
)
from .errors import (
    ApiError,
    NotFound,
    TooManyRequests,
    TransportError,
    error_from_status,
    too_large_resource_version,
)

_YIELD_EVERY = 500
_STALE_GRACE = 60.0


class Reflector:
    """Feeds a sink from one collection; `run` never returns by itself and survives every answer of the
    server.

    - The first list accepts any age ("0"), a later one is at least as new as what was seen; when the server
      cannot serve that version (410, too large) it lists the newest at once.
    - A watch resumes from the last version seen, bookmarks included. Only what makes that version useless
    leads
      to a list: 410, an error in the stream, an unexpected answer. A lost or refused connection, 429, or a
      watch that ends at once is tried again from the same version.
    - Pauses grow from 0.8 s to 30-60 s, for this reflector alone.
    """

    def __init__(
        self,
        source: ListWatch,
        sink: Sink,
        *,
        options: ReflectorOptions | None = None,
        transform: Transform | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.state = State.EMPTY
        self.version = ""
        self._source = source
        self._sink = sink
        self._options = options or ReflectorOptions()
        self._transform = transform
        self._clock = clock
        self._random = random
        self._backoff = Backoff(clock=clock, random=random)
        self._unavailable = False
        self._paginated = False
        self._bookmarks = False
        self._watch_list = self._options.watch_list
        self._touched = clock.monotonic()
        self._allowance = self._options.watch_max + self._options.grace

    @property
    def stale(self) -> bool:
        """Nothing was heard from the server for longer than any healthy watch can be silent."""
        return self._clock.monotonic() > self._touched + self._allowance + _STALE_GRACE

    async def run(self) -> NoReturn:
        """List and watch until cancelled."""
        while True:
            try:
                if self.state is State.EMPTY and not self._watch_list:
                    await self._list()
                failure = await self._watch()
                if failure is None:
                    continue
            except (ApiError, TransportError, MalformedObject) as error:
                failure = error
                self._demote(error)
            pause = self._pause(failure)
            self._sink.failed(failure, pause)
            await self._clock.sleep(pause)

    def _demote(self, error: Exception) -> None:
        """Choose where to start again after `error`."""
        if self.state is State.STREAMING_LIST and not isinstance(error, TransportError | TooManyRequests):
            if is_expired_error(error):
                self.version = ""
            else:
                self._watch_list = False
        keep = isinstance(error, TransportError | TooManyRequests)
        self.state = State.LISTED if keep and self.state is State.WATCHING else State.EMPTY

    def _pause(self, error: Exception) -> float:
        if isinstance(error, NotFound):
            return self._options.missing_kind_retry
        pause = self._backoff.next()
        asked = error.retry_after if isinstance(error, ApiError) else None
        return pause if asked is None else max(pause, asked)

    # -- list

    async def _list(self) -> None:
        self.state = State.LISTING
        version = "" if self._unavailable else self.version or "0"
        try:
            try:
                entries, listed = await self._pages(version)
            except ApiError as error:
                if version == "" or not (is_expired(error) or too_large_resource_version(error)):
                    raise
                self._unavailable = True
                entries, listed = await self._pages("")
        except BaseException:
            self.state = State.EMPTY
            raise
        self._unavailable = False
        self._touch()
        self._publish_list(entries, listed)

    def _publish_list(self, entries: dict[Key, Entry], version: str) -> None:
        self.version = version
        self.state = State.LISTED
        self._sink.replace(entries, version)
        self._sink.connected()

    async def _pages(self, version: str) -> tuple[dict[Key, Entry], str]:
        """Every item and the version of the list (never of an item), pages released as they are read."""
        entries: dict[Key, Entry] = {}
        parameters = {"resourceVersion": version}
        if self._paginated or version in ("", "0"):
            parameters["limit"] = str(self._options.page_size)
        page = await self._page(parameters)
        listed = page.metadata.resourceVersion
        await self._take(page, entries)
        if page.metadata.continue_ and version == "0":
            self._paginated = True
        while page.metadata.continue_:
            following = {"limit": str(self._options.page_size), "continue": page.metadata.continue_}
            try:
                page = await self._page(following)
            except ApiError as error:
                if not is_expired(error):
                    raise
                page = await self._page({"resourceVersion": version})  # the snapshot is gone: all in one go
                listed = page.metadata.resourceVersion
                entries.clear()
            await self._take(page, entries)
        return entries, listed

    async def _page(self, parameters: Mapping[str, str]) -> ListPage:
        body = await self._source.list(parameters)
        try:
            return decode_page(body)
        except ValueError as error:  # both of msgspec's errors are ValueErrors
            raise TransportError(f"list answered no list: {error}") from error

    async def _take(self, page: ListPage, entries: dict[Key, Entry]) -> None:
        for number, raw in enumerate(page.items or (), 1):
            try:
                entry = entry_from(raw, self._transform)
            except MalformedObject as error:
                self._sink.malformed(error)
                continue
            entries[Key(entry.header.namespace, entry.header.name)] = entry
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        page.items = None

    # -- watch

    async def _watch(self) -> Exception | None:
        """One watch. None after a normal end; an exception for one that was too short to be healthy."""
        options = self._options
        seconds = int(options.watch_min + self._random() * (options.watch_max - options.watch_min))
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.version,
            "timeoutSeconds": str(seconds),
        }
        initial: dict[Key, Entry] | None = None
        if self.state is State.EMPTY:
            initial = {}
            parameters |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            self.state = State.STREAMING_LIST
        else:
            self.state = State.WATCHING
        limit = options.watch_list_deadline if initial is not None else seconds + options.grace
        self._allowance = options.idle if self._bookmarks else seconds + options.grace
        began = self._clock.monotonic()
        async with self._source.watch(parameters) as stream:
            self._touch()
            if initial is None:
                self._sink.connected()
            guard = _Guard(self, stream, self._clock, end=began + limit, idle=options.idle)
            try:
                reason = await self._follow(stream, guard, initial, began + seconds + options.grace)
            finally:
                guard.cancel()
        if self.state is State.STREAMING_LIST:
            self._watch_list = self._watch_list and reason == "cut"
            raise TransportError(f"the streamed list ended before it was complete ({reason})")
        if guard.events == 0 and self._clock.monotonic() - began < options.short:
            self._sink.ended("short")
            return TransportError("the watch ended at once, without an event")
        self._sink.ended(reason)
        return None

    async def _follow(
        self, stream: Stream, guard: _Guard, initial: dict[Key, Entry] | None, end: float
    ) -> str:
        splitter = LineSplitter(MAX_LINE)
        while True:
            try:
                chunk = await stream.read()
            except TransportError:
                return guard.reason or "cut"
            if not chunk:
                return guard.reason or "eof"
            self._touch()
            lines = splitter.feed(chunk)
            if not lines:
                continue
            guard.events += len(lines)
            try:
                if initial is not None:
                    lines = self._stream_list(lines, initial)
                    if self.state is State.STREAMING_LIST:
                        continue
                    initial = None
                    self.state = State.WATCHING
                    guard.extend(end)
                self._consume(lines)
            except ApiError as error:
                self._sink.ended("expired" if is_expired(error) else "error")
                raise

    def _stream_list(self, lines: list[bytes], initial: dict[Key, Entry]) -> list[bytes]:
        """Collect initial events; after the bookmark that ends them, publish and return the lines left
        over.
        """
        for position, line in enumerate(lines):
            event = self._event(line)
            if isinstance(event, str):
                if event:
                    self._publish_list(initial, event)
                    return lines[position + 1 :]
            elif event is not None:
                entry = event[1]
                key = Key(entry.header.namespace, entry.header.name)
                if event[0] == "DELETED":
                    initial.pop(key, None)
                else:
                    initial[key] = entry
        return []

    def _consume(self, lines: list[bytes]) -> None:
        """Apply what came in one read as one batch, also what precedes an error."""
        batch: list[tuple[str, Entry]] = []
        version = self.version
        try:
            for line in lines:
                event = self._event(line)
                if isinstance(event, str):
                    version = event or version
                elif event is not None:
                    version = event[1].header.resourceVersion
                    batch.append(event)
        finally:
            self.version = version
            if batch or lines:
                self._sink.apply(batch, version)

    def _event(self, line: bytes) -> tuple[str, Entry] | str | None:
        """An object event; or a bookmark's version ("" while a streamed list is not complete); or nothing."""
        try:
            return event_from(line, self._transform)
        except MalformedObject as error:
            malformed = error
        try:
            kind, data = control_event(line)
            if kind == "BOOKMARK":
                self._bookmarks = True
                version, complete = bookmark_from(data)
                return version if complete or self.state is not State.STREAMING_LIST else ""
            if kind == "ERROR":
                raise error_from_status(orjson.loads(data))
        except (MalformedObject, ValueError) as error:
            malformed = MalformedObject(str(error))
        self._sink.malformed(malformed)
        return None

    def _touch(self) -> None:
        self._touched = self._clock.monotonic()


class _Guard:
    """Ends a watch that is over its time or silent for too long. One timer, moved as it fires, not per
    read.
    """

    def __init__(self, owner: Reflector, stream: Stream, clock: Clock, *, end: float, idle: float) -> None:
        self.reason = ""
        self.events = 0
        self._owner = owner
        self._stream = stream
        self._clock = clock
        self._end = end
        self._idle = idle
        self._timer: Timer | None = None
        self._arm()

    def extend(self, end: float) -> None:
        self._end = end
        self._arm()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self.cancel()
        due = min(self._end, self._owner._touched + self._idle) if self._owner._bookmarks else self._end
        check = min(due, self._clock.monotonic() + self._idle)
        self._timer = self._clock.call_later(max(check - self._clock.monotonic(), 0.0), self._fire)

    def _fire(self) -> None:
        now = self._clock.monotonic()
        if now >= self._end:
            self.reason = "deadline"
        elif self._owner._bookmarks and now >= self._owner._touched + self._idle:
            self.reason = "idle"
        else:
            self._arm()
            return
        self._stream.abort()


def is_expired_error(error: Exception) -> bool:
    return isinstance(error, ApiError) and is_expired(error)
