"""CEL as the package common-expression-language evaluates it: the `Engine` of conditions.

Expressions come from users of a namespace, so one must neither see more than the measurements nor keep the
operator busy: macros that loop (all, exists, map, filter ...) are refused, and nothing else in CEL can take
longer than its text is long.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from .condition import Program

VARIABLES: Final = frozenset({"status", "baseline"})

_LOOPS: Final = re.compile(r"\b(all|exists|exists_one|existsOne|map|filter|transform\w*)\b")
#: What the parser says, without its drawing: the place and the words.
_PLACE: Final = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


class _Compiled(Protocol):
    def execute(self, context: Mapping[str, object]) -> object: ...
    def variables(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class _Program:
    compiled: _Compiled

    def evaluate(self, variables: Mapping[str, object]) -> object:
        return self.compiled.execute(dict(variables))


class Cel:
    """Imports the package at the first compilation: an operator without canaries does not pay for it."""

    def compile(self, expression: str) -> Program:
        """ValueError, one line with the place, for what is not CEL or not allowed."""
        # Not the package: xds-protos has a folder `cel` too, and the wheel that comes last writes __init__.
        from cel import cel

        loop = _LOOPS.search(expression)
        if loop is not None:
            raise ValueError(f"{loop.group()} at character {loop.start() + 1} is not allowed: compare values")
        try:
            compiled = cast(Callable[[str], _Compiled], cel.compile)(expression)
        except ValueError as error:
            raise ValueError(_place(str(error))) from None
        strange = sorted(set(compiled.variables()) - VARIABLES)
        if strange:
            raise ValueError(f"{strange[0]} is unknown: there are status.metrics and baseline")
        return _Program(compiled)


def _place(message: str) -> str:
    found = _PLACE.search(message)
    if found is None:
        return message
    row, column, words = found.groups()
    where = f"character {column}" if row == "1" else f"line {row}, character {column}"
    return f"{where}: {words.split(' expecting ')[0]}"
