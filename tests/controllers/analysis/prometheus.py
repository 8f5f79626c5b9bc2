"""A Prometheus server that answers what a test says."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from controllers.analysis.answer import LABEL
from controllers.analysis.promql import BETWEEN

BATCHED = re.compile(rf'label_replace\(\((.*)\), "{LABEL}", "(.*)", "", ""\)', re.DOTALL)
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
        async with asyncio.timeout(60):
            for _ in range(count):
                await self.arrived.acquire()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append(form)
        self.headers.append(dict(request.headers))
        query, at = form["query"], float(form["time"])
        parts = questions(query)
        self.asked += [(text, at) for text in parts.values()]
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
        result: list[object] = []
        for name, text in parts.items():
            reply = self.reply(text, at)
            if isinstance(reply, tuple):  # one that is wrong spoils all
                return _told(*reply)
            if reply is not None:
                labels = {LABEL: name} if name else {}
                result.append({"metric": labels, "value": [at, repr(float(reply))]})
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def questions(query: str) -> dict[str, str]:
    """The queries of a batch by name; one that is none has the name ""."""
    parts = [BATCHED.fullmatch(part) for part in query.split(BETWEEN)]
    found = {part.group(2): part.group(1) for part in parts if part is not None}
    return found if len(found) == len(parts) else {"": query}


def _told(status: int, body: object) -> web.Response:
    if isinstance(body, str):
        headers = {"Location": body} if 300 <= status < 400 else {}
        return web.Response(status=status, text=body, headers=headers)
    return web.json_response(body, status=status)


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
