"""Label selectors, evaluated here exactly as the server evaluates them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

Matcher: TypeAlias = Callable[[Mapping[str, str]], bool]
Selector: TypeAlias = Mapping[str, str] | str | None
"""Equal labels, an expression such as "app=web,tier in (a, b),!legacy", or None for everything."""

_SET = re.compile(r"^\s*([^\s=!,()]+)\s+(in|notin)\s+\(([^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s=!,()]+)\s*(==|=|!=)\s*([^\s=!,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s=!,()]+)\s*$")
_COMMA = re.compile(r",(?![^()]*\))")


def selector_text(selector: Selector) -> str:
    """The expression to send as `labelSelector`; "" for everything."""
    if not selector:
        return ""
    if isinstance(selector, str):
        return selector
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))


def compile_selector(selector: Selector) -> Matcher | None:
    """A function from labels to "does it match", or None when everything does.

    Raises ValueError naming the term that is not a selector.
    """
    if not selector:
        return None
    if isinstance(selector, str):
        return _compile_text(selector)
    wanted = tuple(selector.items())
    if len(wanted) == 1:
        name, value = wanted[0]
        return lambda labels: labels.get(name) == value
    return lambda labels: all(labels.get(name) == value for name, value in wanted)


@lru_cache(maxsize=256)
def _compile_text(text: str) -> Matcher | None:
    terms = [_term(term) for term in _COMMA.split(text) if term.strip()]
    if not terms:
        return None
    if len(terms) == 1:
        return terms[0]
    return lambda labels: all(term(labels) for term in terms)


def _term(term: str) -> Matcher:
    if match := _SET.match(term):
        name, operator, body = match.groups()
        values = frozenset(value.strip() for value in body.split(","))
        if operator == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: labels.get(name) not in values
    if match := _EQUAL.match(term):
        name, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    if match := _EXISTS.match(term):
        negated, name = match.groups()
        return lambda labels: (name in labels) is not bool(negated)
    raise ValueError(f"label selector: {term.strip()!r} is none of a=b, a!=b, a in (b, c), a, !a")
