"""Is what lives on the server what we want? Pure.

The server fills in defaults and other managers add fields of their own, so equality is never the question:
what we want must be a part of what is there, value by value, with quantities compared as amounts.
"""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from . import quantity

#: Maps that the server treats as one value: one key too many there changes the meaning of the whole.
ATOMIC = frozenset({"selector", "matchLabels", "podSelector", "namespaceSelector", "nodeSelector"})
#: What the server fills into a pod template where nothing is said, beside empty values.
_DEFAULTS: frozenset[tuple[str, object]] = frozenset(
    {
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("apiVersion", "v1"),
        ("protocol", "TCP"),
        ("divisor", "0"),
    }
)
_QUANTITIES = frozenset({"requests", "limits", "sizeLimit"})


def is_part(wanted: object, live: object, *, key: str = "", amounts: bool = False) -> bool:
    """True if `wanted` is found in `live`: maps by key, lists of named things by name, other lists in
    order.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        if key in ATOMIC and set(wanted) != set(live):
            return False
        inner = amounts or key in _QUANTITIES
        return all(
            is_part(value, live.get(name), key=str(name), amounts=inner) for name, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        if not isinstance(live, Sequence) or isinstance(live, str | bytes):
            return not wanted and live is None
        return _list_is_part(wanted, live)
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    if wanted in (None, "", False, 0) and live is None:
        return True  # the server leaves an empty value out
    return (amounts or key in _QUANTITIES) and quantity.equal(wanted, live)


def adds(wanted: object, live: object) -> bool:
    """True if `live`, of which `wanted` is a part, says more than `wanted` and the server's defaults do."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        more = (name for name in live if name not in wanted)
        return any(not _filled_in(str(name), live) for name in more) or any(
            adds(value, live.get(name)) for name, value in wanted.items()
        )
    if _is_list(wanted) and _is_list(live):
        if len(wanted) != len(live):
            return True
        named, there = _by_name(wanted), _by_name(live)
        if named is not None and there is not None:
            return any(adds(item, there.get(name)) for name, item in named.items())
        return any(adds(mine, theirs) for mine, theirs in zip(wanted, live, strict=True))
    return not wanted and _is_list(live) and bool(live)


def _filled_in(name: str, live: Mapping[str, object]) -> bool:
    value = live[name]
    if name == "serviceAccount":  # the old spelling, which the server keeps equal
        return value == live.get("serviceAccountName")
    return not value or (isinstance(value, str) and (name, value) in _DEFAULTS)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _list_is_part(wanted: Sequence[object], live: Sequence[object]) -> bool:
    named = _by_name(wanted)
    there = _by_name(live)
    if named is not None and there is not None:
        return all(name in there and is_part(item, there[name]) for name, item in named.items())
    return len(wanted) == len(live) and all(
        is_part(mine, theirs) for mine, theirs in zip(wanted, live, strict=True)
    )


def _by_name(items: Sequence[object]) -> Mapping[str, object] | None:
    found: dict[str, object] = {}
    for item in items:
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str):
            return None
        found[name] = item
    return found
