"""The arithmetic of the inference benchmark, and its client against a server of one answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import numpy
import pytest

from hack.bench.inference import bars, load, peers, reloads, steady
from hack.bench.inference.load import Reading
from hack.bench.inference.reloads import Phases
from hack.bench.inference.steady import Client, Sample


def reading(*, requests: int, p50: float = 0.001, errors: int = 0) -> Reading:
    return Reading(requests=requests, errors=errors, seconds=5.0, p50=p50, p99=2 * p50)


def test_medians_are_judged_against_the_peers_best_setting() -> None:
    ours = {
        1: [reading(requests=1, p50=p) for p in (0.001, 0.002, 0.9)],
        32: [reading(requests=n) for n in (1, 130, 999)],
    }
    cells = {
        "mosec, wait 1 ms": {1: [reading(requests=1, p50=0.030)], 32: [reading(requests=100)]},
        "mosec, wait 10 ms": {1: [reading(requests=1, p50=0.008)], 32: [reading(requests=10)]},
        "litserve": {32: [reading(requests=13)]},
    }
    p50, rate, other, errors = bars.lenet(ours, cells)
    assert (p50.value, p50.holds) == (pytest.approx(0.25), True)
    assert (rate.value, rate.holds) == (pytest.approx(1.3), True)
    assert (other.value, other.holds) == (pytest.approx(10.0), True)
    assert "litserve" in other.name
    assert errors.holds
    cells["mosec, wait 10 ms"][32] = [reading(requests=120)]
    assert not bars.lenet(ours, cells)[1].holds
    ours[1].append(reading(requests=1, errors=1))
    assert not bars.lenet(ours, cells)[-1].holds
    # A peer that was not measured has no bar.
    assert [bar.name for bar in bars.lenet(ours, {})] == ["LeNet: our answers that were not 200"]


def test_recognition_against_the_bare_predictor_and_the_other_engine() -> None:
    ours = {8: [reading(requests=n) for n in (97, 98, 99)]}
    bare, engine, errors = bars.recognition(ours, ours, [19.0, 20.0, 21.0], {8: [reading(requests=49)]})
    assert (bare.value, bare.holds) == (pytest.approx(0.98), True)
    assert (engine.value, engine.holds) == (pytest.approx(2.0), True)
    assert errors.holds
    assert not bars.recognition(ours, ours, [21.0], {8: [reading(requests=50)]})[0].holds
    assert not bars.recognition(ours, ours, [21.0], {8: [reading(requests=50)]})[1].holds


def test_requests_are_sorted_by_when_they_were_due() -> None:
    phases = Phases()
    samples = [Sample(due=at / 10, latency=0.01 if at < 50 else 0.02, status=200) for at in range(100)]
    phases.add([*samples, Sample(due=9.0, latency=1.0, status=0)], 5.0, 8.0)
    assert (len(phases.before), len(phases.during), phases.lost) == (50, 30, 1)
    ratio, lost = bars.reloads("m", phases)
    assert (ratio.value, ratio.holds) == (pytest.approx(2.0), True)
    assert not lost.holds
    said = reloads.summary(phases, rate=10.04)
    assert said["seconds"] == [3.0]
    assert said["during"] == {"requests": 30, "p50": 20.0, "p90": 20.0, "p99": 20.0, "max": 20.0}


def test_the_last_values_of_an_answer() -> None:
    row = numpy.arange(10, dtype="float32")
    for body in (row.tobytes(), b'{"id":"1"}' + row.tobytes(), b"[[0,1,2,3,4,5,6,7,8,9]]"):
        assert peers.last_values(body).tolist() == row.tolist()


def test_a_stall_is_charged_to_all_that_had_to_wait() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    stall = 0.3

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(100)
            threading.Event().wait(stall)  # the first one only
            connection.sendall(answer)
            while connection.recv(100):
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        client = Client(listening.getsockname(), b"a request", connections=1)
        steady.run(client, rate=50.0, seconds=0.5, stopped=lambda: False)
    thread.join(60.0)
    assert not thread.is_alive()
    assert [sample.status for sample in client.found] == [200] * 25
    # The ones that were due while the first was waited for have waited too.
    first, second, *_ = (sample.latency for sample in client.found)
    assert first >= stall
    assert second >= stall - 0.1


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
