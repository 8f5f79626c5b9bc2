"""Retries, deadlines, credentials and streams against a small local server."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from controller_runtime import (
    Config,
    NotFound,
    RequestTimeout,
    ServerError,
    TooManyRequests,
    Transport,
    TransportError,
    Unauthorized,
)
from controller_runtime._transport import is_expired
from controller_runtime.errors import Gone
from controller_runtime.testing import FakeClock

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Metrics:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def request(self, code: str, method: str, host: str, seconds: float) -> None:
        assert seconds >= 0
        assert host.startswith("127.0.0.1:")
        self.seen.append((code, method))

    def watch(self, kind: object) -> object:
        raise AssertionError


class Server:
    """Answers from a list of handlers; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def script(self, *answers: Answer) -> None:
        self.answers = list(answers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def transport(server: Server, metrics: Metrics) -> AsyncIterator[Transport]:
    transport = Transport(Config(server=server.url), user_agent="tests/1", metrics=metrics)  # type: ignore[arg-type]
    yield transport
    await transport.close()


def reply(status: int = 200, text: str = "{}", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=named)

    return answer


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def test_a_request_is_sent_as_told(server: Server, transport: Transport, metrics: Metrics) -> None:
    server.script(reply(201, '{"a": 1}'))
    body = await transport.request(
        "PATCH", "/x%2Fy", query="q=%20", body=b"{}", content_type="application/apply-patch+yaml"
    )
    assert body == b'{"a": 1}'
    request = server.requests[0]
    assert (request.method, request.raw_path) == ("PATCH", "/x%2Fy?q=%20")
    assert server.bodies == [b"{}"]
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["User-Agent"].startswith("tests/1 controller_runtime/")
    assert "Authorization" not in request.headers
    assert metrics.seen == [("201", "PATCH")]


async def test_connections_are_kept(server: Server, transport: Transport) -> None:
    server.script(reply())
    for _ in range(5):
        await transport.request("GET", "/")
    assert len({request.protocol for request in server.requests}) == 1


class NoticedClock(FakeClock):
    """Says when somebody goes to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await super().sleep(seconds)


async def test_retry_after_is_obeyed(server: Server, metrics: Metrics) -> None:
    clock = NoticedClock()
    transport = Transport(Config(server=server.url), metrics=metrics, clock=clock)  # type: ignore[arg-type]
    server.script(reply(429, Retry_After="3"), reply(503, Retry_After="2"), reply(200, "done"))
    task = asyncio.create_task(transport.request("POST", "/", body=b"{}"))
    await clock.asleep.wait()
    clock.asleep.clear()
    await clock.advance(3)
    await clock.asleep.wait()
    await clock.advance(2)
    assert await task == b"done"
    assert metrics.seen == [("429", "POST"), ("503", "POST"), ("200", "POST")]
    await transport.close()


async def test_retries_end_after_ten_tries(server: Server, transport: Transport) -> None:
    server.script(reply(429, Retry_After="0"))
    with pytest.raises(TooManyRequests):
        await transport.request("GET", "/")
    assert len(server.requests) == 10


async def test_a_pause_longer_than_the_deadline_is_not_begun(server: Server, transport: Transport) -> None:
    server.script(reply(429, Retry_After="60"))
    began = time.monotonic()
    with pytest.raises(TooManyRequests) as raised:
        await transport.request("GET", "/", timeout=5)
    assert raised.value.retry_after == 60
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("status", [500, 404, 409])
async def test_nothing_else_is_tried_again(server: Server, transport: Transport, status: int) -> None:
    server.script(reply(status, Retry_After="0") if status < 500 else reply(status))
    with pytest.raises((ServerError, NotFound, Exception)):
        await transport.request("GET", "/")
    assert len(server.requests) == 1


async def test_a_lost_connection_is_tried_again_for_reads_only(
    server: Server, transport: Transport, metrics: Metrics
) -> None:
    server.script(drop, drop, drop, reply(200, "ok"))
    assert await transport.request("GET", "/") == b"ok"
    assert metrics.seen[0] == ("<error>", "GET")
    assert metrics.seen[-1] == ("200", "GET")
    server.script(drop)
    server.requests.clear()
    with pytest.raises(TransportError, match="PATCH /: "):
        await transport.request("PATCH", "/", body=b"{}")
    assert len(server.requests) == 1


async def test_the_deadline_holds(server: Server, transport: Transport) -> None:
    server.script(never)
    with pytest.raises(RequestTimeout, match=r"GET /slow: no answer in 0\.05 s"):
        await transport.request("GET", "/slow", timeout=0.05)
    with pytest.raises(RequestTimeout):
        async with transport.stream("/slow", timeout=0.05):
            pass


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        transport = Transport(
            Config(server=f"http://127.0.0.1:{taken.getsockname()[1]}"), random=lambda: -1.0
        )
        with pytest.raises(TransportError):
            await transport.request("GET", "/")
        with pytest.raises(TransportError):
            async with transport.stream("/", timeout=1):
                pass
        await transport.close()


class Rotating:
    """Credentials whose token the server stops accepting."""

    def __init__(self) -> None:
        self.token = "old"
        self.renewed = 0

    def authorization(self) -> str:
        return f"Bearer {self.token}"

    async def renew(self) -> bool:
        self.renewed += 1
        self.token = "new"
        return True


def only_new(request_body: str = "ok") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer new":
            return web.Response(status=401, text="{}")
        return web.Response(text=request_body)

    return answer


async def test_a_revoked_token_costs_one_retry_and_no_connection(server: Server) -> None:
    server.script(only_new())
    credentials = Rotating()
    transport = Transport(Config(server=server.url, credentials=credentials))
    results = await asyncio.gather(*(transport.request("GET", "/") for _ in range(5)))
    assert results == [b"ok"] * 5
    before = {request.protocol for request in server.requests}
    credentials.token = "old"
    async with transport.stream("/", timeout=5) as stream:
        assert await stream.read() == b"ok"
    assert await transport.request("GET", "/") == b"ok"
    assert server.requests[-1].protocol in before, "others were using it"
    await transport.close()


async def test_a_token_that_stays_refused_is_an_error(server: Server) -> None:
    server.script(reply(401))
    credentials = Rotating()
    transport = Transport(Config(server=server.url, credentials=credentials))
    with pytest.raises(Unauthorized):
        await transport.request("GET", "/")
    assert credentials.renewed == 1
    with pytest.raises(Unauthorized):
        async with transport.stream("/", timeout=5):
            pass
    await transport.close()


async def test_stream_reads_pieces_until_the_end(server: Server, transport: Transport) -> None:
    go = asyncio.Event()

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await go.wait()
        await response.write(b"two")
        return response

    server.script(pieces)
    async with transport.stream("/", query="watch=1", timeout=5) as stream:
        assert await stream.read() == b"one"
        go.set()
        assert await stream.read() == b"two"
        assert await stream.read() == b""


async def test_streams_do_not_use_up_the_pool(server: Server) -> None:
    async def held(request: web.Request) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(text="ok")
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    server.script(held)
    transport = Transport(Config(server=server.url), max_connections=1)
    async with transport.stream("/w", timeout=5), transport.stream("/w", timeout=5):
        assert await transport.request("GET", "/", timeout=5) == b"ok"
    await transport.close()


async def test_an_aborted_and_a_cut_stream_say_so(server: Server, transport: Transport) -> None:
    async def held(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    server.script(held, cut)
    async with transport.stream("/", timeout=5) as stream:
        assert await stream.read() == b"x"
        pending = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        stream.abort()
        with pytest.raises(TransportError, match="stream cut"):
            await asyncio.wait_for(pending, 5)
    async with transport.stream("/", timeout=5) as stream:
        with pytest.raises(TransportError, match="stream cut"):
            await stream.read()


async def test_a_refused_stream_is_the_servers_error(server: Server, transport: Transport) -> None:
    server.script(reply(410, '{"kind":"Status","code":410,"reason":"Expired"}'))
    with pytest.raises(Gone) as raised:
        async with transport.stream("/", timeout=5):
            pass
    assert is_expired(raised.value)


async def test_warnings_are_logged_once(server: Server, transport: Transport) -> None:
    server.script(reply(Warning='299 - "v1beta1 is deprecated"'))
    with capture_logs() as logs:
        await transport.request("GET", "/")
        await transport.request("GET", "/")
    assert [line["warning"] for line in logs] == ['299 - "v1beta1 is deprecated"']


async def test_a_bad_retry_after_is_none(server: Server, transport: Transport) -> None:
    server.script(reply(503, Retry_After="soon"))
    with pytest.raises(ServerError):
        await transport.request("GET", "/")
    assert len(server.requests) == 1


async def test_closed_means_closed(server: Server, transport: Transport) -> None:
    server.script(reply())
    await transport.request("GET", "/")
    await transport.close()
    with pytest.raises(TransportError, match="the client was closed"):
        await transport.request("GET", "/")


async def test_dead_peers_are_noticed(server: Server, transport: Transport) -> None:
    server.script(reply())
    await transport.request("GET", "/")
    (connection,) = transport._pool._all
    assert connection._transport is not None
    raw = connection._transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_the_environments_proxy_is_not_looked_up_per_request(
    server: Server, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1")
    server.script(reply())
    assert await transport.request("GET", "/") == b"{}"
