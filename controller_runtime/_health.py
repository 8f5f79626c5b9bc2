"""Health endpoints in the manner of the API server's, and the HTTP server that they and the metrics share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import structlog

if TYPE_CHECKING:
    from aiohttp import web  # when there is something to serve: its import takes 50 ms

_log = structlog.get_logger("controller_runtime.health")

Check: TypeAlias = Callable[[], "str | Awaitable[str | None] | None"]
"""Returns None (or "") when all is well, else the reason, one line. May be a coroutine function; raising
counts as failing."""

Handler: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"

CHECK_TIMEOUT = 5.0


class Checks:
    """Named checks behind one endpoint.

    `GET /<path>` answers 200 `ok`, or 500 and one line a check. `?verbose` lists them when all is well too,
    `?exclude=<name>` (repeatable) leaves one out, `/<path>/<name>` asks one alone. Reasons go to the log and
    not over the wire. An endpoint without checks is healthy while it answers.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._checks: dict[str, Check] = {}
        self._failing: dict[str, str] = {}

    def add(self, name: str, check: Check) -> None:
        """Add a check. Raises ValueError for a name that is taken or would not fit in a path."""
        if not name or "/" in name:
            raise ValueError(f"check name {name!r}: use a word without a slash")
        if name in self._checks:
            raise ValueError(f"check name {name!r} is taken")
        self._checks[name] = check

    async def run(self, name: str) -> str:
        """The reason why check `name` fails, or ""."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                outcome = self._checks[name]()
                if inspect.isawaitable(outcome):
                    outcome = await outcome
            reason = outcome or ""
        except TimeoutError:
            reason = f"no answer within {CHECK_TIMEOUT:g} s"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        before = self._failing.get(name, "")
        if reason and reason != before:
            _log.warning("health check failed", path=self.path, check=name, reason=reason)
        elif before and not reason:
            _log.info("health check passes again", path=self.path, check=name)
        self._failing[name] = reason
        return reason

    async def handle(self, request: web.Request) -> web.Response:
        from aiohttp import web

        name = request.match_info.get("name", "")
        if name:
            if name not in self._checks:
                return web.Response(status=404, text=f"no check named {name}\n")
            if await self.run(name):
                return web.Response(status=500, text="internal server error: reason withheld\n")
            return web.Response(text="ok")
        excluded = set(request.query.getall("exclude", []))
        lines = []
        failed = False
        for check in self._checks:
            if check in excluded:
                excluded.discard(check)
                lines.append(f"[+]{check} excluded: ok")
            elif await self.run(check):
                failed = True
                lines.append(f"[-]{check} failed: reason withheld")
            else:
                lines.append(f"[+]{check} ok")
        if excluded:
            names = ", ".join(f'"{unknown}"' for unknown in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        title = self.path.strip("/")
        if failed:
            return web.Response(status=500, text="\n".join([*lines, f"{title} check failed\n"]))
        if "verbose" in request.query:
            return web.Response(text="\n".join([*lines, f"{title} check passed\n"]))
        return web.Response(text="ok")

    def routes(self) -> Mapping[str, Handler]:
        return {self.path: self.handle, f"{self.path}/{{name}}": self.handle}


def parse_address(address: str) -> tuple[str | None, int]:
    """("host" or None for every interface, port) of "host:port", ":port" or "[v6]:port"; port 0 takes any.

    Raises ValueError naming the address.
    """
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {address!r}: use host:port or :port")
    return host or None, int(port)


class HttpServer:
    """GET routes on one address. `async with` it; requests are served in the running event loop."""

    def __init__(self, address: str, routes: Mapping[str, Handler]) -> None:
        self._host, self._port = parse_address(address)
        self._routes = routes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be bound."""
        from aiohttp import web

        app = web.Application()
        for path, handler in self._routes.items():
            app.router.add_get(path, handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the listener and end the connections; waits up to 1 s for requests in flight."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The port it listens on; meaningful after `start`."""
        if self._runner is None or not self._runner.addresses:
            return self._port
        return int(self._runner.addresses[0][1])
