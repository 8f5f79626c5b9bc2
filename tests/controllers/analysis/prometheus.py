"""A Prometheus server that answers what a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Reply = tuple[int, object] | float | None


@dataclass
class Scripted:
    """`reply` gets the query and its time: a number, None for no series, or (status, body). hang: until
    released.
    """

    reply: Callable[[str, float], Reply] = lambda query, at: 1.0
    hang: asyncio.Event | None = None
    asked: list[tuple[str, float]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    url: str = ""
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def arrive(self, count: int = 1) -> None:
        """Until so many more queries are here."""
        async with asyncio.timeout(20):
            for _ in range(count):
                await self.arrived.acquire()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append(form)
        self.headers.append(dict(request.headers))
        query, at = form["query"], float(form["time"])
        self.asked.append((query, at))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.arrived.release()
        try:
            if self.hang is not None:
                await self.hang.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        reply = self.reply(query, at)
        if isinstance(reply, tuple):
            status, body = reply
            if isinstance(body, str):
                headers = {"Location": body} if 300 <= status < 400 else {}
                return web.Response(status=status, text=body, headers=headers)
            return web.json_response(body, status=status)
        result = [] if reply is None else [{"metric": {}, "value": [at, repr(float(reply))]}]
        data = {"resultType": "vector", "result": result}
        return web.json_response({"status": "success", "data": data})


@asynccontextmanager
async def serving(scripted: Scripted, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    app = web.Application()
    app.router.add_post("/prefix/api/v1/query", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        scripted.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/prefix"
        yield scripted
    finally:
        if scripted.hang is not None:
            scripted.hang.set()
        await runner.cleanup()
