"""An open-loop client: requests leave at a fixed rate whatever the answers do.

Latency counts from the moment a request was due, so a server that stalls is charged for all that had to wait
(no coordinated omission). A process of its own with one thread; each request takes a free connection.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from hack.bench.inference.load import Connection

_RECORD = struct.Struct("<ddd")
_LAST = 10.0  # seconds that answers are waited for once the last request is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`due` is on the machine's monotonic clock, `latency` in seconds; status 0 is no answer."""

    due: float
    latency: float
    status: int


def read(file: Path) -> list[Sample]:
    """What a client process wrote, in the order of the answers."""
    return [
        Sample(due=due, latency=latency, status=int(status))
        for due, latency, status in _RECORD.iter_unpack(file.read_bytes())
    ]


class Client:
    """`connections` kept ones to `address`. One that the server closes is opened again; a request that was
    under way on it has status 0.
    """

    def __init__(self, address: tuple[str, int], request: bytes, *, connections: int) -> None:
        self.found: list[Sample] = []
        self.busy = 0
        self._address = address
        self._request = request
        self._poll = select.epoll()
        self._idle: deque[Connection] = deque()
        self._by_number: dict[int, Connection] = {}
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        connection = Connection(self._address)
        self._by_number[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    @property
    def free(self) -> bool:
        return bool(self._idle)

    def send(self, due: float) -> None:
        connection = self._idle.popleft()
        connection.sent_at = due
        self.busy += 1
        try:
            connection.socket.sendall(self._request)
        except OSError:
            self._lost(connection)

    def receive(self, timeout: float) -> None:
        """Takes what has come within `timeout` seconds. epoll's own limit has milliseconds only, which is
        longer than a request to a small model takes.
        """
        select.select([self._poll.fileno()], [], [], timeout)
        for number, _ in self._poll.poll(0):
            connection = self._by_number[number]
            try:
                data = connection.socket.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                self._lost(connection)
                continue
            status = connection.feed(data)
            if status is not None:
                self._answered(connection, status)
                self._idle.append(connection)

    def _answered(self, connection: Connection, status: int) -> None:
        due, connection.sent_at = connection.sent_at, 0.0
        self.busy -= 1
        self.found.append(Sample(due=due, latency=monotonic() - due, status=status))

    def _lost(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        self._poll.unregister(number)
        del self._by_number[number]
        connection.socket.close()
        if connection.sent_at:
            self._answered(connection, 0)
        else:
            self._idle.remove(connection)
        self._connect()

    def close(self) -> None:
        """What is still under way has no answer."""
        for connection in self._by_number.values():
            if connection.sent_at:
                self._answered(connection, 0)
            connection.socket.close()
        self._poll.close()


def run(client: Client, *, rate: float, seconds: float, stopped: Callable[[], bool]) -> None:
    """Sends `rate` requests a second, evenly; one that finds no free connection waits for it. Ends when it
    is `stopped`, or after `seconds`, and waits 10 s for answers then.
    """
    start = monotonic()
    count, total = 0, int(rate * seconds)
    end = start + seconds + _LAST
    while (count < total or client.busy) and (now := monotonic()) < end:
        if count < total and stopped():
            total, end = count, now + _LAST
        while count < total and client.free and (due := start + count / rate) <= now:
            client.send(due)
            count += 1
        next_due = start + count / rate if count < total and client.free else now + 0.2
        client.receive(max(0.0, min(0.2, next_due - monotonic())))
    client.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="steady")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with one whole HTTP request")
    parser.add_argument("--out", type=Path, required=True, help="file for the samples")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args(arguments)
    with suppress(OSError):
        os.nice(-10)  # the client's own waiting for a core is not the server's latency
    client = Client(
        ("127.0.0.1", options.port), options.request.read_bytes(), connections=options.connections
    )
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    run(client, rate=options.rate, seconds=options.seconds, stopped=lambda: bool(told))
    options.out.write_bytes(b"".join(_RECORD.pack(s.due, s.latency, s.status) for s in client.found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
