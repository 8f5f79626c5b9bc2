"""aiohttp's low-level server with the limits it does not have: a time for headers, a life for connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

JSON = "application/json"


def error_body(message: str) -> bytes:
    return orjson.dumps({"error": message})


class _Handler(RequestHandler):
    """Answers unreadable requests in the same form as all other errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        text = "the request is not readable HTTP" if status < 500 else "internal error"
        detail = (message or "").strip().splitlines()
        if status < 500 and detail:
            text = f"{text}: {detail[0][:200]}"
        response = web.Response(status=status, body=error_body(text), content_type=JSON)
        response.force_close()
        return response


class Server(web.Server):
    """Closes a connection whose first header is not complete within `header` seconds.

    Each connection gets a life of `life` seconds +-20 %: `expired` then says True, and the answer that is
    being given should close it. Without this a client that never reconnects would never see a new replica.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], object],
        *,
        header: float,
        idle: float,
        life: float,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]  # any callable that gives an awaitable response
            keepalive_timeout=idle,
            access_log=None,
            lingering_time=1.0,
        )
        self._header = header
        self._life = life
        self._rng = rng or random.Random()
        self._deadlines: dict[object, float] = {}
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self.slow = 0

    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        self._deadlines[handler] = loop.time() + self._life * self._rng.uniform(0.8, 1.2)
        self._timers[handler] = loop.call_later(self._header, self._too_slow, handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._deadlines.pop(handler, None)
        self._started(handler)
        super().connection_lost(handler, exc)

    def _started(self, handler: object) -> None:
        timer = self._timers.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def began(self, request: web.BaseRequest) -> None:
        """To be called when a request's header was read."""
        if self._timers:
            self._started(request.protocol)

    def expired(self, request: web.BaseRequest, now: float) -> bool:
        return now > self._deadlines.get(request.protocol, now)

    def _too_slow(self, handler: object, transport: asyncio.Transport) -> None:
        self._timers.pop(handler, None)
        self.slow += 1
        transport.close()
