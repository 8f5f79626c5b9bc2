"""What a reflector stands between: a collection on the server, and a sink. And how patient it is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ._objects import Key
from ._transport import Stream
from ._wire import Entry, MalformedObject


class State(enum.Enum):
    """Where a reflector stands. Every failure leads back to EMPTY (list again) or LISTED (watch again)."""

    EMPTY = "empty"
    LISTING = "listing"
    STREAMING_LIST = "streaming list"
    LISTED = "listed"
    WATCHING = "watching"


class ListWatch(Protocol):
    """One collection on the server, selectors included."""

    async def list(self, parameters: Mapping[str, str]) -> bytes:
        """One page."""
        ...

    def watch(self, parameters: Mapping[str, str]) -> AbstractAsyncContextManager[Stream]:
        """The open stream; raises like a request while opening."""
        ...


class Sink(Protocol):
    """Where the reflector delivers. Synchronous: nothing else runs between two parts of one batch."""

    def replace(self, entries: dict[Key, Entry], version: str) -> None:
        """The collection is exactly this, at `version`."""
        ...

    def apply(self, events: list[tuple[str, Entry]], version: str) -> None:
        """ADDED, MODIFIED and DELETED in order; `version` is how far the copy now is (also with no
        events).
        """
        ...

    def malformed(self, error: MalformedObject) -> None:
        """Something was skipped."""
        ...

    def failed(self, error: Exception, pause: float) -> None:
        """A list or watch failed and is tried again after `pause` seconds."""
        ...

    def connected(self) -> None:
        """A list succeeded or a watch is open."""
        ...

    def ended(self, reason: str) -> None:
        """A watch ended; the words are those of `WatchMetrics.watch_ended`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectorOptions:
    """Times are seconds.

    `page_size`: items a list page. `watch_min`, `watch_max`: the server ends a watch after a random time
    between the two. `grace`: how much later we do, if it did not. `idle`: without any byte for this long,
    once the server has shown that it sends bookmarks (about one a minute), the link counts as dead. `short`:
    a watch that ended sooner without an event counts as a failure. `missing_kind_retry`: pause while the kind
    is not installed. `watch_list`: ask for the initial objects as a stream (Kubernetes 1.32 and later), with
    `watch_list_deadline` until it must be complete; a server that cannot is listed instead.
    """

    page_size: int = 500
    list_timeout: float = 60.0
    watch_min: float = 300.0
    watch_max: float = 600.0
    grace: float = 5.0
    idle: float = 150.0
    short: float = 1.0
    missing_kind_retry: float = 10.0
    watch_list: bool = False
    watch_list_deadline: float = 60.0
