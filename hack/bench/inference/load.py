"""A closed-loop client: each connection sends its next request when the answer to the last one is there.

Run as a process of its own (`python -m hack.bench.inference.load`), one thread over epoll, so that what it
costs is small and the same for every server.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

_LAST = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One cell: latencies in seconds, errors are answers that are not 200."""

    requests: int
    errors: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Connection:
    """One socket: its request under way and what has come of the answer."""

    __slots__ = ("buffer", "need", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.need = 0
        self.sent_at = 0.0

    def feed(self, data: bytes) -> int | None:
        """The status once the answer is whole."""
        self.buffer += data
        if not self.need:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = self.buffer[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            if at >= 0:
                self.need = end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])
            elif b"\r\ntransfer-encoding: chunked" in head:
                self.need = _chunked(self.buffer, end + 4)
            else:
                raise ValueError(f"an answer without a length: {self.buffer[:200]!r}")
        if not self.need or len(self.buffer) < self.need:
            return None
        status = int(self.buffer[9:12])
        self.buffer = self.buffer[self.need :]
        self.need = 0
        return status


def _chunked(buffer: bytes, at: int) -> int:
    """Where a chunked body that begins at `at` ends; 0 while it is not whole."""
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return 0
        size = int(buffer[at:line].split(b";", 1)[0], 16)
        at = line + 2 + size + 2
        if len(buffer) < at:
            return 0
        if size == 0:
            return at


def run(address: tuple[str, int], request: bytes, *, connections: int, seconds: float) -> Reading:
    """Loads the server for `seconds` after a tenth of that as warm-up. A connection that the server closes is
    opened again. What is under way at the end is waited for, so that the next one finds the server idle.
    """
    poll = select.epoll()
    by_number: dict[int, Connection] = {}

    def begin(connection: Connection) -> None:
        connection.sent_at = perf_counter()
        connection.socket.sendall(request)

    def connect() -> None:
        connection = Connection(address)
        by_number[connection.socket.fileno()] = connection
        poll.register(connection.socket.fileno(), select.EPOLLIN)
        begin(connection)

    for _ in range(connections):
        connect()
    count_from = perf_counter() + seconds / 10
    end = count_from + seconds
    latencies: list[float] = []
    errors = 0
    under_way = connections
    while (now := perf_counter()) < end or (under_way > 0 and now < end + _LAST):
        for number, _ in poll.poll(1.0):
            connection = by_number[number]
            data = connection.socket.recv(262144)
            now = perf_counter()
            if not data:
                poll.unregister(number)
                del by_number[number]
                connection.socket.close()
                if now < end:
                    connect()
                else:
                    under_way -= 1
                continue
            status = connection.feed(data)
            if status is None:
                continue
            if now >= end:
                under_way -= 1
                continue
            if now >= count_from:
                if status == 200:
                    latencies.append(now - connection.sent_at)
                else:
                    errors += 1
            begin(connection)
    for connection in by_number.values():
        connection.socket.close()
    poll.close()
    latencies.sort()
    return Reading(
        requests=len(latencies),
        errors=errors,
        seconds=seconds,
        p50=_quantile(latencies, 0.5),
        p99=_quantile(latencies, 0.99),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("inf")


def main() -> int:
    parser = argparse.ArgumentParser(prog="load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with one whole HTTP request")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    reading = run(
        ("127.0.0.1", options.port),
        options.request.read_bytes(),
        connections=options.connections,
        seconds=options.seconds,
    )
    print(json.dumps(asdict(reading)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
