"""The service port: /predict, /v2 and health. Every answer that is no success is {"error": "..."}."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from os import urandom
from time import perf_counter
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from runtime.body import read_body
from runtime.codec import v2
from runtime.codec.request import load_object
from runtime.connections import JSON, Server, error_body
from runtime.errors import GONE, RequestError
from runtime.inference import Inference, Started, Trace
from runtime.logs import Logger
from runtime.model import Model
from runtime.openapi import document
from runtime.registry import Registry
from runtime.signature import Wire
from runtime.spec import Limits

if TYPE_CHECKING:
    from runtime.telemetry.tracing import Tracing

VERSION = "0.1.0"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
SERVER = "paddle-runtime"
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]


class Exchange(Trace):
    """One request of aiohttp's while it is answered."""

    __slots__ = ("request", "started")

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__(request_id(request.headers.get("X-Request-Id", "")))
        self.request = request
        self.started = perf_counter()

    def abandoned(self) -> bool:
        transport = self.request.transport
        return transport is None or transport.is_closing()


def request_id(given: str) -> str:
    """The client's own id if it is one line of visible characters, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else urandom(16).hex()


def span_name(path: str) -> str:
    """What a request is called in a trace: no model's name, or there would be too many."""
    return "POST /predict" if path == "/predict" else "POST /v2/models/{model}/infer"


Route = Callable[[Exchange], Awaitable[web.Response]]


