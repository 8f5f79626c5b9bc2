"""What every method of the gRPC port shares: codes, counting, logging, deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import NoReturn, Protocol, TypeVar

import grpc

from runtime.errors import Code, RequestError
from runtime.http import Http, request_id
from runtime.inference import Trace
from runtime.job import Result

STATUS = {status.value[0]: status for status in grpc.StatusCode}
Response = TypeVar("Response")


class Context(Protocol):
    """The part of grpc.aio's ServicerContext that is used here."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...
    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str], ...]) -> None: ...
    def time_remaining(self) -> float | None: ...
    def cancelled(self) -> bool: ...
    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> NoReturn: ...


class Call(Trace):
    """One request of a call while it is answered. `metadata` is the call's, and wins over what is `given` in
    the request itself.
    """

    __slots__ = ("started",)

    def __init__(self, metadata: Mapping[str, str], given: Mapping[str, str]) -> None:
        own = given.get("request_id", "") or given.get("trace_id", "")
        super().__init__(request_id(metadata.get("x-request-id", "") or own))
        self.started = perf_counter()


class Calls:
    """`http` is the front's: requests of both ports are counted, logged and drained as one."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def infer(
        self,
        context: Context,
        method: str,
        given: Mapping[str, str],
        answer: Callable[[Call], Awaitable[Response]],
    ) -> Response:
        """Runs `answer` as one inference request. A RequestError becomes the call's status."""
        call = self.began(method, metadata_of(context), given)
        try:
            response = await answer(call)
        except RequestError as error:
            self.ended(call, method, error.code, error.message)
            await _abort(context, call, error)
        except asyncio.CancelledError:
            self.ended(call, method, *left(context, perf_counter() - call.started))
            raise
        except Exception as error:
            self.http.failed(call, error)
            internal = RequestError(500, "internal error")
            self.ended(call, method, internal.code, internal.message)
            await _abort(context, call, internal)
        context.set_trailing_metadata(_trailing(call))
        self.ended(call, method, Code.OK, "")
        return response

    async def ask(self, context: Context, method: str, answer: Callable[[], Response]) -> Response:
        """Runs `answer`, which waits for nothing: metadata, health, statistics."""
        try:
            return answer()
        except RequestError as error:
            call = Call(metadata_of(context), {})
            self.http.logged(call, "gRPC", method, error.status, 0.0, error.message)
            await _abort(context, call, error)

    def began(self, method: str, metadata: Mapping[str, str], given: Mapping[str, str]) -> Call:
        """A request is in work; it is to be `ended`."""
        http = self.http
        call = Call(metadata, given)
        http.inflight += 1
        http.last_request = asyncio.get_running_loop().time()
        if http.tracing is not None:
            traceparent = metadata.get("traceparent") or given.get("traceparent")
            call.mark = http.tracing.begin(traceparent, method[1:])
        return call

    def ended(self, call: Call, method: str, code: Code, problem: str) -> None:
        seconds = perf_counter() - call.started
        self.http.inflight -= 1
        self.http.counted(call, code.http, seconds, problem)
        self.http.logged(call, "gRPC", method, code.http, seconds, problem)


async def outcome(future: asyncio.Future[Result]) -> Result:
    """The result of an admitted request. When the call ends before, so does the request: its future is
    cancelled with the task that waits here.
    """
    return await future


def metadata_of(context: Context) -> dict[str, str]:
    """The call's metadata; what comes twice counts as it came last, and binary values are left out."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def remaining(context: Context) -> float:
    """Seconds until the client's deadline, infinite without one. Raises RequestError(504) when it is over."""
    seconds = context.time_remaining()
    if seconds is None:
        return float("inf")
    if seconds <= 0:
        raise RequestError(504, "the call's deadline is over")
    return seconds


def left(context: Context, lasted: float) -> tuple[Code, str]:
    """Why a call of `lasted` seconds was ended from outside: by its deadline or by its client.

    A client's clock runs from before the call comes here, and the wire has its timeout rounded up: its
    deadline reaches us as the end of the call, a little before our own clock has it.
    """
    seconds = context.time_remaining()
    if seconds is not None and seconds <= min(0.1, 0.1 * lasted):
        return Code.DEADLINE, "the call's deadline is over"
    return Code.CANCELLED, "the client ended the call"


def _trailing(call: Call) -> tuple[tuple[str, str], ...]:
    found = (("x-request-id", call.id),)
    version = call.model.spec.version if call.model is not None else ""
    return (*found, ("x-model-version", version)) if version else found


async def _abort(context: Context, call: Call, error: RequestError) -> NoReturn:
    trailing = _trailing(call)
    if error.retry_after is not None:
        # The second one is what gRPC clients with a retry policy obey.
        seconds = error.retry_after
        trailing += (("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000)))
    await context.abort(STATUS[error.code.grpc], error.message, trailing)
