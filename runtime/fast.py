"""The short way for inference: httptools and one callback, no task for a request.

It takes what nearly all requests are: POST /predict and /v2/models/.../infer of HTTP/1.1 with one
Content-Length, the whole of it there soon. Everything else, and whatever is unusual about a request, goes
with all its bytes to aiohttp, which then keeps the connection: there is one place that knows how to refuse.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from time import perf_counter
from typing import cast

import httptools

from runtime.body import length_allowed
from runtime.connections import error_body
from runtime.errors import GONE, RequestError
from runtime.http import SERVER, Http, request_id, span_name
from runtime.inference import JSON, Content, Started, Trace
from runtime.job import Result
from runtime.spec import Limits

_LINE = re.compile(
    rb"POST (?:/predict|/v2/models/([A-Za-z0-9._-]{1,200})(?:/versions/([A-Za-z0-9._-]{1,100}))?/infer)"
    rb" HTTP/1\.1\r\n"
)
_LONGEST_HEAD = 8190
# A body longer than this is received by aiohttp.
_LONGEST_BODY = 1 << 20
# Requests with these are aiohttp's: it knows about coding, waiting and upgrading.
_NOT_OURS = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"connection", b"trailer"}
_NAMES = {
    name.lower().encode(): name
    for name in (
        "Content-Type", "Content-Length", "X-Request-Id", "X-Request-Timeout",
        "Inference-Header-Content-Length", "Traceparent",
    )
}  # fmt: skip
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 415: "Unsupported Media Type",
    429: "Too Many Requests", 499: "Client Closed Request", 500: "Internal Server Error",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class _Head:
    """The header of one request as httptools reads it; `ours` is False when aiohttp should have it."""

    __slots__ = ("complete", "headers", "ours")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.ours = True
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        known = _NAMES.get(name)
        if known is not None:
            # Twice the same header is for those to judge who know what it means.
            if known in self.headers:
                self.ours = False
            self.headers[known] = value.decode("latin-1")
        elif name in _NOT_OURS and not (name == b"connection" and value.lower() == b"keep-alive"):
            self.ours = False

    def on_headers_complete(self) -> None:
        self.complete = True


class FastPath:
    """Makes the protocol of each connection. `close` ends those that are still its own."""

    def __init__(self, http: Http, limits: Limits, *, rng: random.Random | None = None) -> None:
        self.http = http
        self.limits = limits
        self.connections: set[_Connection] = set()
        self._rng = rng or random.Random()

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self.limits.connection_life * self._rng.uniform(0.8, 1.2))

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()


class _Connection(asyncio.Protocol):
    """One request at a time; bytes that come meanwhile wait, and beyond a limit are not read."""

    def __init__(self, owner: FastPath, life: float) -> None:
        self._owner = owner
        self._http = owner.http
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._busy = False
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._idle_since: float = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._first = True  # no request was read yet
        self._awaiting = False  # a header is there, its body not yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self._owner.connections.add(self)
        now = self._loop.time()
        self._idle_since = now
        self._life += now
        self._timer = self._loop.call_later(self._owner.limits.header, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._forget()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._busy:
            if len(self._buffer) > _LONGEST_BODY and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            return
        self._next()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        """The request at the start of the buffer, if it is there and of the usual kind."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if end < 0:
            if len(buffer) >= _LONGEST_HEAD or not _may_become(buffer):
                self._hand_over()
            return
        line = _LINE.match(buffer)
        head = _read(buffer[: end + 4]) if line is not None else None
        if line is None or head is None:
            self._hand_over()
            return
        length = int(head.headers["Content-Length"])
        if length > _LONGEST_BODY or not length_allowed(length, self._owner.limits):
            self._hand_over()
            return
        stop = end + 4 + length
        if len(buffer) < stop:
            self._await_body()
            return
        body = buffer[end + 4 : stop]
        self._buffer = buffer[stop:]
        self._begin(line, head.headers, body)

    def _await_body(self) -> None:
        """The rest has its time; then aiohttp gets what came, and gives it the same time once more."""
        if not self._awaiting:
            self._awaiting = True
            self._idle_since = self._loop.time()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._owner.limits.body_start, self._look)

    def _begin(self, line: re.Match[bytes], headers: dict[str, str], body: bytes) -> None:
        http = self._http
        now = self._loop.time()
        waited = now - self._idle_since if self._awaiting else 0.0
        self._busy = True
        self._first = self._awaiting = False
        http.inflight += 1
        http.last_request = now
        started = perf_counter()
        trace = Trace(request_id(headers.get("X-Request-Id", "")))
        path = line[0][5:-11].decode("ascii")
        if http.tracing is not None:
            trace.mark = http.tracing.begin(headers.get("Traceparent"), span_name(path), waited)
        try:
            work = self._start(line, trace, headers, body)
        except RequestError as error:
            self._refuse(trace, path, started, error)
        except Exception as error:
            self._broken(trace, path, started, error)
        else:

            def ended(future: asyncio.Future[Result]) -> None:
                self._ended(trace, path, started, future, work.render)

            work.future.add_done_callback(ended)

    def _start(self, line: re.Match[bytes], trace: Trace, headers: dict[str, str], body: bytes) -> Started:
        inference = self._http.inference
        if line[1] is None:
            inference.named(trace, headers)
            return inference.predict(trace, headers, body, self._abandoned)
        version = line[2].decode("ascii") if line[2] is not None else None
        inference.find(trace, headers, line[1].decode("ascii"), version)
        return inference.infer(trace, headers, body, self._abandoned)

    def _ended(
        self,
        trace: Trace,
        path: str,
        started: float,
        future: asyncio.Future[Result],
        render: Callable[[Result], Content],
    ) -> None:
        if future.cancelled():
            self._refuse(trace, path, started, RequestError(499, GONE))
            return
        error = future.exception()
        if isinstance(error, RequestError):
            self._refuse(trace, path, started, error)
            return
        if error is not None:
            self._broken(trace, path, started, error)
            return
        try:
            content = render(future.result())
        except RequestError as wrong:
            self._refuse(trace, path, started, wrong)
        except Exception as wrong:
            self._broken(trace, path, started, wrong)
        else:
            extra = "" if content.head is None else f"Inference-Header-Content-Length: {content.head}\r\n"
            self._write(trace, path, started, 200, content.media_type, content.body, extra, "")

    def _refuse(self, trace: Trace, path: str, started: float, error: RequestError) -> None:
        extra = "" if error.retry_after is None else f"Retry-After: {error.retry_after}\r\n"
        body = error_body(error.message)
        self._write(trace, path, started, error.status, JSON, body, extra, error.message)

    def _broken(self, trace: Trace, path: str, started: float, error: BaseException) -> None:
        self._http.failed(trace, error)
        self._refuse(trace, path, started, RequestError(500, "internal error"))

    def _write(
        self, trace: Trace, path: str, started: float, status: int, kind: str, body: bytes, extra: str,
        problem: str,
    ) -> None:  # fmt: skip
        http = self._http
        now = self._loop.time()
        last = http.draining or now > self._life or status == 415
        version = trace.model.spec.version if trace.model is not None else ""
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Server: {SERVER}\r\nX-Request-Id: {trace.id}\r\n"
            f"{f'X-Model-Version: {version}' + chr(13) + chr(10) if version else ''}{extra}"
            f"{'Connection: close' + chr(13) + chr(10) if last else ''}\r\n"
        )
        http.inflight -= 1
        self._busy = False
        self._idle_since = now
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(head.encode("latin-1") + body)
            if last:
                transport.close()
        seconds = perf_counter() - started
        http.counted(trace, status, seconds, problem)
        http.logged(trace, "POST", path, status, seconds, problem)
        if self._paused and transport is not None:
            self._paused = False
            transport.resume_reading()
        if self._buffer:
            # Not from here: a buffer full of short requests would make a tower of calls.
            self._loop.call_soon(self._more)

    def _more(self) -> None:
        if not self._busy and self._buffer and not self._abandoned():
            self._next()

    def _abandoned(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _look(self) -> None:
        """Runs now and then, not at every request: closes what is idle, and gives to aiohttp, which has the
        answers, what does not come to its end.
        """
        self._timer = None
        transport = self._transport
        if transport is None:
            return
        limits = self._owner.limits
        if not self._busy and self._first and _LINE.match(self._buffer) is None:
            self._http.server.slow += 1
            transport.close()
            return
        waited = self._loop.time() - self._idle_since
        if not self._busy and self._buffer and waited >= limits.body_start * 0.99:
            self._hand_over()
            return
        if not self._busy and waited >= limits.idle:
            transport.close()
            return
        self._timer = self._loop.call_later(min(limits.idle, limits.body_start), self._look)

    def _hand_over(self) -> None:
        """aiohttp has this connection from here on, with all that was read and not answered."""
        transport = self._transport
        assert transport is not None
        self._forget()
        self._transport = None
        handler = self._http.server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        data, self._buffer = self._buffer, b""
        handler.data_received(data)

    def _forget(self) -> None:
        self._owner.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _may_become(buffer: bytes) -> bool:
    """The start of a request line that could be ours."""
    start = buffer[:5]
    return b"POST /"[: len(start)].startswith(start)


def _read(data: bytes) -> _Head | None:
    """A whole header as httptools reads it; None when it is not of the usual kind."""
    if b"\r\n " in data or b"\r\n\t" in data:
        return None  # folded lines
    head = _Head()
    try:
        httptools.HttpRequestParser(head).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    length = head.headers.get("Content-Length", "")
    if not (head.ours and head.complete and length.isascii() and length.isdigit() and len(length) <= 12):
        return None
    return head