class Http:
    """Routes and answers. `inflight` and `last_request` (the loop's time) are what draining watches."""

    def __init__(self, registry: Registry, limits: Limits, log: Logger) -> None:
        self._registry = registry
        self._limits = limits
        self._log = log
        self._access_log = log.bind().is_enabled_for(logging.INFO)
        self.inference = Inference(registry, limits)
        self.tracing: Tracing | None = None
        self.inflight = 0
        self.last_request = 0.0
        self.server = Server(self.handle, header=limits.header, idle=limits.idle, life=limits.connection_life)
        self._exact: dict[str, tuple[str, Route]] = {
            "/predict": ("POST", self._predict),
            "/healthz": ("GET", self._ready),
            "/livez": ("GET", self._live),
            "/v2": ("GET", self._server_metadata),
            "/v2/": ("GET", self._server_metadata),
            "/v2/health/live": ("GET", self._live),
            "/v2/health/ready": ("GET", self._ready),
            "/v2/repository/index": ("POST", self._index),
            "/openapi.json": ("GET", self._openapi),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        self.server.began(request)
        exchange = Exchange(request)
        method, route = self._route(request.path)
        inference = method == "POST" and not request.path.startswith("/v2/repository/")
        self.inflight += 1
        if inference:
            self.last_request = now
            if self.tracing is not None:
                exchange.mark = self.tracing.begin(
                    request.headers.get("Traceparent"), span_name(request.path)
                )
        problem = ""
        try:
            if request.method != method and not (method == "GET" and request.method == "HEAD"):
                raise RequestError(405, f"{request.method} is not allowed on {request.path}; use {method}")
            response = await route(exchange)
        except RequestError as error:
            problem = error.message
            response = self._error(error)
            if error.status == 405:
                response.headers["Allow"] = method
        except Exception as error:
            self.failed(exchange, error)
            problem = "internal error"
            response = self._error(RequestError(500, problem))
        finally:
            self.inflight -= 1
        self._finish(exchange, response, now, inference, problem)
        return response

    def _finish(
        self, exchange: Exchange, response: web.Response, now: float, inference: bool, problem: str
    ) -> None:
        headers = response.headers
        headers["Server"] = SERVER
        headers["X-Request-Id"] = exchange.id
        if self._registry.draining or self.server.expired(exchange.request, now):
            response.force_close()
        model = exchange.model
        if model is not None and model.spec.version:
            headers["X-Model-Version"] = model.spec.version
        if not inference and (response.status < 400 or response.status == 503):
            return  # a probe's answer while loading is no event
        seconds = perf_counter() - exchange.started
        if inference:
            self.counted(exchange, response.status, seconds, problem)
        request = exchange.request
        self.logged(exchange, request.method, request.path, response.status, seconds, problem)

    def counted(self, trace: Trace, status: int, seconds: float, problem: str) -> None:
        """A request's end, to metrics and to its trace."""
        model = trace.model
        (model.metrics if model is not None else self._registry.unknown).answered(status, seconds)
        if trace.mark is not None and self.tracing is not None:
            attributes: dict[str, str | int | float] = {"request_id": trace.id, "status_code": status}
            if model is not None:
                attributes |= {"model": model.spec.name, "model_version": model.spec.version}
            if problem:
                attributes["error.message"] = problem
            self.tracing.end(trace.mark, attributes, problem if status >= 500 else "")

    def logged(self, trace: Trace, method: str, path: str, status: int, seconds: float, problem: str) -> None:
        """The access log's line."""
        if not self._access_log:
            return
        model = trace.model
        values: dict[str, object] = {
            "request_id": trace.id,
            "model": model.spec.name if model is not None else "",
            "model_version": model.spec.version if model is not None else "",
            "method": method,
            "path": path,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
        }
        if problem:
            values["error"] = problem
        if trace.mark is not None and self.tracing is not None:
            values["trace_id"] = self.tracing.id(trace.mark)
        self._log.info("request", **values)

    def failed(self, trace: Trace, error: BaseException) -> None:
        """A fault of ours, with its traceback."""
        self._log.error("request handler failed", request_id=trace.id, exc_info=error)

    @property
    def draining(self) -> bool:
        return self._registry.draining

    def _error(self, error: RequestError) -> web.Response:
        response = web.Response(status=error.status, body=error_body(error.message), content_type=JSON)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        if error.status in (408, 411, 413, 415):
            response.force_close()  # the rest of the body was not read
        return response

    def _route(self, path: str) -> tuple[str, Route]:
        found = self._exact.get(path)
        if found is not None:
            return found
        parts = path.split("/")
        if parts[:3] != ["", "v2", "models"] or len(parts) < 4 or not parts[3]:
            return ("GET", _not_found)
        name, rest = parts[3], parts[4:]
        version: str | None = None
        if rest[:1] == ["versions"] and len(rest) >= 2:
            version, rest = rest[1], rest[2:]
        if rest == ["infer"]:
            return ("POST", lambda exchange: self._infer(exchange, name, version))
        if rest == ["ready"]:
            return ("GET", lambda exchange: self._model_ready(exchange, name, version))
        if rest == ["stats"]:
            return ("GET", lambda exchange: self._statistics(exchange, name, version))
        if rest == [] and name == "stats" and name not in self._registry.models:
            return ("GET", lambda exchange: self._statistics(exchange, None, None))
        if rest == []:
            return ("GET", lambda exchange: self._model_metadata(exchange, name, version))
        return ("GET", _not_found)

    # Inference.

    async def _predict(self, exchange: Exchange) -> web.Response:
        headers = exchange.request.headers
        self.inference.named(exchange, headers)
        body = await self._body(exchange)
        return await _answer(self.inference.predict(exchange, headers, body, exchange.abandoned))

    async def _infer(self, exchange: Exchange, name: str, version: str | None) -> web.Response:
        headers = exchange.request.headers
        self.inference.find(exchange, headers, name, version)
        body = await self._body(exchange)
        return await _answer(self.inference.infer(exchange, headers, body, exchange.abandoned))

    async def _body(self, exchange: Exchange) -> bytes:
        body = await read_body(exchange.request, self._limits)
        if exchange.mark is not None:
            exchange.mark.received()
        return body

    # Health and metadata.

    async def _live(self, exchange: Exchange) -> web.Response:
        return _json({"live": True})

    async def _ready(self, exchange: Exchange) -> web.Response:
        reasons = self._registry.reasons()
        if not reasons:
            return _json({"ready": True})
        text = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        return _json({"ready": False, "error": f"not ready: {text}", "reasons": reasons}, status=503)

    async def _server_metadata(self, exchange: Exchange) -> web.Response:
        return _json({"name": SERVER, "version": VERSION, "extensions": EXTENSIONS})

    async def _model_ready(self, exchange: Exchange, name: str, version: str | None) -> web.Response:
        model = exchange.model = self._registry.find(name, version)
        if model.ready:
            return _json({"name": name, "ready": True})
        body = {"name": name, "ready": False, "error": f"model {name!r} is {model.stage.value}"}
        return _json(body, status=503)

    async def _model_metadata(self, exchange: Exchange, name: str, version: str | None) -> web.Response:
        model = exchange.model = self._registry.find(name, version)
        return _json({**metadata(model), "parameters": model.parameters()})

    async def _openapi(self, exchange: Exchange) -> web.Response:
        models = self._registry.models
        signatures = {
            name: models[name].signature if name in models else None for name in self._registry.names()
        }
        return _json(document(signatures, VERSION))

    async def _index(self, exchange: Exchange) -> web.Response:
        body = await read_body(exchange.request, self._limits)
        ready = load_object(body).get("ready", False) if body else False
        if not isinstance(ready, bool):
            raise RequestError(400, "ready must be true or false")
        return web.Response(body=orjson.dumps(self._registry.index(ready=ready)), content_type=JSON)

    async def _statistics(self, exchange: Exchange, name: str | None, version: str | None) -> web.Response:
        return _json({"model_stats": self._registry.statistics(name, version)})


def metadata(model: Model) -> Wire:
    """What V2 says of a model in each of its protocols. Raises RequestError(503) before it is known."""
    return {
        "name": model.spec.name,
        "versions": [model.spec.version] if model.spec.version else [],
        "platform": f"{model.spec.framework}_{model.report.get('format', '')}",
        **model.known_signature().to_wire(),
    }


async def _answer(started: Started) -> web.Response:
    try:
        result = await started.future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RequestError(499, GONE) from None
    content = started.render(result)
    response = web.Response(body=content.body, content_type=content.media_type)
    if content.head is not None:
        response.headers[v2.HEADER_LENGTH] = str(content.head)
    return response


async def _not_found(exchange: Exchange) -> web.Response:
    raise RequestError(
        404, f"{exchange.request.path[:200]} is not served; try /predict or /v2/models/<model>/infer"
    )


def _json(value: dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type=JSON)
