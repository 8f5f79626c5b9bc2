"""What a Prometheus server's reply to an instant query means. Pure.

Guarantees:
- a value is one finite number from exactly one sample; nothing, NaN, infinity and several series are no data,
  never 0;
- a reply with warnings is an error: it may be a part of the truth only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


class PrometheusError(Exception):
    """The message is one line for people."""


class Unavailable(PrometheusError):
    """No answer that could be used: unreachable, slow, broken, or a part of the truth."""


class Refused(PrometheusError):
    """The server answers, but not this query: it is wrong, or too expensive."""


@dataclass(frozen=True, slots=True)
class Answer:
    """value: None for no data, and then `note` says why."""

    value: float | None
    note: str = ""


def read(status: int, body: object) -> Answer:
    """The answer in a reply's status code and decoded JSON. Raises PrometheusError."""
    reply = body if isinstance(body, Mapping) else {}
    if status in (400, 422):
        raise Refused(f"the query was refused: {line(reply.get('error')) or status}")
    if status != 200 or reply.get("status") != "success":
        said = line(reply.get("error"))
        raise Unavailable(f"HTTP {status}" + (f": {said}" if said else ""))
    warnings = reply.get("warnings")
    if warnings:
        first = warnings[0] if isinstance(warnings, list) else warnings
        raise Unavailable(f"the answer is incomplete: {line(first)}")
    data = reply.get("data")
    data = data if isinstance(data, Mapping) else {}
    result = data.get("result")
    match data.get("resultType"):
        case "scalar":
            return _number(result)
        case "vector" if isinstance(result, list):
            if not result:
                return Answer(None, "no series")
            if len(result) > 1:
                return Answer(None, f"{len(result)} series instead of one")
            return _number(result[0].get("value") if isinstance(result[0], Mapping) else None)
        case str(kind) if kind in ("matrix", "string"):
            raise Refused(f"the query gives a {kind}, not one number")
        case _:
            raise Unavailable("the answer is not that of a Prometheus server")


def _number(sample: object) -> Answer:
    if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[1], str):
        raise Unavailable("the answer is not that of a Prometheus server")
    try:
        value = float(sample[1])
    except ValueError:
        raise Unavailable(f"the answer {line(sample[1])} is no number") from None
    return Answer(value) if math.isfinite(value) else Answer(None, f"the value is {sample[1]:.16}")


def line(text: object) -> str:
    """Foreign text on one short line."""
    words = "".join(c if c.isprintable() else " " for c in str(text or "")).split()
    flat = " ".join(words)
    return flat if len(flat) <= 200 else flat[:197] + "..."
