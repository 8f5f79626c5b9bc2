"""What can go wrong, in two kinds: with a model (it cannot serve) and with a request (it is answered with a
code).
"""

from __future__ import annotations

from enum import StrEnum


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


class ModelError(Exception):
    """A model that cannot be loaded or served.

    `passing`: the cause may be the moment's (memory, a starved CPU) and not the files', so a later try is
    worth it; without it, the same files give the same answer.
    """

    def __init__(self, reason: Reason, message: str, *, passing: bool = False) -> None:
        self.reason = reason
        self.passing = passing
        self.message = " ".join(message.split())
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"ModelError({self.reason.value}, {self.message!r})"


class RequestError(Exception):
    """A request that gets `status` and the body {"error": message}; `retry_after` is in whole seconds."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(message)


def bad_request(message: str) -> RequestError:
    """A 400 whose message names the input and what to send instead."""
    return RequestError(400, message)


# Every code a request for a model can end with; metrics show each of them from the start.
STATUS_CODES = (200, 400, 404, 405, 408, 411, 413, 415, 429, 500, 503, 504)


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
