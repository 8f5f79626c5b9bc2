"""What can go wrong, by name. `ApiError` is the server's answer, `TransportError` the lack of one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ._objects import JSON


class ControllerRuntimeError(Exception):
    """Base of every error raised by this library."""


class ApiError(ControllerRuntimeError):
    """The API server answered with a failure.

    `status` is the HTTP code, `reason` the machine-readable word ("AlreadyExists"), `message` the server's
    text, `details` Status.details, `retry_after` the seconds the server asked to wait, or None.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        details: Mapping[str, object] | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, object] = details or {}
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.reason or type(self).__name__}: {self.message or 'no message'}"


class BadRequest(ApiError):
    """400: the request itself is malformed."""


class Unauthorized(ApiError):
    """401: the credentials are missing, expired or revoked."""


class Forbidden(ApiError):
    """403: RBAC (or admission) says no; the message names verb, resource and user."""

    @property
    def namespace_terminating(self) -> bool:
        """The namespace is on its way out: nothing can be created in it, and what asked for it goes too."""
        causes = self.details.get("causes")
        return isinstance(causes, list) and any(
            isinstance(cause, Mapping) and cause.get("reason") == "NamespaceTerminating" for cause in causes
        )


class NotFound(ApiError):
    """404: no such object, or no such resource type."""


class Conflict(ApiError):
    """409: a precondition (resourceVersion, uid) does not hold, or an apply met a field of another owner."""


class AlreadyExists(ApiError):
    """409 on create: the name is taken."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old to serve."""


class Invalid(ApiError):
    """422: the object does not pass validation; `details["causes"]` names the fields."""


class TooManyRequests(ApiError):
    """429: priority and fairness (or an eviction budget) asks to come back after `retry_after`."""


class ServerError(ApiError):
    """500-599: the server failed; the request may or may not have been carried out."""


class ServerTimeout(ServerError):
    """500 ServerTimeout or 504: the server gave up in time; the request may still be carried out."""


class TransportError(ControllerRuntimeError):
    """No complete answer came: connection refused, reset, TLS failure. A write may have been carried out."""


class RequestTimeout(TransportError):
    """No complete answer before the request's deadline. A write may have been carried out."""


class NotLeader(ControllerRuntimeError):
    """A write was refused locally because this process does not hold the lease (any more)."""


class NotCached(ControllerRuntimeError):
    """A cached read asked for a kind, shape or index that the cache was not told to keep."""


class CacheSyncTimeout(ControllerRuntimeError):
    """A cache did not get its first list in time; the message names each kind and its last error."""


class TerminalError(ControllerRuntimeError):
    """Raised by a reconciler: retrying cannot help. Wait for the next event instead."""


_BY_REASON: dict[str, type[ApiError]] = {
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Expired": Gone,
    "Gone": Gone,
    "ServerTimeout": ServerTimeout,
    "Timeout": ServerTimeout,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    504: ServerTimeout,
}


def error_from_status(status: JSON, *, code: int = 0, retry_after: float | None = None) -> ApiError:
    """The exception for a `Status` object; `code` stands in when the object has none."""
    number = status.get("code") or code
    reason = status.get("reason") or ""
    fallback = ServerError if number >= 500 else ApiError
    cls = _BY_REASON.get(reason) or _BY_STATUS.get(number, fallback)
    details = status.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    return cls(number, reason, status.get("message") or "", details, retry_after=retry_after)


def error_from_response(code: int, body: bytes, *, retry_after: float | None = None) -> ApiError:
    """The exception for a failed response, whether its body is a `Status` or a proxy's page."""
    try:
        status = msgspec.json.decode(body, type=dict)
    except (msgspec.DecodeError, msgspec.ValidationError):
        status = {}
    if status.get("kind") != "Status":
        status = {"message": body[:200].decode("utf-8", "replace").strip()}
    return error_from_status(status, code=code, retry_after=retry_after)


def too_large_resource_version(error: ApiError) -> bool:
    """The server has not yet seen the resourceVersion that a list asked for (another replica had)."""
    causes = error.details.get("causes")
    if isinstance(causes, list) and any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes):
        return True
    return error.status in (500, 504) and "Too large resource version" in error.message
