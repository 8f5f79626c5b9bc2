"""What a Prometheus server's reply to an instant query means. Pure.

Guarantees:
- a value is one finite number from exactly one sample; nothing, NaN, infinity and several series are no data,
  never 0;
- a reply with warnings is an error: it may be a part of the truth only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


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


#: The label that tells the answers of a batch apart.
LABEL: Final = "question"


def read(status: int, body: object) -> Answer:
    """The answer in a reply's status code and decoded JSON. Raises PrometheusError."""
    kind, result = _result(status, body)
    if kind == "scalar":
        return _number(result)
    return _one([sample for sample in result if isinstance(sample, Mapping)])


def read_batch(status: int, body: object, names: Iterable[str]) -> dict[str, Answer]:
    """The answers to `promql.batch`, by name. Raises PrometheusError."""
    kind, result = _result(status, body)
    if kind != "vector":
        raise Unavailable(_STRANGE)
    found: dict[str, list[Mapping[str, object]]] = {name: [] for name in names}
    for sample in (sample for sample in result if isinstance(sample, Mapping)):
        labels = sample.get("metric")
        name = labels.get(LABEL) if isinstance(labels, Mapping) else None
        if not isinstance(name, str) or name not in found:
            raise Unavailable(_STRANGE)
        found[name].append(sample)
    return {name: _one(samples) for name, samples in found.items()}


_STRANGE: Final = "the answer is not that of a Prometheus server"


def _result(status: int, body: object) -> tuple[str, list[object]]:
    """(scalar or vector, result) of a good reply."""
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
    kind, result = data.get("resultType"), data.get("result")
    if kind in ("matrix", "string"):
        raise Refused(f"the query gives a {kind}, not one number")
    if kind not in ("scalar", "vector") or not isinstance(result, list):
        raise Unavailable(_STRANGE)
    if kind == "vector" and not all(isinstance(sample, Mapping) for sample in result):
        raise Unavailable(_STRANGE)
    return str(kind), result


def _one(samples: Sequence[Mapping[str, object]]) -> Answer:
    if not samples:
        return Answer(None, "no series")
    if len(samples) > 1:
        return Answer(None, f"{len(samples)} series instead of one")
    return _number(samples[0].get("value"))


def _number(sample: object) -> Answer:
    if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[1], str):
        raise Unavailable(_STRANGE)
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
