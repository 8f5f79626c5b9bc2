"""Hypothesis strategies: objects that a structural schema accepts, with and without fields nobody knows."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from .objects import Tree

_TEXT = st.text(string.ascii_letters + string.digits + "-./:äµ文", max_size=8)
_SCALARS = st.one_of(_TEXT, st.integers(-9, 9), st.booleans(), st.floats(-9, 9))
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
# The prefix keeps them apart from every known field, in camelCase and in snake_case.
UNKNOWN = st.dictionaries(_TEXT.map(lambda name: f"x-{name}"), ANYTHING, max_size=2)


def objects(schema: Tree) -> st.SearchStrategy[Any]:
    """Values that fit `schema` by type; objects get unknown fields too. Patterns and rules are not minded."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 99) | _TEXT
    match schema.get("type"):
        case "array":
            return st.lists(objects(schema["items"]), max_size=2)
        case "object" if "additionalProperties" in schema:
            return st.dictionaries(_TEXT, objects(schema["additionalProperties"]), max_size=2)
        case "object" if "properties" in schema:
            return _fields(schema)
        case "object":
            return st.dictionaries(_TEXT, ANYTHING, max_size=2)
        case "integer":
            return st.integers(0, 2**40)
        case "number":
            return st.floats(0, 1e9)
        case "boolean":
            return st.booleans()
        case _:
            return _TEXT


@st.composite
def _fields(draw: st.DrawFn, schema: Tree) -> dict[str, Any]:
    properties, required = schema["properties"], schema.get("required", [])
    optional = [name for name in properties if name not in required]
    chosen = draw(st.lists(st.sampled_from(optional), unique=True, max_size=4)) if optional else []
    known = {name: draw(objects(properties[name])) for name in (*required, *chosen)}
    return {**known, **draw(UNKNOWN)}
