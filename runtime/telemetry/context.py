"""Which requests are traced: decided from one header and one random number, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span, as W3C trace context names it."""

    trace: int
    span: int
    sampled: bool


#: The start of a trace of our own.
ROOT = Parent(0, 0, True)


def parse_traceparent(text: str) -> Parent | None:
    """None for what the standard says to ignore: unreadable, version ff, an id of zeros."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and len(text.strip()) != 55):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return Parent(trace, span, bool(int(found[4], 16) & 1)) if trace and span else None


def decide(traceparent: str | None, ratio: float, draw: Callable[[], float]) -> Parent | None:
    """What to trace a request under, None for not at all. Who called us has decided; without a caller, a
    share of `ratio` is traced.
    """
    if traceparent is not None:
        parent = parse_traceparent(traceparent)
        if parent is not None:
            return parent if parent.sampled else None
    return ROOT if draw() < ratio else None
