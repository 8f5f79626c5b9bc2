"""Connections on both event loops: TLS, rotation, proxies, the pool, and streams that are not read."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from controller_runtime import TLS, Config, ConfigError, Transport, TransportError
from controller_runtime._connection import Connection, Endpoint, Pool, race
from controller_runtime.testing._certificates import CertificateAuthority

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


class Server:
    """Answers each head with `answer`, or lets `serve` do as it likes with each connection."""

    def __init__(self, serve: Serve | None = None, answer: bytes = OK) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.answer = answer
        self._serve = serve
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            if self._serve is not None:
                await self._serve(reader, writer)
                return
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        self._server = await asyncio.start_server(self.handle, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()


def plain(port: int, proxy: str = "") -> Endpoint:
    return Endpoint(secure=False, host="127.0.0.1", port=port, authority=f"127.0.0.1:{port}", proxy=proxy)


def serving(authority: CertificateAuthority, name: str = "server") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server(name, ["127.0.0.1", "api.test"]))
    return context


async def test_tls_is_checked_and_connections_follow_rotated_files(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    tls = TLS(ca_file=str(authority.file))
    async with Server().running(serving(authority)) as server:
        transport = Transport(Config(server=f"https://127.0.0.1:{server.port}/prefix", tls=tls))
        assert await transport.request("GET", "/a") == b"ok"
        assert await transport.request("GET", "/a") == b"ok"
        assert server.connections == 1
        assert server.heads[0].startswith("GET /prefix/a HTTP/1.1\r\nHost: 127.0.0.1:")
        tls._context, tls._next_look = None, 0.0  # as after a rotation
        assert await transport.request("GET", "/a") == b"ok"
        assert server.connections == 2
        await transport.close()
        other = tmp_path / "other"
        other.mkdir()
        stranger = TLS(ca_file=str(CertificateAuthority(other).file))
        transport = Transport(
            Config(server=f"https://127.0.0.1:{server.port}", tls=stranger), random=lambda: -1.0
        )
        with pytest.raises(TransportError, match=r"(?i)certificate"):
            await transport.request("GET", "/")
        await transport.close()


async def test_the_server_may_go_by_another_name(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    async with Server().running(serving(authority)) as server:
        for name, fits in (("api.test", True), ("other.test", False)):
            tls = TLS(ca_file=str(authority.file), server_name=name)
            transport = Transport(
                Config(server=f"https://127.0.0.1:{server.port}", tls=tls), random=lambda: -1.0
            )
            if fits:
                assert await transport.request("GET", "/") == b"ok"
            else:
                with pytest.raises(TransportError, match=r"other\.test"):
                    await transport.request("GET", "/")
            await transport.close()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


async def test_tls_goes_through_a_proxy(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    heads: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        host, port = heads[-1].split()[1].split(":")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))

    async with Server().running(serving(authority)) as server, Server(proxy).running() as between:
        config = Config(
            server=f"https://127.0.0.1:{server.port}",
            tls=TLS(ca_file=str(authority.file)),
            proxy=f"http://me:p%40ss@127.0.0.1:{between.port}",
        )
        transport = Transport(config)
        assert await transport.request("GET", "/a") == b"ok"
        secret = base64.b64encode(b"me:p@ss").decode()
        assert heads[0].splitlines()[0] == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
        assert f"Proxy-Authorization: Basic {secret}" in heads[0]
        assert "Proxy-Authorization" not in server.heads[0]
        async with transport.stream("/w", timeout=20) as stream:
            assert await stream.read() == b"ok"
        await transport.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b""])
async def test_a_proxy_that_refuses(answer: bytes) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with Server(proxy).running() as between:
        config = Config(server="https://api.test:6443", proxy=f"http://127.0.0.1:{between.port}")
        transport = Transport(config)
        with pytest.raises(TransportError, match="proxy"):
            await transport.request("POST", "/")
        await transport.close()


async def test_a_proxy_for_plain_http_is_told_where_to() -> None:
    async with Server().running() as between:
        config = Config(server="http://api.test:8080/p", proxy=f"http://u:@127.0.0.1:{between.port}")
        transport = Transport(config)
        assert await transport.request("GET", "/a", query="b=1") == b"ok"
        assert between.heads[0].startswith(
            "GET http://api.test:8080/p/a?b=1 HTTP/1.1\r\nHost: api.test:8080\r\n"
        )
        assert f"Proxy-Authorization: Basic {base64.b64encode(b'u:').decode()}\r\n" in between.heads[0]
        await transport.close()


@pytest.mark.parametrize(
    ("server", "proxy"),
    [("ftp://a", ""), ("https://", ""), ("a:1", ""), ("http://a:b", ""), ("https://a", "https://proxy:1")],
)
async def test_addresses_that_cannot_work(server: str, proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"use http|Port"):
        Transport(Config(server=server, proxy=proxy))


async def test_nothing_slips_into_a_request() -> None:
    async with Server().running() as server:
        transport = Transport(Config(server=f"http://127.0.0.1:{server.port}"))
        for path in ("/a b", "/a\r\nX: y", "/ä"):
            with pytest.raises(ValueError, match="percent-encoded"):
                await transport.request("GET", path)
        await transport.close()
        with pytest.raises(ConfigError):
            Transport(Config(server=f"http://127.0.0.1:{server.port}"), user_agent="a\r\nX: y")
        assert server.connections == 0


async def test_the_pool_keeps_to_its_limit_and_reuses() -> None:
    async with Server().running() as server:
        pool = Pool(plain(server.port), limit=3, keep=30.0)
        answers = await asyncio.gather(*(pool.exchange(None, GET) for _ in range(20)))
        assert [body for _, body in answers] == [b"ok"] * 20
        assert len(server.heads) == 20
        assert server.connections <= 3
        await pool.close()
        assert not pool._all


async def test_idle_connections_are_closed() -> None:
    async with Server().running() as server:
        pool = Pool(plain(server.port), limit=3, keep=0.01)
        await pool.exchange(None, GET)
        (connection,) = pool._all
        async with asyncio.timeout(20):
            await connection.lost
        assert not pool._idle
        await pool.exchange(None, GET)
        assert server.connections == 2
        await pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"H",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_doubtful_connection_is_not_used_again(answer: bytes) -> None:
    async with Server(answer=answer).running() as server:
        pool = Pool(plain(server.port), limit=3, keep=30.0)
        for _ in range(2):
            assert (await pool.exchange(None, GET))[1] == b"ok"
        assert server.connections == 2
        await pool.close()


async def test_a_cancelled_exchange_takes_its_connection_along() -> None:
    heard = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set()
        await reader.read()

    async with Server(silent).running() as server:
        pool = Pool(plain(server.port), limit=1, keep=30.0)
        task = asyncio.create_task(pool.exchange(None, GET))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not pool._idle
        heard.clear()
        task = asyncio.create_task(pool.exchange(None, GET))
        await heard.wait()
        assert server.connections == 2
        await pool.close()
        with pytest.raises(ConnectionError, match="closed here"):
            await task


async def test_a_connection_given_up_leaves_its_socket_to_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which still says goodbye on it: a number that is free too early would serve two connections."""
    authority = CertificateAuthority(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.file))
    made = Connection.connection_made

    def give_up(connection: Connection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        task.cancel()

    async with Server().running(serving(authority)) as server:
        endpoint = Endpoint(secure=True, host="127.0.0.1", port=server.port, authority="x")
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "connection_made", give_up)
            task = asyncio.create_task(endpoint.connect(context))
            await asyncio.wait({task})
            assert task.cancelled()
        connection = await endpoint.connect(context)
        assert (await connection.exchange(GET, bodyless=False))[1] == b"ok"
        connection.abort()
        await connection.lost


