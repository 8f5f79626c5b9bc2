"""Which requests are traced: decided from one header and one random number, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# An id of zeros is none, and neither is version ff; versions after 00 may have more fields.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f])([0-9a-f])(?:-.*)?"
)
_SAMPLED = frozenset("13579bdf")


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span, as W3C trace context names it."""

    trace: int
    span: int
    sampled: bool


#: The start of a trace of our own.
ROOT = Parent(0, 0, True)


def _matched(text: str) -> re.Match[str] | None:
    found = _TRACEPARENT.fullmatch(text)
    return None if found is None or (found[1] == "00" and len(text) != 55) else found


def parse_traceparent(text: str) -> Parent | None:
    """None for what the standard says to ignore: unreadable, version ff, an id of zeros."""
    found = _matched(text)
    if found is None:
        return None
    return Parent(int(found[2], 16), int(found[3], 16), found[5] in _SAMPLED)


def decide(traceparent: str | None, ratio: float, draw: Callable[[], float]) -> Parent | None:
    """What to trace a request under, None for not at all. Who called us has decided; without a caller, a
    share of `ratio` is traced.
    """
    if traceparent is not None and (found := _matched(traceparent)) is not None:
        return parse_traceparent(traceparent) if found[5] in _SAMPLED else None
    return ROOT if draw() < ratio else None
