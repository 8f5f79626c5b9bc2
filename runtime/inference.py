"""From a body to an admitted request and from its result to an answer: what all HTTP paths share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.codec import predict, v2
from runtime.codec.request import Parsed, load_object
from runtime.codec.tensors import Buffer
from runtime.errors import RequestError
from runtime.job import Result
from runtime.model import Model
from runtime.ondemand import NotLoaded
from runtime.registry import Registry
from runtime.spec import Limits
from runtime.telemetry.mark import Mark

JSON = "application/json"
BINARY = "application/octet-stream"

_JSON_TYPES = {"application/json", "text/json"}
# What HTTP clients send when nothing is said; the body is still read as JSON.
_UNSAID = {"", "application/x-www-form-urlencoded"}
_BINARY_TYPES = {BINARY, "application/vnd.sagemaker-triton.binary+json"}


class Trace:
    """What is known of a request while it is answered: its id, and the model once it is found."""

    __slots__ = ("id", "mark", "model", "name", "version", "waited")

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.model: Model | None = None
        self.name: str | None = None  # of a model that has to be loaded first
        self.version: str | None = None  # what was asked for
        self.waited = 0.0  # seconds for a model to be loaded
        self.mark: Mark | None = None  # only when the request is traced


@dataclass(frozen=True, slots=True)
class Content:
    """The body of a 200; `head` is the length of its JSON part when binary data follows it."""

    body: bytes
    head: int | None = None

    @property
    def media_type(self) -> str:
        return JSON if self.head is None else BINARY


@dataclass(frozen=True, slots=True)
class Started:
    """An admitted request: `future` ends within its deadline, `render` turns its result into the answer."""

    future: asyncio.Future[Result]
    render: Callable[[Result], Content]


def check_media_type(headers: Mapping[str, str], *, binary: bool) -> None:
    """Raises RequestError(415) for a Content-Type that no body of ours has."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in _JSON_TYPES or kind in _UNSAID or (binary and kind in _BINARY_TYPES):
        return
    wanted = JSON + (f" or {BINARY}" if binary else "")
    raise RequestError(415, f"Content-Type {kind[:80]!r} is not supported; send {wanted}")


class Inference:
    """`headers` are looked up by their canonical names (Content-Type, X-Request-Timeout, ...)."""

    def __init__(self, registry: Registry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._waiting: set[asyncio.Task[Result]] = set()  # the loop itself keeps no task alive

    def named(self, trace: Trace, headers: Mapping[str, str]) -> None:
        """The checks of /predict before its body is read."""
        check_media_type(headers, binary=False)
        if len(self._registry.models) == 1 and self._registry.on_demand is None:
            trace.model = self._registry.find(None)

    def predict(
        self, trace: Trace, headers: Mapping[str, str], body: Buffer, abandoned: Callable[[], bool]
    ) -> Started:
        """Raises RequestError."""
        document = load_object(body)
        name = document.get("model")
        if name is not None and not isinstance(name, str):
            raise RequestError(400, "model must be a string")
        try:
            model = trace.model = self._registry.find(name)
        except NotLoaded as needed:
            return self._later(
                trace, needed.name, headers, lambda: self.predict(trace, headers, body, abandoned)
            )
        parsed = predict.parse(document, model.known_signature())
        request_id = parsed.id or trace.id

        def render(result: Result) -> Content:
            spec = model.spec
            return Content(
                predict.render(result.outputs, model=spec.name, version=spec.version, request_id=request_id)
            )

        return Started(self._submit(model, parsed, headers, abandoned, trace), render)

    def find(self, trace: Trace, headers: Mapping[str, str], name: str, version: str | None) -> None:
        """The checks of infer before its body is read."""
        try:
            trace.model = self._registry.find(name, version)
        except NotLoaded as needed:
            trace.name = needed.name
        trace.version = version
        check_media_type(headers, binary=True)

    def infer(
        self, trace: Trace, headers: Mapping[str, str], body: Buffer, abandoned: Callable[[], bool]
    ) -> Started:
        """Raises RequestError. `find` was called before."""
        model, name = trace.model, trace.name
        if model is None or model.retired:  # its body took longer than the generation had left
            try:
                name = model.spec.name if model is not None else name
                model = trace.model = self._registry.find(name, trace.version)
            except NotLoaded as needed:
                return self._later(
                    trace, needed.name, headers, lambda: self.infer(trace, headers, body, abandoned)
                )
        parsed = v2.parse(body, headers.get(v2.HEADER_LENGTH), model.known_signature())
        request_id = parsed.id or trace.id

        def render(result: Result) -> Content:
            spec = model.spec
            content, head = v2.render(
                parsed, result.outputs, model=spec.name, version=spec.version, request_id=request_id
            )
            return Content(content, head)

        return Started(self._submit(model, parsed, headers, abandoned, trace), render)

    async def bring(self, trace: Trace, name: str | None, timeout: float) -> None:
        """Has a model that comes on demand loaded, if it is not there. Raises RequestError."""
        on_demand = self._registry.on_demand
        if on_demand is None:
            return
        try:
            self._registry.find(name)
        except NotLoaded as needed:
            began = asyncio.get_running_loop().time()
            await on_demand.load(needed.name, min(timeout, self._limits.request))
            trace.waited += asyncio.get_running_loop().time() - began

    def _later(
        self, trace: Trace, name: str, headers: Mapping[str, str], begin: Callable[[], Started]
    ) -> Started:
        """What `begin` starts, once the model is loaded."""
        begun: list[Started] = []
        timeout = _header_timeout(headers)

        async def load() -> Result:
            await self.bring(trace, name, timeout - trace.waited)
            begun.append(begin())
            return await begun[0].future

        task = asyncio.create_task(load())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return Started(task, lambda result: begun[0].render(result))

    def submit(
        self,
        model: Model,
        parsed: Parsed,
        timeout: float,
        abandoned: Callable[[], bool],
        mark: Mark | None = None,
        waited: float = 0.0,
    ) -> asyncio.Future[Result]:
        """Admits a checked request; it ends within `timeout` seconds, its own and the server's limit, less
        what it has `waited` already. Raises RequestError.
        """
        most = self._limits.request
        limit = min(most, timeout, parsed.timeout or most)
        if waited:
            limit -= waited
            if limit <= 0:
                raise RequestError(504, f"model {model.spec.name!r} was loaded after the deadline")
        future = model.submit(parsed.inputs, timeout=limit, abandoned=abandoned, mark=mark)
        if mark is not None:
            mark.admitted()
        return future

    def _submit(
        self,
        model: Model,
        parsed: Parsed,
        headers: Mapping[str, str],
        abandoned: Callable[[], bool],
        trace: Trace,
    ) -> asyncio.Future[Result]:
        return self.submit(model, parsed, _header_timeout(headers), abandoned, trace.mark, trace.waited)


def _header_timeout(headers: Mapping[str, str]) -> float:
    text = headers.get("X-Request-Timeout")
    if text is None:
        return float("inf")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise RequestError(400, f"X-Request-Timeout {text[:40]!r} must be a number of seconds above 0")
    return seconds
