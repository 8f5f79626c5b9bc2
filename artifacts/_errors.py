"""One error for everything that can go wrong with a model file, with a reason a condition can carry."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an artifact cannot be resolved, pulled or read; the value is used as a condition's reason."""

    INVALID_SOURCE = "InvalidSource"
    BUCKET_NOT_FOUND = "BucketNotFound"
    KEY_NOT_FOUND = "KeyNotFound"
    NO_FILES = "NoFiles"
    AMBIGUOUS_KEY = "AmbiguousKey"
    ACCESS_DENIED = "AccessDenied"
    INVALID_CREDENTIALS = "InvalidCredentials"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_INVALID = "SecretInvalid"
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"
    ENDPOINT_FORBIDDEN = "EndpointForbidden"
    TLS_ERROR = "TLSError"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    SIZE_MISMATCH = "SizeMismatch"
    CONTENT_CHANGED = "ContentChanged"
    NO_SPACE = "NoSpace"
    STALLED = "Stalled"
    UNSAFE_ARCHIVE = "UnsafeArchive"
    TIMEOUT = "Timeout"
    PULL_FAILED = "PullFailed"


# Trying the same request again a moment later can help with these only; all others need a person or a new
# resolve.
_RETRYABLE = frozenset({Reason.ENDPOINT_UNREACHABLE, Reason.STALLED, Reason.TIMEOUT, Reason.PULL_FAILED})


class ArtifactError(Exception):
    """Carries `reason`, a one-line `message` naming what, where and the remedy, and whether a retry can
    help.
    """

    def __init__(self, reason: Reason, message: str, *, retryable: bool | None = None) -> None:
        self.reason = reason
        self.message = " ".join(message.split())
        self.retryable = reason in _RETRYABLE if retryable is None else retryable
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"ArtifactError({self.reason.value}, {self.message!r})"


def invalid(field: str, value: object, remedy: str) -> ArtifactError:
    """An InvalidSource error in the one form they all have: field, value, remedy."""
    shown = repr(value)
    if len(shown) > 120:
        shown = shown[:117] + "..."
    return ArtifactError(Reason.INVALID_SOURCE, f"{field}: {shown} is not usable: {remedy}")
