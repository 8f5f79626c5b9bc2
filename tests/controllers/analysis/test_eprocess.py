"""Evidence from counts: algebra, bounds, and whether it keeps its promise."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.eprocess import (
    LIMIT,
    NAT,
    RATIOS,
    Evidence,
    Window,
    log_mean,
    measure,
    merge,
    observed,
    threshold,
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    candidate = draw(st.integers(0, 100_000))
    baseline = draw(st.integers(0, 100_000))
    return Window(
        candidate=candidate,
        candidate_bad=draw(st.integers(0, candidate)),
        baseline=baseline,
        baseline_bad=draw(st.integers(0, baseline)),
    )


evidence = st.lists(windows(), max_size=4).map(lambda found: _sum(found))


def _sum(found: list[Window]) -> Evidence:
    total = Evidence()
    for window in found:
        total = merge(total, measure(window))
    return total


@given(evidence, evidence, evidence)
@settings(max_examples=60)
def test_merge_is_a_commutative_monoid(a: Evidence, b: Evidence, c: Evidence) -> None:
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, b) == merge(b, a)
    assert merge(a, Evidence()) == a


@given(evidence)
@settings(max_examples=60)
def test_a_status_keeps_it_exactly(found: Evidence) -> None:
    assert Evidence.from_wire(json.loads(json.dumps(found.to_wire()))) == found


def test_a_status_stays_bounded() -> None:
    wild = Evidence(logs=(10**30,) * len(RATIOS), windows=10**30, candidate=10**30)
    assert max(Evidence.from_wire(wild.to_wire()).logs) == LIMIT
    assert len(json.dumps(wild.to_wire())) < 300


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"logs": [0] * 5, "windows": 0, "candidate": [0, 0], "baseline": [0, 0]},
        {"logs": [0.5] * 6, "windows": 0, "candidate": [0, 0], "baseline": [0, 0]},
        {"logs": [True] * 6, "windows": 0, "candidate": [0, 0], "baseline": [0, 0]},
        {"logs": [0] * 6, "windows": None, "candidate": [0, 0], "baseline": [0, 0]},
        {"logs": [0] * 6, "windows": 0, "candidate": "0", "baseline": [0, 0]},
    ],
)
def test_a_status_that_cannot_be_read_is_not_taken_for_no_evidence(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="new attempt"):
        Evidence.from_wire(raw)


@pytest.mark.parametrize(
    ("candidate", "bad"), [(math.nan, 0), (10, math.nan), (math.inf, 1), (-1, -1), (10, 11), (10, -1)]
)
def test_counts_that_make_no_sense_are_refused(candidate: float, bad: float) -> None:
    with pytest.raises(ValueError, match="bad <= requests"):
        Window(candidate=candidate, candidate_bad=bad, baseline=10, baseline_bad=0)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_one_side_alone_says_nothing(requests: int, bad: int) -> None:
    bad = min(requests, bad)
    alone = Window(candidate=requests, candidate_bad=bad, baseline=0, baseline_bad=0)
    other = Window(candidate=0, candidate_bad=0, baseline=requests, baseline_bad=bad)
    assert measure(alone).log_e == measure(other).log_e == 0


def test_it_is_the_likelihood_ratio_of_the_binomial() -> None:
    window = Window(candidate=50, candidate_bad=4, baseline=950, baseline_bad=9)
    for ratio, log in zip(RATIOS, measure(window).logs, strict=True):
        fair, worse = 50 / 1000, ratio * 50 / (950 + ratio * 50)
        expected = 4 * math.log(worse / fair) + 9 * math.log((1 - worse) / (1 - fair))
        assert log / NAT == pytest.approx(expected, abs=2 / NAT)


def test_under_equal_rates_the_mean_of_e_is_one() -> None:
    q, x = 0.05, 7
    mean = sum(
        math.comb(x, bad)
        * q**bad
        * (1 - q) ** (x - bad)
        * math.exp(
            measure(Window(candidate=1000, candidate_bad=bad, baseline=19000, baseline_bad=x - bad)).log_e
        )
        for bad in range(x + 1)
    )
    assert mean == pytest.approx(1, abs=1e-4)
    assert mean <= 1


@given(st.integers(1, 40), st.integers(0, 39))
def test_more_bad_ones_on_the_candidates_side_never_lower_it(total: int, bad: int) -> None:
    bad = min(bad, total - 1)

    def e(x: int) -> float:
        return measure(Window(candidate=100, candidate_bad=x, baseline=900, baseline_bad=total - x)).log_e

    assert e(bad + 1) > e(bad)


def test_several_processes_share_one_alpha() -> None:
    assert log_mean([]) == 0
    assert log_mean([5.0, 5.0]) == pytest.approx(5.0)
    assert log_mean([9000.0, 0.0]) == pytest.approx(9000 - math.log(2))
    assert threshold(0.01) == pytest.approx(math.log(100))
    with pytest.raises(ValueError, match="alpha"):
        threshold(0)


def test_what_increase_stretched_is_put_right() -> None:
    assert observed(60, seconds=60, scrape=15) == 45
    with pytest.raises(ValueError, match="scrape"):
        observed(60, seconds=15, scrape=15)


def test_the_baselines_rate_over_the_run() -> None:
    assert Evidence().baseline_rate is None
    window = Window(candidate=10, candidate_bad=0, baseline=200, baseline_bad=3)
    assert measure(window).baseline_rate == pytest.approx(0.015)
