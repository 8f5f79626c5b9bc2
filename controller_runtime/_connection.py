"""Connections to one server: how they are made, what is said on them, and the pool that keeps them."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from asyncio.staggered import staggered_race
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ._http1 import BadResponse, ResponseParser

CONNECT_TIMEOUT = 10.0
_EYEBALLS_DELAY = 0.25
_HIGH_WATER = 1024 * 1024
_CLOSE_PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a server is. `authority` is what the Host header says, `proxy` an http:// URL or ""."""

    secure: bool
    host: str
    port: int
    authority: str
    server_name: str = ""
    proxy: str = ""

    async def connect(self, context: ssl.SSLContext | None) -> Connection:
        """A new connection; the caller bounds the TLS handshake. Raises OSError."""
        host, port = self.host, self.port
        if self.proxy:
            parts = urlsplit(self.proxy)
            host, port = parts.hostname or "", parts.port or 80
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                connected = await race([(family, address) for family, _, _, _, address in found])
        except TimeoutError:
            raise ConnectionError(f"no connection to {host}:{port} in {CONNECT_TIMEOUT:g} s") from None
        if self.proxy and self.secure:
            try:
                await self._tunnel(connected)
            except BaseException:
                connected.close()
                raise
        # From here on the socket is the loop's, which also closes it when this fails or is cancelled.
        name = self.server_name or self.host if context is not None else None
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, sock=connected, ssl=context, server_hostname=name
        )
        return connection

    async def _tunnel(self, connected: socket.socket) -> None:
        """Have the proxy pass everything on from here."""
        loop = asyncio.get_running_loop()
        host = f"[{self.host}]" if ":" in self.host else self.host
        target = f"{host}:{self.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{proxy_authorization(self.proxy)}\r\n"
        await loop.sock_sendall(connected, head.encode("latin-1"))
        parser = ResponseParser(bodyless=True)
        while not parser.status:
            data = await loop.sock_recv(connected, 4096)
            if not data:
                raise BadResponse("the proxy closed the connection")
            parser.feed(data)
        if not 200 <= parser.status < 300:
            raise ConnectionError(f"the proxy answered {parser.status} to CONNECT {target}")


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one exchange at a time. Made by `Endpoint.connect`.

    Every failure is an OSError. Nothing in here has a deadline: cancel what takes too long, then `abort`.
    """

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._whole = True
        self._waiter: asyncio.Future[None] | None = None
        self._error: OSError | None = None
        self._paused = False

    @property
    def reusable(self) -> bool:
        """Its last exchange is complete and it may serve another."""
        parser = self._parser
        return self._error is None and (
            parser is None or (parser.complete and parser.keep_alive and not parser.surplus)
        )

    async def exchange(self, request: bytes, *, bodyless: bool) -> tuple[ResponseParser, bytes]:
        """Send a request; the answer and all of its body."""
        parser = self._begin(request, bodyless, whole=True)
        while not parser.complete:
            await self._news()
        return parser, self._take()

    async def open(self, request: bytes) -> ResponseParser:
        """Send a request; the answer as soon as its head is there. `read` gives the body."""
        parser = self._begin(request, bodyless=False, whole=False)
        while not parser.status:
            await self._news()
        return parser

    async def read(self) -> bytes:
        """What of the body arrived since the last call, b"" at its end."""
        parser = self._parser
        assert parser is not None
        while not self._pieces:
            if parser.complete:
                return b""
            await self._news()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return self._take()

    def abort(self) -> None:
        """Close at once; whoever waits gets an error."""
        self._fail(ConnectionAbortedError("the connection was closed here"))
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, request: bytes, bodyless: bool, *, whole: bool) -> ResponseParser:
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        parser = self._parser = ResponseParser(bodyless=bodyless)
        self._whole = whole
        self._transport.write(request)
        return parser

    async def _news(self) -> None:
        if self._error is not None:
            raise self._error
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self._held = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or parser.complete:  # nobody asked
            self.abort()
            return
        try:
            pieces = parser.feed(data)
        except BadResponse as error:
            self._fail(error)
            self.abort()
            return
        if pieces:
            self._pieces += pieces
            if not self._whole:
                self._held += sum(map(len, pieces))
                if self._held > _HIGH_WATER and not self._paused and self._transport is not None:
                    self._paused = True
                    self._transport.pause_reading()
        if parser.complete or not self._whole:
            self._wake()

    def eof_received(self) -> None:
        return None  # closes the transport

    def connection_lost(self, error: Exception | None) -> None:
        parser = self._parser
        if error is None and parser is not None and not parser.complete:
            try:
                parser.end()
            except BadResponse as bad:
                error = bad
        if not isinstance(error, BadResponse):
            error = ConnectionResetError(str(error or "closed by the server"))
        self._fail(error)
        if not self.lost.done():
            self.lost.set_result(None)


class Pool:
    """Up to `limit` connections at once, kept alive for `keep` seconds between two exchanges.

    The one used last is taken first. Connections made with another TLS context (rotated files) are closed
    when they come back. Use it in one event loop.
    """

    def __init__(self, endpoint: Endpoint, *, limit: int, keep: float) -> None:
        self._endpoint = endpoint
        self._keep = keep
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[tuple[Connection, ssl.SSLContext | None, float]] = []
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(
        self, context: ssl.SSLContext | None, request: bytes, *, bodyless: bool = False
    ) -> tuple[ResponseParser, bytes]:
        """One request and its whole answer. Raises OSError; nothing is tried again."""
        async with self._slots:
            connection = self._pick(context)
            if connection is None:
                connection = await self._endpoint.connect(context)
                self._all.add(connection)
                connection.lost.add_done_callback(partial(self._forget, connection))
                if self._closed:
                    connection.abort()
            try:
                return await connection.exchange(request, bodyless=bodyless)
            finally:
                if connection.reusable:
                    self._put_back(connection, context)
                else:
                    connection.abort()

    async def close(self) -> None:
        """Close all; exchanges that are running fail."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await close(self._all)

    def _pick(self, context: ssl.SSLContext | None) -> Connection | None:
        while self._idle:
            connection, made_with, _ = self._idle.pop()
            if made_with is context and connection.reusable:
                return connection
            connection.abort()
        return None

    def _put_back(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        self._idle.append((connection, context, loop.time()))
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._keep, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keep
        for connection, _, since in self._idle:
            if since <= oldest:
                connection.abort()
        self._idle = [item for item in self._idle if item[2] > oldest]
        due = self._idle[0][2] + self._keep if self._idle else 0.0
        self._sweeper = loop.call_at(due, self._sweep) if self._idle else None

    def _forget(self, connection: Connection, _: asyncio.Future[None]) -> None:
        self._all.discard(connection)


async def close(connections: set[Connection]) -> None:
    """Close and wait until they are, for a moment."""
    lost = [connection.lost for connection in connections]
    for connection in list(connections):
        connection.abort()
    if lost:
        await asyncio.wait(lost, timeout=_CLOSE_PATIENCE)


def proxy_authorization(proxy: str) -> str:
    """The header line for a user and password in the proxy's URL, or ""."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}\r\n"


async def race(addresses: Sequence[tuple[int, Any]]) -> socket.socket:
    """Connected to the first (family, address) that answers; the next is tried after 0.25 s or a refusal
    (RFC 8305). Raises the first one's OSError when none does.
    """
    if len(addresses) == 1:
        return await _dial(*addresses[0])
    winner, _, errors = await staggered_race([partial(_dial, *one) for one in addresses], _EYEBALLS_DELAY)
    if winner is None:
        raise next(error for error in errors if error is not None)
    connected: socket.socket = winner
    return connected


async def _dial(family: int, address: Any) -> socket.socket:
    """A socket that notices a dead peer after 30 s + 3 x 10 s: HTTP/1.1 has no ping of its own."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # not on every platform under these names
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
