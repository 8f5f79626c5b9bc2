"""How a controller starts, shares its workers, waits for its writes and ends."""

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller_runtime import Key, Result
from controller_runtime._controller import Controller, ControllerOptions
from controller_runtime._logging import current_reconcile
from controller_runtime._metrics import PrometheusMetrics
from controller_runtime.testing.clock import settle

from .fakes import FakeReconciler
from .harness import A, Harness


async def test_a_thousand_changes_during_one_reconcile_lead_to_exactly_one_more() -> None:
    gate = asyncio.Event()

    async def act(key: Key) -> Result:
        await gate.wait()
        return Result()

    harness = Harness(act, workers=50)
    async with harness.running():
        harness.channel.enqueue(A)
        await settle()
        for _ in range(1000):
            harness.channel.enqueue(A)
            await asyncio.sleep(0)
        assert harness.reconciler.calls == [A]
        gate.set()
        await settle()
    assert harness.reconciler.calls == [A, A]


async def test_workers_bound_what_runs_at_once() -> None:
    gate = asyncio.Event()

    async def act(key: Key) -> Result:
        await gate.wait()
        return Result()

    harness = Harness(act, workers=3)
    async with harness.running():
        for number in range(10):
            harness.channel.enqueue(Key("ns", str(number)))
        await settle()
        assert harness.reconciler.most == 3
        assert harness.value("controller_runtime_active_workers") == 3
        assert harness.value("controller_runtime_max_concurrent_reconciles") == 3
        assert harness.value("workqueue_depth", name="thing", priority="0") == 7
        gate.set()
        await settle()
    assert len(harness.reconciler.calls) == 10


async def test_drain_lets_running_reconciles_finish_and_starts_none() -> None:
    gate = asyncio.Event()
    finished: list[Key] = []

    async def act(key: Key) -> Result:
        await gate.wait()
        finished.append(key)
        return Result()

    harness = Harness(act, workers=4)
    async with harness.running() as task:
        for number in range(1000):
            harness.channel.enqueue(Key("ns", str(number)))
        await settle()
        harness.controller.drain()
        await settle()
        assert not task.done()
        gate.set()
        await asyncio.wait_for(task, 5.0)
    assert len(finished) == len(harness.reconciler.calls) == 4


