import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller_runtime._ratelimit import BucketRateLimiter, ExponentialRateLimiter, MaxOfRateLimiter
from controller_runtime.testing.clock import FakeClock


def test_delay_doubles_until_the_nineteenth_failure() -> None:
    limiter: ExponentialRateLimiter[str] = ExponentialRateLimiter()
    delays = [limiter.when("a") for _ in range(20)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[17] < 1000.0
    assert delays[18:] == [1000.0, 1000.0]
    assert limiter.failures("a") == 20


def test_keys_are_independent_and_forget_frees_the_memory() -> None:
    limiter: ExponentialRateLimiter[str] = ExponentialRateLimiter(base=1.0, maximum=8.0)
    limiter.when("a")
    limiter.when("a")
    assert limiter.when("b") == 1.0
    limiter.forget("a")
    limiter.forget("never seen")
    assert len(limiter) == 1
    assert limiter.when("a") == 1.0


@given(st.integers(min_value=0, max_value=3000))
def test_delay_never_overflows_nor_exceeds_the_maximum(failures: int) -> None:
    limiter: ExponentialRateLimiter[str] = ExponentialRateLimiter()
    limiter._failures["a"] = failures
    assert 0.005 <= limiter.when("a") <= 1000.0


async def test_bucket_spends_the_burst_then_paces() -> None:
    clock = FakeClock()
    bucket: BucketRateLimiter[str] = BucketRateLimiter(rate=10.0, burst=3, clock=clock)
    assert [bucket.when("x") for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock.jump(0.2)
    assert bucket.when("x") == pytest.approx(0.1)
    clock.jump(1000)
    assert [bucket.when("x") for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])
    bucket.forget("x")
    assert bucket.failures("x") == 0


async def test_max_of_asks_every_limiter_even_when_the_first_is_longest() -> None:
    first: ExponentialRateLimiter[str] = ExponentialRateLimiter(base=5.0)
    second: ExponentialRateLimiter[str] = ExponentialRateLimiter(base=1.0)
    both = MaxOfRateLimiter(first, second)
    assert both.when("a") == 5.0
    assert second.failures("a") == 1
    assert both.failures("a") == 1
    both.forget("a")
    assert both.failures("a") == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialRateLimiter(base=0.0),
        lambda: ExponentialRateLimiter(base=2.0, maximum=1.0),
        lambda: BucketRateLimiter(rate=0.0),
        lambda: BucketRateLimiter(burst=0),
        lambda: MaxOfRateLimiter(),
    ],
)
def test_impossible_options_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="need"):
        make()
