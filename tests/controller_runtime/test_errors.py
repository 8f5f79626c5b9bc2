"""Status objects and responses become the exception with the right name."""

from __future__ import annotations

import pytest

from controller_runtime import errors
from controller_runtime.errors import error_from_response, error_from_status, too_large_resource_version


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (410, "Gone", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (500, "ServerTimeout", errors.ServerTimeout),
        (503, "ServiceUnavailable", errors.ServerError),
        (504, "Timeout", errors.ServerTimeout),
        (405, "MethodNotAllowed", errors.ApiError),
    ],
)
def test_names(code: int, reason: str, expected: type[errors.ApiError]) -> None:
    error = error_from_status({"code": code, "reason": reason, "message": "m", "details": {"uid": "u"}})
    assert type(error) is expected
    assert (error.status, error.reason, error.message, error.details) == (code, reason, "m", {"uid": "u"})
    assert str(error) == f"{code} {reason}: m"


def test_a_proxys_page_is_an_error_too() -> None:
    error = error_from_response(503, b"<html>upstream gone</html>", retry_after=2.0)
    assert isinstance(error, errors.ServerError)
    assert error.message == "<html>upstream gone</html>"
    assert error.retry_after == 2.0
    assert str(error_from_response(502, b"")) == "502 ServerError: no message"
    assert error_from_response(404, b'{"kind": "Pod"}').message == '{"kind": "Pod"}'


def test_retry_after_from_the_details() -> None:
    assert error_from_status({"code": 429, "details": {"retryAfterSeconds": 3}}).retry_after == 3.0


def test_too_large_resource_version() -> None:
    cause = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    assert too_large_resource_version(error_from_status({"code": 504, "details": cause}))
    assert too_large_resource_version(
        error_from_status({"code": 500, "message": "Too large resource version: 5"})
    )
    assert not too_large_resource_version(error_from_status({"code": 504, "message": "slow"}))