async def test_a_pool_closed_while_it_connects_leaves_nothing() -> None:
    async with Server().running() as server:
        pool = Pool(plain(server.port), limit=1, keep=30.0)
        task = asyncio.create_task(pool.exchange(None, GET))
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(ConnectionError):
            await task


async def test_a_stream_that_is_not_read_stops_the_server() -> None:
    sent = 0
    full = asyncio.Event()
    size = 64 * 2**20

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 2**16)
            sent += 2**16
            drain = asyncio.ensure_future(writer.drain())
            await asyncio.wait({drain}, timeout=0.5)
            if not drain.done():
                full.set()
            await drain

    async with Server(flood).running() as server:
        connection: Connection = await plain(server.port).connect(None)
        assert (await connection.open(GET)).status == 200
        async with asyncio.timeout(60):
            await full.wait()
            assert connection._held < 4 * 2**20
            read = 0
            while piece := await connection.read():
                read += len(piece)
        assert read == size
        connection.abort()
        await connection.lost


async def test_the_address_that_answers_is_taken() -> None:
    async with Server().running() as server:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            nobody = (socket.AF_INET, taken.getsockname())
            connected = await race([nobody, (socket.AF_INET, ("127.0.0.1", server.port))])
            assert connected.getpeername()[1] == server.port
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            connected.close()
            for addresses in ([nobody], [nobody, nobody]):
                with pytest.raises(ConnectionRefusedError):
                    await race(addresses)


async def test_a_name_is_looked_up() -> None:
    async with Server().running() as server:
        transport = Transport(Config(server=f"http://localhost:{server.port}"))
        assert await transport.request("GET", "/") == b"ok"
        assert f"Host: localhost:{server.port}\r\n" in server.heads[0]
        await transport.close()
