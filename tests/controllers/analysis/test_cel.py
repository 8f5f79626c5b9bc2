"""Conditions in real CEL."""

import pytest

from controllers.analysis.cel import Cel
from controllers.analysis.check import problems, validate
from controllers.analysis.condition import ConditionError, Values, compiled

GOOD = Values(p50=10.0, p95=80.0, p99=120.0, error_rate=0.01, qps=5.0, samples=300.0)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("status.metrics.latency.p95 < 200", True),
        ("status.metrics.latency.p95 < 80", False),
        ("status.metrics.errorRate <= 0.01 && status.metrics.samples > 100", True),
        ("status.metrics.latency.p95 < baseline.latency.p95 * 1.2 + 5.0", True),
        ("!has(baseline.qps) || status.metrics.qps > baseline.qps", False),
        ("status.metrics.slowRate < 0.5", None),  # not measured: neither true nor false
    ],
)
def test_expressions(expression: str, holds: bool | None) -> None:
    assert compiled(expression, Cel()).holds(GOOD, GOOD) is holds


def test_what_was_not_measured_is_not_below_a_limit() -> None:
    assert compiled("status.metrics.latency.p95 < 200", Cel()).holds(Values()) is None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("status.metrics.latency.p95 <", "character 29: mismatched input '<EOF>'"),
        ("status.metrics.latency.p95\n< <", "line 2, character 3"),
        ("status.metrics.p95 < 200", "cannot be evaluated: 'p95'"),
        ("status.metrics.latency.p95", "gives float, not true or false"),
        ("p95 < 200", "p95 is unknown"),
        ("now() < 1", "cannot be evaluated"),
        ("status.metrics.qps < 1.5 * 2", "cannot be evaluated"),
        ("[1, 2].all(x, x > 0)", "all at character 8 is not allowed"),
        ("[1, 2].map(status, 1) == [1]", "map at character 8"),
        ("[1] // ) \n . exists_one ( status, true)", "exists_one"),
        ("", "is empty"),
        ("(" * 40 + "true" + ")" * 40, "nests 40 brackets"),
        ("'" + "a" * 2000 + "' == ''", "2008 characters"),
    ],
)
def test_what_is_told_before_a_run(expression: str, words: str) -> None:
    problem = validate(expression)
    assert words in problem
    assert "\n" not in problem
    with pytest.raises(ConditionError):
        compiled(expression, Cel())


def check(custom: bool = True, **analysis: object) -> list[str]:
    return problems(analysis, servers={"default", "eu"}, custom_promql=custom)


def test_a_good_block_has_no_problems() -> None:
    assert check() == []
    own = {"name": "own", "query": "sum(x{revision='$revision'})", "maxRatio": 1.2}
    assert check(prometheus="eu", metrics=[own, {"name": "latencyP95", "max": 200}]) == []


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"name": "p95", "max": 1}, "no built-in metric has this name (errorRate, slowRate, latencyP50"),
        ({"name": "qps"}, "it has no limit"),
        ({"name": "qps", "baselineQuery": "x", "max": 1}, "baselineQuery needs query"),
        ({"name": "own", "query": "x", "maxRatio": 2}, "maxRatio needs a baseline"),
    ],
)
def test_metrics_that_cannot_be_judged(metric: dict[str, object], words: str) -> None:
    (problem,) = check(metrics=[metric])
    assert words in problem
    assert f"analysis.metrics: {metric['name']}: " in problem


def test_queries_of_ones_own_are_off_unless_allowed() -> None:
    (problem,) = check(custom=False, metrics=[{"name": "own", "query": "x", "max": 1}])
    assert "--allow-custom-promql" in problem


def test_servers_that_nobody_knows() -> None:
    (problem,) = check(prometheus="us")
    assert problem == "analysis.prometheus: the operator has no server us: use one of default, eu"
    (problem,) = problems({}, servers=(), custom_promql=False)
    assert problem.endswith("has no server default: start the operator with --prometheus NAME=URL")


def test_every_condition_is_checked() -> None:
    assert [line.split(" ")[0] for line in check(successCondition="1", failureCondition="2 <")] == [
        "analysis.successCondition",
        "analysis.failureCondition",
    ]
