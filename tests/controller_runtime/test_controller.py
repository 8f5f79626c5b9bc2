import asyncio
from typing import Any

import pytest

from controller_runtime import Conflict, Forbidden, Key, NotLeader, Result, TerminalError
from controller_runtime._workqueue import LOW_PRIORITY

from .harness import A, Harness


async def test_success_forgets_failures_and_is_counted() -> None:
    fail = [True, True, False]

    async def act(key: Key) -> Result:
        if fail.pop(0):
            raise OSError("not yet")
        return Result()

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(0.99)
        assert len(harness.reconciler.calls) == 1
        await harness.clock.advance(0.01)
        assert len(harness.reconciler.calls) == 2
        await harness.clock.advance(1.99)
        assert len(harness.reconciler.calls) == 2
        await harness.clock.advance(0.01)
        assert len(harness.reconciler.calls) == 3
        await harness.clock.advance(10_000)
    assert len(harness.reconciler.calls) == 3
    assert harness.controller.queue.failures(A) == 0
    assert harness.results() == {"error": 2, "success": 1}
    assert harness.value("controller_runtime_reconcile_errors_total") == 2
    assert harness.value("controller_runtime_reconcile_panics_total") == 0
    assert harness.value("controller_runtime_reconcile_time_seconds_count") == 3
    assert harness.value("controller_runtime_active_workers") == 0


async def test_terminal_error_is_not_retried_and_keeps_the_failure_count() -> None:
    outcomes: list[Exception] = [OSError("x"), TerminalError("spec is wrong")]

    async def act(key: Key) -> Result:
        raise outcomes.pop(0)

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(10_000)
    assert len(harness.reconciler.calls) == 2
    assert harness.controller.queue.failures(A) == 1
    assert harness.value("controller_runtime_reconcile_errors_total") == 2
    assert harness.value("controller_runtime_terminal_reconcile_errors_total") == 1
    assert harness.results() == {"error": 2}


async def test_requeue_after_forgets_and_looks_again_then() -> None:
    outcomes: list[Result | Exception] = [OSError("x"), Result(requeue_after=2.0), Result()]

    async def act(key: Key) -> Result:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(1.0)
        assert len(harness.reconciler.calls) == 2
        assert harness.controller.queue.failures(A) == 0
        await harness.clock.advance(1.99)
        assert len(harness.reconciler.calls) == 2
        await harness.clock.advance(0.01)
        assert len(harness.reconciler.calls) == 3
    assert harness.results() == {"error": 1, "requeue_after": 1, "success": 1}


async def test_a_requeue_keeps_the_priority_unless_told_otherwise() -> None:
    outcomes: list[Result | Exception] = [OSError("x"), Result(requeue_after=1.0)]
    outcomes += [Result(requeue_after=1.0, priority=5), Result()]
    harness = Harness()
    seen: list[int] = []
    taken = harness.controller.queue._metrics.taken

    def record(priority: int, waited: float) -> None:
        seen.append(priority)
        taken(priority, waited)

    harness.controller.queue._metrics.taken = record  # type: ignore[method-assign]

    async def act(key: Key) -> Result:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    harness.reconciler.act = act
    async with harness.running():
        harness.channel.enqueue(A, priority=LOW_PRIORITY)
        await harness.clock.advance(10.0)
    assert seen == [LOW_PRIORITY, LOW_PRIORITY, LOW_PRIORITY, 5]


@pytest.mark.parametrize(
    ("error", "panics"),
    [
        (TypeError("bug"), 1),
        (KeyError("bug"), 1),
        (AssertionError("bug"), 1),
        (ZeroDivisionError("bug"), 1),
        (RuntimeError("domain"), 0),
        (Conflict(409, "Conflict", "moved on"), 0),
        (NotLeader("lost"), 0),
        (Forbidden(403, "Forbidden", "no"), 0),
        (TimeoutError(), 0),
    ],
)
async def test_any_exception_is_an_error_and_bugs_are_panics_too(error: Exception, panics: int) -> None:
    async def act(key: Key) -> Result:
        if len(harness.reconciler.calls) == 1:
            raise error
        return Result()

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(5.0)
    assert harness.results() == {"error": 1, "success": 1}
    assert harness.value("controller_runtime_reconcile_panics_total") == panics
    assert harness.value("controller_runtime_reconcile_timeouts_total") == 0


async def test_a_forgotten_result_is_an_error() -> None:
    async def act(key: Key) -> Any:
        return None

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(0.5)
    assert harness.results() == {"error": 1}


async def test_timeout_cancels_the_call_and_only_ours_is_counted() -> None:
    ended: list[str] = []

    async def act(key: Key) -> Result:
        if len(harness.reconciler.calls) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
        if len(harness.reconciler.calls) == 2:
            raise TimeoutError("of some call inside")
        return Result()

    harness = Harness(act, reconciliation_timeout=5.0)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(4.9)
        assert not ended
        await harness.clock.advance(20.0)
    assert ended == ["cancelled"]
    assert harness.value("controller_runtime_reconcile_timeouts_total") == 1
    assert harness.results() == {"error": 2, "success": 1}


async def test_cancelled_error_of_the_reconciler_does_not_end_the_worker() -> None:
    async def act(key: Key) -> Result:
        call = len(harness.reconciler.calls)
        if call == 1:
            raise asyncio.CancelledError
        if call == 2:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0  # or every asyncio.timeout of later reconciles would misbehave
        return Result()

    harness = Harness(act)
    async with harness.running() as task:
        harness.channel.enqueue(A)
        await harness.clock.advance(10.0)
        assert not task.done()
    assert harness.results() == {"error": 2, "success": 1}