async def test_cancelling_the_controller_cancels_reconciles_and_detaches_the_sources() -> None:
    cancelled: list[Key] = []

    async def act(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(key)
            raise
        return Result()

    harness = Harness(act, workers=2)
    async with harness.running() as task:
        harness.channel.enqueue(A)
        await settle()
    assert task.cancelled()
    assert cancelled == [A]
    assert harness.channel._feeders == {}


async def test_a_reconcile_that_swallows_cancellation_still_ends_with_the_controller() -> None:
    async def act(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return Result()

    harness = Harness(act)
    async with harness.running() as task:
        harness.channel.enqueue(A)
        harness.channel.enqueue(Key("ns", "b"))
        await settle()
        task.cancel()
        await asyncio.wait([task], timeout=5.0)
        assert task.done()
    assert harness.reconciler.calls == [A]


class FakeBarrier:
    def __init__(self) -> None:
        self.begun = 0
        self.answer: asyncio.Future[bool] | None = None

    def begin(self) -> None:
        self.begun += 1

    def pending(self) -> Awaitable[bool] | None:
        return self.answer


async def test_a_key_waits_for_its_own_writes_and_its_worker_does_not() -> None:
    barrier = FakeBarrier()
    barrier.answer = asyncio.get_running_loop().create_future()
    harness = Harness(barrier=barrier)
    async with harness.running():
        harness.channel.enqueue(A)
        await settle()
        harness.channel.enqueue(A)
        await settle()
        assert harness.reconciler.calls == [A]
        harness.channel.enqueue(Key("ns", "b"))
        await settle()
        assert harness.reconciler.calls == [A, Key("ns", "b")]
        behind, barrier.answer = barrier.answer, None
        behind.set_result(True)
        await settle()
        assert harness.reconciler.calls == [A, Key("ns", "b"), A]
    assert barrier.begun == 3
    assert harness.value("controller_runtime_py_stale_waits_total") == 0


async def test_a_barrier_that_gives_up_or_fails_holds_nothing_back() -> None:
    barrier = FakeBarrier()
    harness = Harness(barrier=barrier)
    async with harness.running():
        loop = asyncio.get_running_loop()
        for outcome in (False, RuntimeError("broken")):
            barrier.answer = loop.create_future()
            harness.channel.enqueue(A)
            await settle()
            if isinstance(outcome, Exception):
                barrier.answer.set_exception(outcome)
            else:
                barrier.answer.set_result(outcome)
            await settle()
        barrier.answer = None
        harness.channel.enqueue(A)
        await settle()
    assert len(harness.reconciler.calls) == 3
    assert harness.value("controller_runtime_py_stale_waits_total") == 1


async def test_drain_does_not_wait_for_the_cache() -> None:
    barrier = FakeBarrier()
    barrier.answer = asyncio.get_running_loop().create_future()
    harness = Harness(barrier=barrier)
    async with harness.running() as task:
        harness.channel.enqueue(A)
        await settle()
        harness.controller.drain()
        await asyncio.wait_for(task, 5.0)


class LateSource:
    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.starts = 0

    def start(self, queue: Any) -> None:
        self.starts += 1
        queue.add(A)

    async def wait_synced(self, timeout: float) -> None:
        await self.synced.wait()

    def stop(self) -> None:
        pass


async def test_workers_wait_for_the_sources_and_warm_up_starts_them_once() -> None:
    harness = Harness()
    source = LateSource()
    harness.controller._sources = (source,)
    async with harness.running():
        assert harness.reconciler.calls == []
        source.synced.set()
        await harness.controller.warm_up()
        await settle()
    assert harness.reconciler.calls == [A]
    assert source.starts == 1


async def test_the_scope_names_the_reconcile_and_its_id_is_its_own() -> None:
    seen: list[tuple[str, str, str, str]] = []

    async def act(key: Key) -> Result:
        async with asyncio.TaskGroup() as group:
            group.create_task(look())
        return Result()

    async def look() -> None:
        scope = current_reconcile.get()
        assert scope is not None
        assert scope.reconcile_id == scope.reconcile_id
        seen.append((scope.controller, scope.kind, str(scope.key), scope.reconcile_id))

    harness = Harness(act)
    async with harness.running():
        for _ in range(2):
            harness.channel.enqueue(A)
            await settle()
    assert [entry[:3] for entry in seen] == [("thing", "ConfigMap", "ns/a")] * 2
    assert seen[0][3] != seen[1][3]


def drive(coroutine: Coroutine[object, None, None]) -> None:
    while True:
        coroutine.send(None)


async def test_a_worker_that_meets_the_end_of_the_process_ends_the_controller() -> None:
    async def act(key: Key) -> Result:
        raise SystemExit(3)

    harness = Harness(act, workers=2)
    # SystemExit would leave the loop of the test as well, so the worker is driven by hand.
    harness.channel.source().start(harness.controller.queue)
    harness.channel.enqueue(A)

    async with asyncio.TaskGroup() as group:
        worker = harness.controller._work(group)
        with pytest.raises(SystemExit):
            drive(worker)
    assert harness.controller._stopping()


def test_impossible_options_are_refused_and_names_are_unique() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        ControllerOptions(workers=0)
    with pytest.raises(ValueError, match="reconciliation_timeout"):
        ControllerOptions(reconciliation_timeout=0.0)
    metrics = PrometheusMetrics(CollectorRegistry())
    Controller("same", FakeReconciler(), [], metrics=metrics)
    with pytest.raises(ValueError, match="'same' is taken"):
        Controller("same", FakeReconciler(), [], metrics=metrics)


async def test_backoff_is_exact_for_many_failures() -> None:
    times: list[float] = []

    async def act(key: Key) -> Result:
        times.append(harness.clock.monotonic())
        raise OSError("always")

    harness = Harness(act)
    async with harness.running():
        harness.channel.enqueue(A)
        await harness.clock.advance(5000.0)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([min(2.0**n, 1000.0) for n in range(len(gaps))])
    assert len(gaps) >= 13
