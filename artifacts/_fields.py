"""Reading a mapping field by field, so that each bad value is one line naming field, value and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from artifacts._errors import invalid

T = TypeVar("T", bound=str)
_REQUIRED: Final = object()


class Fields:
    """A mapping from YAML or JSON with its place in the document. Every reader raises InvalidSource."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, Mapping):
            raise invalid(where or "document", raw, "it must be a mapping")
        self._raw = raw
        self._where = where
        self._seen: set[str] = set()

    def at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def has(self, name: str) -> bool:
        self._seen.add(name)
        return self._raw.get(name) is not None

    def _get(self, name: str, default: object) -> object:
        self._seen.add(name)
        value = self._raw.get(name)
        if value is None:
            if default is _REQUIRED:
                raise invalid(self.at(name), value, "it is required")
            return default
        return value

    def text(self, name: str, default: object = _REQUIRED, *, pattern: str = "", remedy: str = "") -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise invalid(self.at(name), value, "it must be a string; put it in quotes")
        if default is _REQUIRED and not value:
            raise invalid(self.at(name), value, "it must not be empty")
        if pattern and not re.fullmatch(pattern, value):
            raise invalid(self.at(name), value, remedy or f"it must match {pattern}")
        return value

    def integer(
        self,
        name: str,
        default: object = _REQUIRED,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int:
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(self.at(name), value, "it must be a whole number")
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            high = "" if maximum is None else f" and at most {maximum}"
            raise invalid(self.at(name), value, f"it must be at least {minimum}{high}")
        return value

    def number(self, name: str, default: object = _REQUIRED, *, minimum: float = 0.0) -> float:
        value = self._get(name, default)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not minimum <= value < float("inf")
        ):
            raise invalid(self.at(name), value, f"it must be a number of at least {minimum:g}")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise invalid(self.at(name), value, "it must be true or false")
        return value

    def choice(self, name: str, choices: tuple[T, ...], default: T | None = None) -> T:
        value = self._get(name, _REQUIRED if default is None else default)
        for choice in choices:
            if value == choice:
                return choice
        raise invalid(self.at(name), value, f"it must be one of {', '.join(choices)}")

    def sequence(self, name: str) -> list[object]:
        value = self._get(name, [])
        if not isinstance(value, list):
            raise invalid(self.at(name), value, "it must be a list")
        return value

    def integers(
        self, name: str, default: tuple[int, ...] = (), *, minimum: int | None = None
    ) -> tuple[int, ...]:
        items = self.sequence(name) if self.has(name) else list(default)
        checked = []
        for index, item in enumerate(items):
            if (
                not isinstance(item, int)
                or isinstance(item, bool)
                or (minimum is not None and item < minimum)
            ):
                least = "" if minimum is None else f" of at least {minimum}"
                raise invalid(f"{self.at(name)}[{index}]", item, f"it must be a whole number{least}")
            checked.append(item)
        return tuple(checked)

    def items(self, name: str) -> list[Fields]:
        """The mappings of a list, each knowing its index."""
        return [Fields(item, f"{self.at(name)}[{i}]") for i, item in enumerate(self.sequence(name))]

    def child(self, name: str) -> Fields | None:
        """The mapping below `name`, None when it is not there."""
        return Fields(self._get(name, _REQUIRED), self.at(name)) if self.has(name) else None

    def finish(self) -> None:
        """Refuses what nobody read: an ignored field would be a promise not kept."""
        unknown = sorted(str(name) for name in self._raw if name not in self._seen)
        if unknown:
            remedy = "this version does not know the field; remove it or use a newer runtime image"
            raise invalid(self.at(unknown[0]), self._raw.get(unknown[0]), remedy)
