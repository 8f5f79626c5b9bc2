"""The short way through HTTP: what it keeps in order, and what it leaves to aiohttp."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runtime.fast import _read
from tests.runtime.conftest import Running, connect, serving, wait_for


@pytest.fixture(scope="module")
def server(nets: Mapping[str, Path]) -> Iterator[Running]:
    arguments = ("--engine", "native", "--body-timeout", "0.5", "--max-batch-size", "4")
    with serving("--model", f"lin={nets['linear']}", *arguments) as running:
        yield running


def post(number: float, *headers: str, path: str = "/predict") -> bytes:
    body = json.dumps({"inputs": {"x": [[number, 0, 0]]}}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Answers:
    """The answers on one connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def next(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {k.lower(): v for k, v in http.client.parse_headers(self._file).items()}
        return status, headers, self._file.read(int(headers["content-length"]))

    def value(self) -> float:
        status, _, body = self.next()
        assert status == 200, body
        (rows,) = json.loads(body)["outputs"].values()
        return float(rows[0][0])


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(b"".join(post(n) for n in range(50)))
        answers = Answers(connection)
        assert [answers.value() for _ in range(50)] == [2.0 * n + 1 for n in range(50)]


def test_a_buffer_full_of_refused_requests_is_worked_off(server: Running) -> None:
    bad = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with connect(server) as connection:
        answers = Answers(connection)
        connection.sendall(bad * 3000 + post(1))
        assert {answers.next()[0] for _ in range(3000)} == {400}
        assert answers.value() == 3.0


def test_bytes_one_by_one(server: Running) -> None:
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = Answers(connection)
        for byte in post(4):
            connection.sendall(bytes([byte]))
        assert answers.value() == 9.0


@pytest.mark.parametrize(
    "other",
    [
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        post(1, path="/predict?x=1"),
        post(1, "Expect: nothing-known"),
        post(1, path="/v2/models/none/infer"),
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    ],
)
def test_what_is_unusual_is_answered_on_the_same_connection_and_what_follows_too(
    other: bytes, server: Running
) -> None:
    with connect(server) as connection:
        answers = Answers(connection)
        connection.sendall(post(1) + other)
        assert answers.value() == 3.0
        status, _, _ = answers.next()
        assert status in (200, 400, 404, 417)
        if status != 417:
            connection.sendall(post(2))
            assert answers.value() == 5.0


def test_a_body_that_stops_is_told_so(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(post(1)[:-3])
        assert Answers(connection).next()[0] == 408


def test_a_large_body(server: Running) -> None:
    """Of many rows, which run in parts, and with much space between them."""
    text = json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0]] * 10_000}})
    body = text.replace(" ", " " * 50).encode()
    assert len(body) > 1 << 20
    got = server.post("/predict", body)
    assert got.status == 200
    (values,) = got.json["outputs"].values()  # type: ignore[attr-defined]
    assert values == [[13.0, 13.0]] * 10_000


def test_a_client_that_leaves_is_counted_and_hurts_nobody(server: Running) -> None:
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(post(1))
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 0.0)
    assert server.post("/predict", {"inputs": {"x": [[1, 2, 3]]}}).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Content-Length: +3"],
        ["Content-Length: 3, 3"],
        ["Content-Length: -1"],
        ["Content-Length: 0x3"],
        ["Content-Length: 3 3"],
        ["Content-Length : 3"],
        ["Content-Length: 9999999999999"],
        [],
        ["Content-Length: 3", "Expect: 100-continue"],
        ["Content-Length: 3", "Content-Encoding: gzip"],
        ["Content-Length: 3", "Connection: close"],
        ["Content-Length: 3", "Connection: upgrade", "Upgrade: h2c"],
        ["Content-Length: 3", "X: a", " folded"],
        ["Content-Length: 3", "X: a\x00b"],
        ["Content-Length: 3", "no colon"],
        ["Content-Length: 3", "Content-Type: a", "Content-Type: b"],
    ],
)
def test_headers_that_are_not_of_the_usual_kind_are_left_alone(lines: list[str]) -> None:
    text = "\r\n".join(["POST /predict HTTP/1.1", "Host: x", *lines, "", ""])
    assert _read(text.encode("latin-1")) is None


def test_the_usual_kind() -> None:
    head = _read(b"POST /predict HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\nConnection: Keep-Alive\r\n\r\n")
    assert head is not None
    assert head.headers == {"Content-Length": "3"}
