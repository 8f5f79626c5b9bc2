"""Reading wire objects (decoded JSON) without trusting their shape.

An object that the API server let through is well formed; one that a pod sent is whatever the pod likes. These
readers never raise: a value of another type than asked for reads as absent.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

JSON = dict[str, object]


def mapping(value: object) -> Mapping[str, object]:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def at(value: object, *path: str) -> object:
    """What lies under `path`, or None."""
    for key in path:
        value = mapping(value).get(key)
    return value


def text(value: object, default: str = "") -> str:
    return value if isinstance(value, str) else default


def integer(value: object, default: int = 0) -> int:
    if isinstance(value, bool):
        return default
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value == value and abs(value) < 2**62 else default


def number(value: object, default: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(value) if value == value and abs(value) < 1e300 else default


def maps(value: object) -> Iterator[Mapping[str, object]]:
    """The mappings in `value` if it is a list."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            if isinstance(item, Mapping):
                yield item


def plain(value: object) -> object:
    """A private copy of `value` made of dicts and lists only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def pruned(values: Mapping[str, object]) -> JSON:
    """`values` without what is unset: None and empty texts, lists and mappings (0 and False are set)."""
    return {
        key: value for key, value in values.items() if value is not None and value not in ("", [], {}, ())
    }


def canonical(value: object) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, ASCII only."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
