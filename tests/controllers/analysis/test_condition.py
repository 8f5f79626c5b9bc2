"""Conditions, around an engine that knows four expressions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from controllers.analysis.condition import MAX_LENGTH, ConditionError, Values, compiled, variables

Fields = Mapping[str, object]


def _at(variables: Fields, path: str) -> float:
    value: object = variables
    for name in path.split("."):
        assert isinstance(value, Mapping)
        value = value[name]
    assert isinstance(value, float)
    return value


KNOWN: dict[str, Callable[[Fields], object]] = {
    "status.metrics.latency.p95 < 200": lambda v: _at(v, "status.metrics.latency.p95") < 200,
    "status.metrics.latency.p95 / baseline.latency.p95 < 1.2": lambda v: (
        _at(v, "status.metrics.latency.p95") / _at(v, "baseline.latency.p95") < 1.2
    ),
    "status.metrics.latency.p96 < 200": lambda v: _at(v, "status.metrics.latency.p96") < 200,
    "status.metrics.latency.p95": lambda v: _at(v, "status.metrics.latency.p95"),
}


@dataclass
class Known:
    function: Callable[[Fields], object]

    def evaluate(self, variables: Fields) -> object:
        return self.function(variables)


@dataclass
class FourExpressions:
    compiled: list[str] = field(default_factory=list)

    def compile(self, expression: str) -> Known:
        self.compiled.append(expression)
        if expression not in KNOWN:
            raise SyntaxError("unexpected token\n  at line 1, column 3")
        return Known(KNOWN[expression])


LATENCY = "status.metrics.latency.p95 < 200"
RATIO = "status.metrics.latency.p95 / baseline.latency.p95 < 1.2"
FAST = Values(p50=5, p95=100.0, p99=150, error_rate=0, qps=10, samples=600)


def test_it_is_compiled_once_and_answers() -> None:
    engine = FourExpressions()
    condition = compiled(LATENCY, engine)
    assert condition.holds(FAST) is True
    assert condition.holds(replace(FAST, p95=250.0)) is False
    assert engine.compiled == [LATENCY]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_was_not_measured_is_never_a_pass_nor_a_failure(value: float | None) -> None:
    assert compiled(LATENCY, FourExpressions()).holds(replace(FAST, p95=value)) is None


def test_a_condition_on_the_baseline_needs_one() -> None:
    condition = compiled(RATIO, FourExpressions())
    assert condition.holds(FAST, replace(FAST, p95=90.0)) is True
    assert condition.holds(FAST, replace(FAST, p95=50.0)) is False
    assert condition.holds(FAST, replace(FAST, p95=0.0)) is None
    assert condition.holds(FAST) is None


def test_what_an_expression_sees() -> None:
    assert variables(replace(FAST, qps=None), None) == {
        "status": {
            "metrics": {"latency": {"p50": 5, "p95": 100.0, "p99": 150}, "errorRate": 0, "samples": 600}
        },
        "baseline": {"latency": {}},
    }


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "successCondition is empty"),
        (" \n", "successCondition is empty"),
        ("a" * (MAX_LENGTH + 1), "has 1025 characters: at most 1024"),
        ("a\0b", "control character"),
        ("(" * 33 + ")" * 33, "nests 33 brackets: at most 32"),
        ("p95 <", "is not a CEL expression: unexpected token at line 1, column 3"),
        ("__import__('os')", "is not a CEL expression"),
        ("status.metrics.latency.p96 < 200", "cannot be evaluated: 'p96'; use"),
        ("status.metrics.latency.p95", "gives float, not true or false"),
    ],
)
def test_a_bad_expression_is_refused_in_one_line(expression: str, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compiled(expression, FourExpressions())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_value_that_is_no_truth_is_none() -> None:
    condition = compiled(LATENCY, FourExpressions())
    assert replace(condition, program=Known(lambda _: 1)).holds(FAST) is None
