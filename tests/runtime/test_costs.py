from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.costs import Cost, Costs


def test_a_line_is_found() -> None:
    cost = Cost()
    for rows in (1, 8, 3, 5, 1, 8):
        cost.observe(rows, 0.010 + 0.002 * rows)
    assert cost.seconds(1) == pytest.approx(0.012)
    assert cost.seconds(20) == pytest.approx(0.050)


def test_one_size_alone_is_taken_as_proportional_until_another_is_seen() -> None:
    cost = Cost()
    cost.observe(4, 0.4)
    assert cost.seconds(8) == pytest.approx(0.8)
    cost.observe(8, 0.4)
    assert cost.seconds(8) == pytest.approx(0.4)


def test_what_is_newer_counts_for_more() -> None:
    cost = Cost()
    for seconds in [1.0] * 50 + [0.1] * 100:
        cost.observe(1, seconds)
    assert cost.seconds(1) == pytest.approx(0.1, rel=0.1)


@given(
    st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), min_size=1, max_size=50), st.integers(1, 256)
)
def test_never_negative_and_never_falling(runs: list[tuple[int, float]], rows: int) -> None:
    cost = Cost()
    for count, seconds in runs:
        cost.observe(count, seconds)
    assert 0 <= cost.seconds(rows) <= cost.seconds(rows + 1) + 1e-9


def test_shapes_have_their_own_line_and_a_new_one_is_guessed() -> None:
    costs = Costs()
    assert costs.seconds("a", 1) == 0.0
    costs.reset({1: 0.01, 8: 0.03})
    assert costs.seconds("a", 8) == pytest.approx(0.03)
    for _ in range(3):  # the first does not count
        costs.observe("a", 1, 0.5)
    assert costs.seconds("a", 1) == pytest.approx(0.5)
    assert 0.01 < costs.seconds("b", 1) < 0.5


def test_the_least_recently_used_shape_is_forgotten() -> None:
    costs = Costs()
    for shape in ("first", "first", *map(str, range(300))):
        costs.observe(shape, 1, 1.0)
    costs.observe("first", 1, 99.0)
    assert costs.seconds("first", 1) == 1.0, "its first run again, which does not count"
