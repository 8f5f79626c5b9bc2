"""What is noted of a request that is traced while it goes through the server: when it was where."""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns


class Mark:
    """Nanoseconds since the epoch; 0 is a point that the request has not passed.

    arrived: its first byte; read: its last; queued: admitted, its rows written; sent: given to a worker;
    done: the worker's answer came. A request that runs again overwrites its last run. `span` belongs to
    whoever made the mark.
    """

    __slots__ = ("arrived", "done", "peers", "queued", "read", "requests", "rows", "sent", "span", "times")

    def __init__(self, span: object, arrived: int, read: int) -> None:
        self.span = span
        self.arrived = arrived
        self.read = read
        self.queued = 0
        self.sent = 0
        self.done = 0
        self.rows = 0
        self.requests = 0
        self.times: tuple[int, int, int] = (0, 0, 0)
        self.peers: Sequence[Mark] = ()

    def received(self) -> None:
        self.read = time_ns()

    def admitted(self) -> None:
        self.queued = time_ns()

    def dispatched(self, rows: int, requests: int, peers: Sequence[Mark]) -> None:
        """In a batch of `rows` rows of `requests` requests; `peers` are the traced ones, this one too."""
        self.sent = time_ns()
        self.done = 0
        self.rows = rows
        self.requests = requests
        self.peers = peers

    def ran(self, times: tuple[int, int, int]) -> None:
        """`times` is the worker's own view: copy in, run and copy out, in nanoseconds."""
        self.done = time_ns()
        self.times = times
