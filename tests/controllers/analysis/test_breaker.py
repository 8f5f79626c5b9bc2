"""The breaker, with a clock of its own."""

from controllers.analysis.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_five_errors_in_a_row_and_lets_one_trial_through() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(5):
        assert breaker.allow()
        breaker.failed()
    assert breaker.open
    assert not breaker.allow()
    assert breaker.wait() == 15
    clock.now += 15
    assert breaker.allow()
    assert not breaker.allow()  # one trial at a time
    breaker.failed()
    assert not breaker.allow()
    clock.now += 15
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.allow()
    assert breaker.wait() == 0


def test_a_trial_that_never_reports_costs_one_pause() -> None:
    clock = Clock()
    breaker = Breaker(clock, errors=1, pause=5)
    breaker.failed()
    clock.now += 5
    assert breaker.allow()
    clock.now += 5
    assert breaker.allow()
