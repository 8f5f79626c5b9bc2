"""successCondition and failureCondition: an expression over what was measured. Pure.

The language is CEL; who parses and evaluates it stands behind `Engine`, so that nothing here depends on one
library, and nothing is ever given to Python's own `eval`.

    status.metrics.latency.{p50,p95,p99}  milliseconds
    status.metrics.{errorRate,slowRate,qps,samples}  slowRate: slower than the SLA, for a model that has one
    baseline.latency.…, baseline.errorRate, …  the same of the stable revision

Guarantees:
- an expression is compiled once and refused with one line if it cannot ever hold: too long, not CEL, names a
  field that does not exist, or is no question;
- what was not measured is left out, never given as 0 or NaN (NaN < 200 is false, which would fail a candidate
  that nobody saw), so an expression that needs it is an error, and every error is Undecided: None, never
  True.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

#: As the CRD has it.
MAX_LENGTH: Final = 1024

#: Brackets within brackets. No condition that a person reads needs more; a parser's stack does.
MAX_DEPTH: Final = 32


class ConditionError(ValueError):
    """The expression cannot be used; the message says why on one line."""


class Program(Protocol):
    """A compiled expression. It may be evaluated from any thread, any number of times."""

    def evaluate(self, variables: Mapping[str, object]) -> object:
        """The value; any exception for an error of evaluation (a missing field, a division by zero)."""
        ...


class Engine(Protocol):
    """Compiles CEL."""

    def compile(self, expression: str) -> Program:
        """Any exception for text that is not CEL; its message names the place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What was measured of one side: latencies in milliseconds, rates as shares of 1. None: no data."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    error_rate: float | None = None
    slow_rate: float | None = None
    qps: float | None = None
    samples: float | None = None

    def to_variables(self) -> dict[str, object]:
        latency = _known({"p50": self.p50, "p95": self.p95, "p99": self.p99})
        rest = _known(
            {
                "errorRate": self.error_rate,
                "slowRate": self.slow_rate,
                "qps": self.qps,
                "samples": self.samples,
            }
        )
        return {"latency": latency, **rest}


#: Every field with a value that no division trips over: what a new expression is tried on.
_EXAMPLE: Final = Values(
    p50=12.5, p95=80.0, p99=150.0, error_rate=0.5, slow_rate=0.5, qps=20.0, samples=1200.0
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression. Made by `compiled`."""

    expression: str
    program: Program

    def holds(self, candidate: Values, baseline: Values | None = None) -> bool | None:
        """Whether it does; None if that cannot be said. Never raises."""
        try:
            value = self.program.evaluate(variables(candidate, baseline))
        except Exception:  # whatever an engine raises on missing data must not pass, nor end a reconcile
            return None
        return value if isinstance(value, bool) else None


def variables(candidate: Values, baseline: Values | None) -> dict[str, object]:
    """What an expression sees. A baseline that is missing has no fields, so `has(baseline.qps)` is false."""
    other = baseline or Values()
    return {"status": {"metrics": candidate.to_variables()}, "baseline": other.to_variables()}


def compiled(expression: str, engine: Engine, *, field: str = "successCondition") -> Condition:
    """`expression`, ready for use. ConditionError, naming `field`, if it cannot be."""
    _check(expression, field)
    try:
        program = engine.compile(expression)
    except Exception as error:
        raise ConditionError(f"{field} is not a CEL expression: {_line(error)}") from error
    try:
        value = program.evaluate(variables(_EXAMPLE, _EXAMPLE))
    except Exception as error:
        raise ConditionError(
            f"{field} cannot be evaluated: {_line(error)}; use status.metrics.latency.p50, p95, p99, "
            "status.metrics.errorRate, slowRate, qps and samples, and the same under baseline"
        ) from error
    if not isinstance(value, bool):
        raise ConditionError(
            f"{field} gives {type(value).__name__}, not true or false: compare it, for example with < 200"
        )
    return Condition(expression, program)


def _check(expression: str, field: str) -> None:
    if not expression.strip():
        raise ConditionError(f"{field} is empty: remove it or write an expression")
    if len(expression) > MAX_LENGTH:
        raise ConditionError(f"{field} has {len(expression)} characters: at most {MAX_LENGTH} are allowed")
    if any(ord(c) < 32 and c not in "\n\t" for c in expression):
        raise ConditionError(f"{field} has a control character: remove it")
    depth = deepest = 0
    for character in expression:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ConditionError(f"{field} nests {deepest} brackets: at most {MAX_DEPTH} are allowed")


def _known(values: Mapping[str, float | None]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
