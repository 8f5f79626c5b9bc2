import asyncio

import pytest

from controller_runtime._clock import SYSTEM_CLOCK, deadline, rfc3339
from controller_runtime.testing.clock import FakeClock, settle


async def test_advance_runs_timers_in_order_and_at_their_time() -> None:
    clock = FakeClock(start=0.0)
    seen: list[tuple[str, float]] = []
    clock.call_later(5.0, lambda: seen.append(("late", clock.monotonic())))
    clock.call_later(1.0, lambda: seen.append(("early", clock.monotonic())))
    clock.call_later(2.0, lambda: seen.append(("never", 0.0))).cancel()
    assert clock.pending == 2
    await clock.advance(4.9)
    assert seen == [("early", 1.0)]
    await clock.advance(0.1)
    assert seen == [("early", 1.0), ("late", 5.0)]
    assert clock.pending == 0


async def test_a_loop_of_sleeps_lives_through_one_advance() -> None:
    clock = FakeClock(start=0.0)
    ticks: list[float] = []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(2.0)
            ticks.append(clock.monotonic())
        await clock.sleep(0)
        ticks.append(-1.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await clock.advance(10.0)
    assert ticks == [2.0, 4.0, 6.0, -1.0]


async def test_jump_runs_nothing_and_wall_can_step_alone() -> None:
    clock = FakeClock(start=0.0, wall=100.0)
    fired: list[bool] = []
    clock.call_later(1.0, lambda: fired.append(True))
    clock.jump(30.0)
    await settle()
    assert not fired
    await clock.advance()
    assert fired
    clock.set_wall(7.0)
    assert clock.wall() == 7.0
    assert clock.monotonic() == 30.0


async def test_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(10.0))
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert clock.pending == 0


async def test_deadline_expires_by_the_given_clock_only() -> None:
    clock = FakeClock()
    caught: list[bool] = []

    async def body() -> None:
        try:
            async with deadline(clock, 5.0) as scope:
                await asyncio.Event().wait()
        except TimeoutError:
            caught.append(scope.expired())

    async with asyncio.TaskGroup() as group:
        group.create_task(body())
        await clock.advance(4.9)
        assert not caught
        await clock.advance(0.2)
    assert caught == [True]


async def test_deadline_leaves_nothing_behind_when_the_body_ends_first() -> None:
    clock = FakeClock()
    async with deadline(clock, 5.0):
        pass
    async with deadline(clock, None):
        pass
    assert clock.pending == 0


async def test_deadline_does_not_claim_a_timeout_of_the_body() -> None:
    clock = FakeClock()
    with pytest.raises(TimeoutError):
        async with deadline(clock, 5.0) as scope:
            raise TimeoutError
    assert not scope.expired()


async def test_system_clock_sleeps_and_calls() -> None:
    before = SYSTEM_CLOCK.monotonic()
    called = asyncio.Event()
    SYSTEM_CLOCK.call_later(0.001, called.set)
    await SYSTEM_CLOCK.sleep(0.001)
    await asyncio.wait_for(called.wait(), 5.0)
    assert SYSTEM_CLOCK.monotonic() > before
    assert SYSTEM_CLOCK.wall() > 1_600_000_000


def test_rfc3339_never_rounds_into_an_impossible_second() -> None:
    assert rfc3339(0.0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1.5, micro=True) == "1970-01-01T00:00:01.500000Z"
    assert rfc3339(1.9999999, micro=True) == "1970-01-01T00:00:02.000000Z"
    assert rfc3339(1_767_225_600.25) == "2026-01-01T00:00:00Z"
