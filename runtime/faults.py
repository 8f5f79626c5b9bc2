"""Slow answers, errors and deaths on purpose, for tests of what watches this server.

Off unless PADDLE_FAULTS is set when the process starts: "on", or the first faults at once, as in
`errors=0.1,latency=0.25`. Then the admin port has GET and PUT /faults. Health, /progress and /metrics stay
as they are, and what is made slow or wrong is counted as if the model had been.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import orjson
from aiohttp import web

from runtime.connections import JSON, error_body
from runtime.errors import RequestError
from runtime.inference import Inference
from runtime.job import Result
from runtime.logs import Logger
from runtime.registry import Registry
from runtime.spec import Limits

VARIABLE = "PADDLE_FAULTS"
#: The exit code of a process that was told to die.
EXIT = 70
_LONGEST = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """errors: share of the requests that get a 500. latency: seconds added to every answer. exit: seconds
    from now until the process ends without a word; 0 for never.
    """

    errors: float = 0.0
    latency: float = 0.0
    exit: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("errors", 1.0), ("latency", _LONGEST), ("exit", 86400.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise ValueError(f"fault {name}={value} must be from 0 to {most:g}")


def parse(text: str) -> Fault:
    """`errors=0.1,latency=0.25`; "on" is no fault yet. Raises ValueError with one line."""
    if text.strip() == "on":
        return Fault()
    values = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        values[name] = value
    return _fault(values)


def _fault(values: Mapping[str, object]) -> Fault:
    unknown = set(values) - {"errors", "latency", "exit"}
    if unknown:
        raise ValueError(f"fault {min(unknown)!r} is unknown: use errors, latency or exit")
    try:
        return Fault(**{name: float(str(value)) for name, value in values.items()})
    except ValueError as error:
        raise ValueError(f"faults cannot be read: {error}") from None


def allowed(environ: Mapping[str, str]) -> Fault | None:
    """What the environment asks for; None, and no switch at all, if it says nothing."""
    text = environ.get(VARIABLE, "")
    return parse(text) if text else None


class Faults:
    """The switch. Errors are spread evenly: at 0.1 every tenth request fails, whatever the run's length."""

    def __init__(self, fault: Fault, *, die: Callable[[], None] = lambda: os._exit(EXIT)) -> None:
        self.fault = Fault()
        self._die = die
        self._owed = 0.0
        self._death: asyncio.TimerHandle | None = None
        self.set(fault)

    def set(self, fault: Fault) -> None:
        """From the next request on; the countdown of `exit` begins now."""
        self.fault = fault
        self._owed = 0.0
        if self._death is not None:
            self._death.cancel()
            self._death = None
        if fault.exit:
            self._death = asyncio.get_running_loop().call_later(fault.exit, self._die)

    def through(self, future: asyncio.Future[Result]) -> asyncio.Future[Result]:
        """`future` as the faults let it through: later, or as an error 500."""
        fault = self.fault
        self._owed += fault.errors
        broken = self._owed >= 1.0 - 1e-9
        if broken:
            self._owed -= 1.0
        if not broken and not fault.latency:
            return future
        loop = asyncio.get_running_loop()
        outer: asyncio.Future[Result] = loop.create_future()

        def deliver() -> None:
            if outer.done():
                return
            if future.cancelled():
                outer.cancel()
            elif (error := future.exception()) is not None:
                outer.set_exception(error)
            elif broken:
                outer.set_exception(RequestError(500, "a fault was asked for"))
            else:
                outer.set_result(future.result())

        def ended(_: asyncio.Future[Result]) -> None:
            loop.call_later(fault.latency, deliver) if fault.latency else deliver()

        future.add_done_callback(ended)
        return outer

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """GET says what is on; PUT replaces all of it, with JSON of the same form."""
        if request.method == "PUT":
            try:
                wanted = orjson.loads(await request.read())
                if not isinstance(wanted, dict):
                    raise ValueError("faults must be a JSON object")
                self.set(_fault(wanted))
            except ValueError as error:
                return web.Response(status=400, body=error_body(str(error)), content_type=JSON)
        elif request.method not in ("GET", "HEAD"):
            return web.Response(status=405, body=error_body("use GET or PUT"), content_type=JSON)
        return web.Response(body=orjson.dumps(asdict(self.fault)), content_type=JSON)


class FaultyInference(Inference):
    """Inference whose answers go through the switch."""

    def __init__(self, registry: Registry, limits: Limits, faults: Faults) -> None:
        super().__init__(registry, limits)
        self._faults = faults

    def submit(self, *arguments: object, **options: object) -> asyncio.Future[Result]:
        return self._faults.through(super().submit(*arguments, **options))  # type: ignore[arg-type]


def install(
    environ: Mapping[str, str], registry: Registry, limits: Limits, log: Logger
) -> tuple[Inference, Faults] | None:
    """What replaces the service's own inference, if faults are allowed. Raises ValueError."""
    fault = allowed(environ)
    if fault is None:
        return None
    log.warning("faults are allowed: this server is for tests only", **asdict(fault))
    faults = Faults(fault)
    return FaultyInference(registry, limits, faults), faults
