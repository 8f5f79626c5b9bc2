"""Proxies that do to a connection what networks and API servers do: cut, freeze, delay, refuse, answer
wrongly.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from .._config import Config
from .._objects import JSON

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST


class FaultProxy:
    """Passes bytes between clients and one API server, TLS untouched, until told otherwise.

    `async with FaultProxy(env.config) as proxy:`, then connect with `proxy.config`. Works on 127.0.0.1 only,
    as the server's certificate must name the proxy's address too.
    """

    def __init__(self, upstream: Config) -> None:
        self._upstream = upstream
        parts = urlsplit(upstream.server)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 443
        self._delay = 0.0
        self._refuse = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        """Connections taken so far."""

    @property
    def config(self) -> Config:
        """The upstream's, through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return replace(self._upstream, server=f"{urlsplit(self._upstream.server).scheme}://127.0.0.1:{port}")

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every open connection, as a crashed node or a firewall does. New ones are taken."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def freeze(self) -> None:
        """Pass nothing on, keep everything open: a dead peer that never said goodbye."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on again, starting with what piled up."""
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Hold every piece of data, in both directions, for `seconds`; 0 to stop."""
        self._delay = seconds

    def refuse(self, refuse: bool = True) -> None:
        """Reset new connections at once; open ones live on."""
        self._refuse = refuse

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self._refuse:
                return
            far_reader, far = await asyncio.open_connection(self._host, self._port)
            self._writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far))
                group.create_task(self._pump(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # this link is over, whichever side ended it
        finally:
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(65536)
            await self._flowing.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                raise ConnectionResetError("end of stream")
            writer.write(data)
            await writer.drain()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that went through an `HTTPFaultProxy`; `status` is what the client got."""

    method: str
    path: str
    query: dict[str, str]
    status: int

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and "watch" not in self.query and "resourceVersion" in self.query

    @property
    def is_watch(self) -> bool:
        return self.method == "GET" and "watch" in self.query


Match = Callable[[str, str, dict[str, str]], bool]


@dataclass(slots=True)
class _Fault:
    match: Match
    times: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    line: bytes = b""


class HTTPFaultProxy:
    """Ends the TLS of clients with the test server's own certificate and answers some requests wrongly.

    All requests go on with the upstream configuration's credentials, whoever the client is. Put a
    `FaultProxy` in front to have both kinds of fault. `seen` records every request, in order of completion of
    their heads.
    """

    def __init__(self, upstream: Config, certificate: tuple[Path, Path]) -> None:
        """`certificate`: an Envtest's `server_certificate`."""
        self._upstream = upstream
        self._certificate = certificate
        self._faults: list[_Fault] = []
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0
        self.seen: list[Seen] = []

    @property
    def config(self) -> Config:
        return replace(self._upstream, server=f"https://127.0.0.1:{self._port}")

    def answer(
        self,
        match: Match,
        status: int,
        *,
        reason: str = "",
        message: str = "injected",
        headers: dict[str, str] | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next `times` requests for which `match(method, path, query)` with a failure Status."""
        body = orjson.dumps(_status(status, reason, message))
        self._faults.append(_Fault(match, times, status, {**(headers or {})}, body))

    def clear(self) -> None:
        """Take back every fault that is still to come."""
        self._faults.clear()

    def end_watch(self, match: Match, status: int, *, reason: str = "", times: int = 1) -> None:
        """Put an ERROR event at the front of the next `times` matching watches and end them."""
        event = {"type": "ERROR", "object": _status(status, reason, "injected")}
        self._faults.append(_Fault(match, times, line=orjson.dumps(event) + b"\n"))

    async def __aenter__(self) -> Self:
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(*self._certificate)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(None),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=serving)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._session.close()
        await self._runner.cleanup()

    def _take(self, method: str, path: str, query: dict[str, str]) -> _Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.match(method, path, query):
                fault.times -= 1
                return fault
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        fault = self._take(request.method, request.path, query)
        if fault is not None and fault.status:
            self._note(request, query, fault.status)
            return web.Response(
                status=fault.status, body=fault.body, headers=fault.headers, content_type="application/json"
            )
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        token = self._upstream.credentials.authorization()
        if token:
            headers["Authorization"] = token
        tls = self._upstream.tls
        upstream = self._session.request(
            request.method,
            URL(self._upstream.server + request.raw_path, encoded=True),
            headers=headers,
            data=await request.read() or None,
            ssl=True if tls is None else tls.context(),
            allow_redirects=False,
        )
        async with upstream as answer:
            self._note(request, query, answer.status)
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            if fault is not None:
                await response.write(fault.line)
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response

    def _note(self, request: web.Request, query: dict[str, str], status: int) -> None:
        self.seen.append(Seen(method=request.method, path=request.path, query=query, status=status))


_HOP = frozenset(("host", "content-length", "transfer-encoding", "connection", "keep-alive", "authorization"))


def _status(status: int, reason: str, message: str) -> JSON:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status,
    }
