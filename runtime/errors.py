"""What can go wrong, in two kinds: with a model (it cannot serve) and with a request (it is answered with a
code).
"""

from __future__ import annotations

from enum import Enum, StrEnum, unique


class Reason(StrEnum):
    """Why a model cannot serve; the value is used as a condition's reason by the operator."""

    UNKNOWN_MODEL_FORMAT = "UnknownModelFormat"
    AMBIGUOUS_MODEL = "AmbiguousModel"
    CORRUPT_MODEL = "CorruptModel"
    SCHEMA_MISMATCH = "SchemaMismatch"
    LOAD_FAILED = "LoadFailed"
    WARM_UP_FAILED = "WarmUpFailed"
    WORKER_CRASHED = "WorkerCrashed"
    OUT_OF_MEMORY = "OutOfMemory"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    SIGNATURE_CHANGED = "SignatureChanged"
    GOLDEN_SAMPLE_FAILED = "GoldenSampleFailed"


class ModelError(Exception):
    """A model that cannot be loaded or served: a reason of ours, or why its files did not come.

    `passing`: the cause may be the moment's (memory, a starved CPU) and not the files', so a later try is
    worth it; without it, the same files give the same answer.
    """

    def __init__(self, reason: StrEnum, message: str, *, passing: bool = False) -> None:
        self.reason = reason
        self.passing = passing
        self.message = " ".join(message.split())
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"ModelError({self.reason.value}, {self.message!r})"


@unique
class Code(Enum):
    """How a request ends: the one table of its HTTP status and its gRPC status, by number.

    The HTTP status is also the `status_code` label, and the gRPC number is `code` in PredictResponse: every
    protocol says the same of the same event. 499 is what proxies call a client that left.
    """

    OK = (200, 0)
    INVALID = (400, 3)  # INVALID_ARGUMENT
    FORBIDDEN = (403, 7)  # PERMISSION_DENIED
    NOT_FOUND = (404, 5)
    METHOD_NOT_ALLOWED = (405, 12)  # UNIMPLEMENTED
    SLOW_BODY = (408, 4)  # DEADLINE_EXCEEDED
    LENGTH_MISSING = (411, 3)
    TOO_LARGE = (413, 8)  # RESOURCE_EXHAUSTED
    MEDIA_TYPE = (415, 3)
    OVERLOADED = (429, 8)
    CANCELLED = (499, 1)
    INTERNAL = (500, 13)
    UNSUPPORTED = (501, 12)
    UNAVAILABLE = (503, 14)
    DEADLINE = (504, 4)

    def __init__(self, http: int, grpc: int) -> None:
        self.http = http
        self.grpc = grpc

    @classmethod
    def of(cls, status: int) -> Code:
        """The code of an HTTP status; INTERNAL for one that is not in the table."""
        return _BY_STATUS.get(status, cls.INTERNAL)


_BY_STATUS = {code.http: code for code in Code}


class RequestError(Exception):
    """A request that ends with a code, given by its HTTP status, and the message; `retry_after` is in whole
    seconds.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def code(self) -> Code:
        return Code.of(self.status)


# What a request that was given up ends with, whether it waited or was still on its way.
GONE = "the client went away before its turn"


def bad_request(message: str) -> RequestError:
    """A 400 whose message names the input and what to send instead."""
    return RequestError(400, message)


# Every code a request for a model can end with; metrics show each of them from the start.
STATUS_CODES = tuple(code.http for code in Code if code not in (Code.FORBIDDEN, Code.UNSUPPORTED))


def summarise(error: BaseException, *, limit: int = 400) -> str:
    """One line from a native library's many-line error text: the sentence that says what was wrong.

    Paddle's errors carry a C++ stack and source paths of the machine that built it; those are left out.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    kept: list[str] = []
    for line in lines:
        if (
            not line
            or set(line) <= {"-"}
            or line.startswith(("In user code", "C++ Traceback", "Error Message"))
        ):
            continue
        if line.startswith(("File ", "[operator <", "Compile Traceback", "Python Call Stacks")):
            continue
        kept.append(line.split(" (at /", 1)[0])
    start = next((i for i, line in enumerate(kept) if "Error:" in line or line.startswith("(")), 0)
    text = " ".join(kept[start : start + 3]) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
