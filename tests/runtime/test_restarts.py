from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.restarts import RestartOptions, Restarts


def test_delays_double_until_the_budget_is_spent() -> None:
    restarts = Restarts()
    assert [restarts.died(t) for t in (0.0, 1.0, 2.0, 3.0, 4.0)] == [0.1, 0.2, 0.4, 0.8, None]


def test_old_deaths_are_forgotten() -> None:
    restarts = Restarts()
    for t in (0.0, 1.0, 2.0, 3.0):
        assert restarts.died(t) is not None
    assert restarts.died(122.5) == 0.2
    assert restarts.recent == 2


def test_the_delay_has_a_ceiling() -> None:
    restarts = Restarts(RestartOptions(budget=100))
    assert max(restarts.died(float(t)) or 0.0 for t in range(50)) == 30.0


@given(st.lists(st.floats(0, 100), max_size=40))
def test_never_more_than_the_budget_within_a_window(gaps: list[float]) -> None:
    restarts, now, allowed = Restarts(), 0.0, []
    for gap in gaps:
        now += gap
        if restarts.died(now) is not None:
            allowed.append(now)
        assert len([t for t in allowed if t > now - 120.0]) < 5
