"""V2's repository extension on the admin port: index, load and unload."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

import orjson
from aiohttp import web

from runtime.connections import JSON, error_body
from runtime.reload import Reloader

_BODY = 64 * 1024


class Repository:
    """Who connects from this machine may load and unload, and who has the token, if there is one; the index
    is for everybody who reaches the port.

    `load` answers when the newest desired version serves, or with why it does not; what served before then
    still does.
    """

    def __init__(self, reloader: Reloader, *, token: str = "") -> None:
        self._reloader = reloader
        self._registry = reloader.registry
        self._token = token

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            refused = _error(405, f"{request.method} is not allowed here; use POST")
            refused.headers["Allow"] = "POST"
            return refused
        parts = request.path.split("/")[3:]
        if parts == ["index"]:
            return await self._index(request)
        if len(parts) != 3 or parts[0] != "models" or parts[2] not in ("load", "unload"):
            return _error(404, "try /v2/repository/index or /v2/repository/models/<model>/load or unload")
        if not self._allowed(request):
            return _error(
                403, "load and unload are for this machine, or with the token of --admin-token-file"
            )
        if self._registry.draining:
            return _error(503, "the server is draining")
        return await (self._load if parts[2] == "load" else self._unload)(parts[1])

    def _allowed(self, request: web.BaseRequest) -> bool:
        if self._token:
            given = request.headers.get("Authorization", "")
            return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())
        try:
            address = ip_address((request.remote or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback

    async def _index(self, request: web.BaseRequest) -> web.Response:
        if (request.content_length or 0) > _BODY or request.headers.get("Transfer-Encoding"):
            return _error(413, 'the body may only be {"ready": true or false}')
        try:
            wanted = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError:
            wanted = None
        ready = wanted.get("ready", False) if isinstance(wanted, dict) else None
        if not isinstance(ready, bool):
            return _error(400, "ready must be true or false")
        return _json(self._registry.index(ready=ready))

    async def _load(self, name: str) -> web.Response:
        try:
            error = await self._reloader.load(name)
        except KeyError:
            return _error(404, f"model {name[:100]!r} is not in the desired state of this server")
        except TimeoutError:
            return _error(503, "the desired state could not be read in time")
        if error is not None:
            return _error(400, f"{error.reason.value}: {error.message}")
        if self._registry.problem:
            return _error(400, f"the desired state is not readable: {self._registry.problem}")
        spec = self._registry.models[name].spec
        return _json({"name": name, "version": spec.version, "digest": spec.digest, "state": "READY"})

    async def _unload(self, name: str) -> web.Response:
        try:
            await self._reloader.unload(name)
        except KeyError:
            return _error(404, f"model {name[:100]!r} is not loaded")
        return _json({"name": name, "state": "UNAVAILABLE"})


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type=JSON)


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=error_body(message), content_type=JSON)
