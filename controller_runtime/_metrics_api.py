"""What this library reports about its traffic. `_metrics` implements it for Prometheus; the default is
silence.
"""

from __future__ import annotations

from typing import Protocol

from ._objects import Kind


class WatchMetrics(Protocol):
    """Counters of one informer, bound once when it is made. Called in the event loop; must not block."""

    def listed(self) -> None:
        """A full list was taken (the first one included)."""
        ...

    def watch_ended(self, reason: str) -> None:
        """A watch stream ended: "eof", "cut", "idle", "deadline", "expired", "refused", "short", "error"."""
        ...

    def malformed(self) -> None:
        """An object without a usable name or resourceVersion, or not JSON, was skipped."""
        ...

    def handler_failed(self) -> None:
        """An event handler raised; the event was delivered to the others."""
        ...

    def objects(self, count: int, size: int) -> None:
        """The store holds `count` objects in `size` bytes. Called after every batch."""
        ...


class Metrics(Protocol):
    """Receives the client's and the caches' figures. Implementations bind label children once."""

    def request(self, code: str, method: str, host: str, seconds: float) -> None:
        """One HTTP exchange ended; `code` is the status, or "<error>" when no answer came. Watches excluded
        from `seconds` semantics: for them it is the time to the response headers."""
        ...

    def watch(self, kind: Kind) -> WatchMetrics:
        """The counters for an informer of `kind`; asked once per informer."""
        ...


class _NoWatchMetrics:
    __slots__ = ()

    def listed(self) -> None: ...

    def watch_ended(self, reason: str) -> None: ...

    def malformed(self) -> None: ...

    def handler_failed(self) -> None: ...

    def objects(self, count: int, size: int) -> None: ...


class NoMetrics:
    """Reports nothing."""

    __slots__ = ()

    def request(self, code: str, method: str, host: str, seconds: float) -> None: ...

    def watch(self, kind: Kind) -> WatchMetrics:
        return _NoWatchMetrics()
