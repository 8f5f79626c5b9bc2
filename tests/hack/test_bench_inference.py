"""The arithmetic of the inference benchmark, and its client against a server of one answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from hack.bench.inference import bars, load
from hack.bench.inference.load import Reading


def reading(*, requests: int, p50: float = 0.001, errors: int = 0) -> Reading:
    return Reading(requests=requests, errors=errors, seconds=5.0, p50=p50, p99=2 * p50)


def test_medians_are_judged_against_the_peers_best_setting() -> None:
    ours = {
        1: [reading(requests=1, p50=p) for p in (0.001, 0.002, 0.9)],
        32: [reading(requests=n) for n in (1, 130, 999)],
    }
    peers = {
        "slow": {1: [reading(requests=1, p50=0.030)], 32: [reading(requests=100)]},
        "quick": {1: [reading(requests=1, p50=0.008)], 32: [reading(requests=10)]},
    }
    p50, rate, errors = bars.against_peer(ours, peers)
    assert p50.value == pytest.approx(0.25)
    assert p50.holds
    assert rate.value == pytest.approx(1.3)
    assert rate.holds
    assert errors.holds
    peers["quick"][32] = [reading(requests=120)]
    assert not bars.against_peer(ours, peers)[1].holds
    ours[1].append(reading(requests=1, errors=1))
    assert not bars.against_peer(ours, peers)[2].holds


def test_against_the_bare_predictor() -> None:
    ours = [reading(requests=n) for n in (97, 98, 99)]
    bar = bars.against_bare(ours, [19.0, 20.0, 21.0])
    assert bar.value == pytest.approx(0.98)
    assert bar.holds
    assert str(bar).endswith("holds")
    assert str(bars.against_bare(ours, [21.0])).endswith("MISSES")


@pytest.mark.parametrize(("status", "counted"), [(b"200 OK", "requests"), (b"503 No", "errors")])
def test_the_client_counts_answers_that_come_in_pieces(status: bytes, counted: str) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nX-Content-Length: 999\r\ncontent-length: 5\r\n\r\nhello"

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):  # the client leaves when its time is over
            while connection.recv(100):
                connection.sendall(answer[:20])
                connection.sendall(answer[20:])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        found = load.run(listening.getsockname(), b"a request", connections=1, seconds=0.1)
    thread.join(60.0)
    assert not thread.is_alive()
    other = {"requests": found.errors, "errors": found.requests}[counted]
    assert other == 0
    assert {"requests": found.requests, "errors": found.errors}[counted] > 0
