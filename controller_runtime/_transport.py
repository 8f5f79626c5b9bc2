"""HTTP to one API server: pooled connections, deadlines, retries and long streams. Knows no objects."""

from __future__ import annotations

import asyncio
import random as _random
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import structlog
from yarl import URL

from ._clock import SYSTEM_CLOCK, Clock
from ._config import Config
from ._metrics_api import Metrics, NoMetrics
from .errors import ApiError, RequestTimeout, TransportError, error_from_response

_log = structlog.get_logger("controller_runtime.transport")

VERSION = "0.1.0"
MAX_TRIES = 10
CONNECT_TIMEOUT = 10.0
_KEEP_IDLE = 30.0
_ERRORS = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError)


class Stream(Protocol):
    """The body of a response that stays open."""

    async def read(self) -> bytes:
        """What arrived since the last call, b"" at a clean end. Raises TransportError when the link was
        cut.
        """
        ...

    def abort(self) -> None:
        """Drop the connection; a pending `read` raises TransportError."""
        ...


class Transport:
    """Owns the connections to one API server. Use it in one event loop, `close` it once.

    Plain requests share up to `max_connections` kept-alive connections; every stream has one of its own
    outside that pool, so a cache of many kinds cannot starve the writes. A 429 or 5xx that carries
    Retry-After is tried again up to 10 times, a GET also after a lost connection, all within the one deadline
    of the request; nothing else is retried. A 401 renews the credentials and is tried once more, and never
    closes anything that other requests use.
    """

    def __init__(
        self,
        config: Config,
        *,
        user_agent: str = "",
        metrics: Metrics | None = None,
        max_connections: int = 100,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.config = config
        self._base = config.server.rstrip("/")
        self._metrics = metrics or NoMetrics()
        self._limit = max_connections
        self._clock = clock
        self._random = random
        self._host = URL(self._base).authority
        self._agent = f"{user_agent} controller_runtime/{VERSION}".strip()
        self._proxy = config.proxy or None
        self._server_name = (config.tls.server_name or None) if config.tls is not None else None
        self._requests: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._closed = False
        self._warned: set[str] = set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = 30.0,
    ) -> bytes:
        """One exchange within `timeout` seconds, retries included; returns the body of a 2xx answer.

        `path` and `query` are percent-encoded already. Raises a subclass of ApiError for any other answer,
        RequestTimeout at the deadline, TransportError when no answer came.
        """
        if self._requests is None:
            self._requests = self._session(self._limit)
        session = self._requests
        url = URL(f"{self._base}{path}?{query}" if query else f"{self._base}{path}", encoded=True)
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        clock = self._clock
        end = clock.monotonic() + timeout
        renewed = False
        tries = 1
        while True:
            self._authorize(headers)
            began = clock.monotonic()
            try:
                async with session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    ssl=self._ssl(),
                    timeout=aiohttp.ClientTimeout(max(end - began, 0.001), sock_connect=CONNECT_TIMEOUT),
                    proxy=self._proxy,
                    server_hostname=self._server_name,
                    allow_redirects=False,
                ) as response:
                    payload = await response.read()
            except _ERRORS as error:  # TimeoutError is an OSError
                self._metrics.request("<error>", method, self._host, clock.monotonic() - began)
                failure: TransportError | ApiError = _lost(error, method, path, timeout)
                if method != "GET" or isinstance(failure, RequestTimeout) or tries >= MAX_TRIES:
                    raise failure from error
                # A connection that the server had closed; the next one is new.
                pause = min(0.01 * 2**tries, 1.0) * (1.0 + self._random())
            else:
                status = response.status
                self._metrics.request(str(status), method, self._host, clock.monotonic() - began)
                if status < 300:
                    if "Warning" in response.headers:
                        self._warn(response.headers.getall("Warning"))
                    return payload
                asked = _retry_after(response.headers.get("Retry-After"))
                failure = error_from_response(status, payload, retry_after=asked)
                if status == 401 and not renewed:
                    renewed = True
                    if await self.config.credentials.renew():
                        continue
                if asked is None or tries >= MAX_TRIES or not (status == 429 or status >= 500):
                    raise failure
                pause = asked
            if clock.monotonic() + pause >= end:
                raise failure
            tries += 1
            await clock.sleep(pause)

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: str = "", accept: str = "application/json", timeout: float
    ) -> AsyncIterator[Stream]:
        """A GET whose body stays open; `timeout` seconds bound the wait for the first headers only.

        Raises as `request` does while opening (no retry: the caller has a backoff of its own).
        """
        if self._streams is None:
            self._streams = self._session(0)
        url = URL(f"{self._base}{path}?{query}", encoded=True)
        headers = {"Accept": accept}
        response = await self._open(self._streams, url, headers, path, timeout)
        if response.status == 401 and await self.config.credentials.renew():
            response.close()
            response = await self._open(self._streams, url, headers, path, timeout)
        try:
            if response.status != 200:
                try:
                    async with asyncio.timeout(timeout):
                        payload = await response.read()
                except _ERRORS as error:
                    raise _lost(error, "GET", path, timeout) from error
                asked = _retry_after(response.headers.get("Retry-After"))
                raise error_from_response(response.status, payload, retry_after=asked)
            yield _Body(response)
        finally:
            response.close()  # never back to the pool: the rest of the body is still to come

    async def _open(
        self, session: aiohttp.ClientSession, url: URL, headers: dict[str, str], path: str, timeout: float
    ) -> aiohttp.ClientResponse:
        self._authorize(headers)
        began = self._clock.monotonic()
        code = "<error>"
        try:
            async with asyncio.timeout(timeout):
                response = await session.get(
                    url,
                    headers=headers,
                    ssl=self._ssl(),
                    timeout=aiohttp.ClientTimeout(None, sock_connect=CONNECT_TIMEOUT),
                    proxy=self._proxy,
                    server_hostname=self._server_name,
                    allow_redirects=False,
                )
            code = str(response.status)
            return response
        except _ERRORS as error:
            raise _lost(error, "GET", path, timeout) from error
        finally:
            self._metrics.request(code, "GET", self._host, self._clock.monotonic() - began)

    async def close(self) -> None:
        """Close every connection. Requests that are running fail with TransportError."""
        self._closed = True
        for session in (self._requests, self._streams):
            if session is not None:
                await session.close()
        self._requests = self._streams = None

    def _session(self, limit: int) -> aiohttp.ClientSession:
        if self._closed:
            raise TransportError(f"{self._base}: the client was closed; open a new one")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limit, keepalive_timeout=_KEEP_IDLE, socket_factory=_keepalive_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(None),
            trust_env=False,  # it looks for netrc and proxies, in a thread, on every request
            auto_decompress=True,
            read_bufsize=512 * 1024,
        )

    def _ssl(self) -> ssl_module.SSLContext | bool:
        tls = self.config.tls
        return True if tls is None else tls.context()

    def _authorize(self, headers: dict[str, str]) -> None:
        value = self.config.credentials.authorization()
        if value:
            headers["Authorization"] = value

    def _warn(self, texts: list[str]) -> None:
        for text in texts:
            if text not in self._warned and len(self._warned) < 1000:
                self._warned.add(text)
                _log.warning("the API server warns", warning=text)


class _Body:
    """`Stream` over a response."""

    __slots__ = ("_read", "_response")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._read = response.content.readany

    async def read(self) -> bytes:
        try:
            return await self._read()
        except _ERRORS as error:
            raise TransportError(f"stream cut: {error!r}") from error

    def abort(self) -> None:
        self._response.close()


def _keepalive_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices a dead peer after 30 s + 3 x 10 s: HTTP/1.1 has no ping of its own."""
    family, kind, protocol = info[0], info[1], info[2]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # not on every platform under these names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _lost(error: BaseException, method: str, path: str, timeout: float) -> TransportError:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return RequestTimeout(f"{method} {path}: no answer in {timeout:g} s")
    return TransportError(f"{method} {path}: {error or type(error).__name__}")


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header; the API server always writes whole seconds."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None


def is_expired(error: ApiError) -> bool:
    """410 under any of its names."""
    return error.status == 410 or error.reason in ("Expired", "Gone")
