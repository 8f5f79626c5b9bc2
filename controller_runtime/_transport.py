"""HTTP to one API server: pooled connections, deadlines, retries and long streams. Knows no objects."""

from __future__ import annotations

import asyncio
import random as _random
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from ._clock import SYSTEM_CLOCK, Clock
from ._config import Config, ConfigError
from ._connection import Connection, Endpoint, Pool, close, proxy_authorization
from ._http1 import ResponseParser
from ._metrics_api import Metrics, NoMetrics
from .errors import ApiError, RequestTimeout, TransportError, error_from_response

_log = structlog.get_logger("controller_runtime.transport")

VERSION = "0.1.0"
MAX_TRIES = 10
_KEEP_IDLE = 30.0


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
        self._endpoint, target = _endpoint(config)
        self._pool = Pool(self._endpoint, limit=max_connections, keep=_KEEP_IDLE)
        self._streams: set[Connection] = set()
        self._metrics = metrics or NoMetrics()
        self._clock = clock
        self._random = random
        self._default_tls: ssl_module.SSLContext | None = None
        self._closed = False
        self._warned: set[str] = set()
        self._target = target
        agent = f"{user_agent} controller_runtime/{VERSION}".strip()
        # What every request says. Identity: nothing that is worth coding goes over a local network.
        self._common = (
            f" HTTP/1.1\r\nHost: {self._endpoint.authority}\r\nUser-Agent: {_checked(agent)}\r\n"
            "Accept-Encoding: identity\r\n"
        )
        if config.proxy and not self._endpoint.secure:
            self._common += proxy_authorization(config.proxy)

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
        if query:
            path = f"{path}?{query}"
        clock = self._clock
        end = clock.monotonic() + timeout
        renewed = False
        tries = 1
        while True:
            message = self._message(method, path, accept, body, content_type)
            began = clock.monotonic()
            try:
                async with asyncio.timeout(max(end - began, 0.001)):
                    response, payload = await self._pool.exchange(
                        self._context(), message, bodyless=method == "HEAD"
                    )
            except OSError as error:  # TimeoutError is one
                self._metrics.request("<error>", method, self._endpoint.authority, clock.monotonic() - began)
                failure: TransportError | ApiError = _lost(error, method, path, timeout)
                if method != "GET" or isinstance(failure, RequestTimeout) or tries >= MAX_TRIES:
                    raise failure from error
                # A connection that the server had closed; the next one is new.
                pause = min(0.01 * 2**tries, 1.0) * (1.0 + self._random())
            else:
                status = response.status
                self._metrics.request(
                    str(status), method, self._endpoint.authority, clock.monotonic() - began
                )
                if status < 300:
                    if "warning" in response.headers:
                        self._warn(response.headers["warning"])
                    return payload
                asked = _retry_after(response.header("retry-after"))
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
        path = f"{path}?{query}"
        connection, response = await self._open(path, accept, timeout)
        try:
            if response.status == 401 and await self.config.credentials.renew():
                connection.abort()
                connection, response = await self._open(path, accept, timeout)
            if response.status != 200:
                try:
                    async with asyncio.timeout(timeout):
                        payload = b"".join([piece async for piece in _pieces(connection)])
                except OSError as error:
                    raise _lost(error, "GET", path, timeout) from error
                asked = _retry_after(response.header("retry-after"))
                raise error_from_response(response.status, payload, retry_after=asked)
            yield _Body(connection)
        finally:
            connection.abort()  # never back to a pool: the rest of the body is still to come

    async def _open(self, path: str, accept: str, timeout: float) -> tuple[Connection, ResponseParser]:
        message = self._message("GET", path, accept, None, "")
        began = self._clock.monotonic()
        code = "<error>"
        try:
            async with asyncio.timeout(timeout):
                connection = await self._endpoint.connect(self._context())
                self._streams.add(connection)
                connection.lost.add_done_callback(lambda _: self._streams.discard(connection))
                try:
                    response = await connection.open(message)
                except BaseException:
                    connection.abort()
                    raise
            code = str(response.status)
            return connection, response
        except OSError as error:
            raise _lost(error, "GET", path, timeout) from error
        finally:
            elapsed = self._clock.monotonic() - began
            self._metrics.request(code, "GET", self._endpoint.authority, elapsed)

    async def close(self) -> None:
        """Close every connection. Requests that are running fail with TransportError."""
        self._closed = True
        await self._pool.close()
        await close(self._streams)

    def _message(self, method: str, path: str, accept: str, body: bytes | None, content_type: str) -> bytes:
        """The bytes of one request, with the credentials of this moment."""
        if self._closed:
            raise TransportError(f"{self.config.server}: the client was closed; open a new one")
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise ValueError(f"{path!r} is not percent-encoded")
        head = f"{method} {self._target}{path}{self._common}Accept: {accept}\r\n"
        authorization = self.config.credentials.authorization()
        if authorization:
            head += f"Authorization: {_checked(authorization)}\r\n"
        if body is not None:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
            return head.encode("latin-1") + body
        if method not in ("GET", "HEAD"):
            head += "Content-Length: 0\r\n"
        return f"{head}\r\n".encode("latin-1")

    def _context(self) -> ssl_module.SSLContext | None:
        if not self._endpoint.secure:
            return None
        if self.config.tls is not None:
            return self.config.tls.context()
        if self._default_tls is None:
            self._default_tls = ssl_module.create_default_context()
        return self._default_tls

    def _warn(self, texts: list[str]) -> None:
        for text in texts:
            if text not in self._warned and len(self._warned) < 1000:
                self._warned.add(text)
                _log.warning("the API server warns", warning=text)


class _Body:
    """`Stream` over a connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> bytes:
        try:
            return await self._connection.read()
        except OSError as error:
            raise TransportError(f"stream cut: {error!r}") from error

    def abort(self) -> None:
        self._connection.abort()


async def _pieces(connection: Connection) -> AsyncIterator[bytes]:
    while piece := await connection.read():
        yield piece


def _endpoint(config: Config) -> tuple[Endpoint, str]:
    """Where to connect, and what precedes the path in a request line. Raises ConfigError."""
    try:
        parts = urlsplit(config.server.rstrip("/"))
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
    except ValueError as error:
        raise ConfigError(f"server {config.server!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"server {config.server!r}: use https://host:port")
    if config.proxy and urlsplit(config.proxy).scheme != "http":
        raise ConfigError(f"proxy {config.proxy!r}: use http://host:port, TLS goes through it")
    authority = parts.netloc.rpartition("@")[2]
    endpoint = Endpoint(
        secure=secure,
        host=parts.hostname,
        port=port,
        authority=_checked(authority),
        server_name=config.tls.server_name if config.tls is not None else "",
        proxy=config.proxy,
    )
    absolute = bool(config.proxy) and not secure  # a proxy for plain HTTP wants to know where to
    return endpoint, f"http://{authority}{parts.path}" if absolute else parts.path


def _checked(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ConfigError("a header's value holds a line break or something else that is no printable ASCII")
    return value


def _lost(error: OSError, method: str, path: str, timeout: float) -> TransportError:
    path = path.partition("?")[0]
    if isinstance(error, TimeoutError):
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
