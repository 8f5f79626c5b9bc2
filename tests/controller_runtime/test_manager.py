import asyncio
import os
import signal
from typing import Any

import aiohttp
import pytest

from controller_runtime import (
    Config,
    Key,
    LeaderElection,
    LeaderLost,
    Manager,
    NotLeader,
    Result,
    ShutdownTimeout,
)
from controller_runtime import _runnables as runnables
from controller_runtime._builder import controller
from controller_runtime._controller import Controller
from controller_runtime._sources import Channel
from controller_runtime.testing.clock import FakeClock, settle

from .fakes import FakeReconciler, until
from .test_leaderelection import FakeLeases

# Nothing listens there: these managers watch no kind and their leases are fakes.
NOWHERE = Config(server="http://127.0.0.1:9", namespace="ns")


def make(**options: Any) -> Manager:
    return Manager(NOWHERE, field_manager="tester", **options)


def elect(manager: Manager, api: FakeLeases) -> Manager:
    assert manager._elector is not None
    manager._elector._api = api
    return manager


class Running:
    def __init__(self, manager: Manager) -> None:
        self.stop = asyncio.Event()
        self.manager = manager
        self.task = asyncio.create_task(manager.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 20.0)


class Recorded:
    """A runnable that notes when it starts and ends."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def run(self) -> None:
        self.log.append(f"+{self.name}")
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(f"-{self.name}")


def add_busy_controller(
    manager: Manager, act: Any, *, workers: int = 4
) -> tuple[Controller, Channel, FakeReconciler]:
    channel, reconciler = Channel(), FakeReconciler(act)
    made = controller(manager, "busy").source(channel).complete(reconciler, workers=workers)
    return made, channel, reconciler


async def test_order_of_start_and_stop() -> None:
    log: list[str] = []
    manager = elect(make(leader_election=LeaderElection(name="lock")), api := FakeLeases())
    manager.add(Recorded("led", log))
    manager.add(Recorded("other", log), leader=False)
    running = Running(manager)
    await until(lambda: "+led" in log)
    assert manager.leading
    manager.add(Recorded("late", log))
    await until(lambda: "+late" in log)
    await running.end()
    assert log == ["+other", "+led", "+late", "-other", "-led", "-late"]
    assert api.spec["holderIdentity"] == ""  # released, and only after the led work had ended
    assert not manager.leading


async def test_lease_is_released_after_the_led_work_ended() -> None:
    api = FakeLeases()
    manager = elect(make(leader_election=LeaderElection(name="lock")), api)
    gate = asyncio.Event()
    holders: list[str] = []

    async def act(key: Key) -> Result:
        await gate.wait()
        holders.append(api.spec["holderIdentity"])
        manager.client._check()
        return Result()

    _, channel, reconciler = add_busy_controller(manager, act)
    running = Running(manager)
    channel.enqueue(Key("ns", "a"))
    await until(lambda: reconciler.calls)
    running.stop.set()
    await settle()
    gate.set()
    await running.end()
    assert holders != [""]
    assert api.spec["holderIdentity"] == ""
    with pytest.raises(NotLeader):
        manager.client._check()


async def test_sigterm_drains_what_runs_and_starts_nothing_new() -> None:
    manager = make()
    gate = asyncio.Event()
    finished: list[Key] = []

    async def act(key: Key) -> Result:
        await gate.wait()
        finished.append(key)
        return Result()

    _, channel, reconciler = add_busy_controller(manager, act, workers=20)
    task = asyncio.create_task(manager.run_until_signal())
    for number in range(1000):
        channel.enqueue(Key("ns", str(number)))
    await until(lambda: len(reconciler.running) == 20)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: manager._stopping)
    await settle()
    gate.set()
    assert await asyncio.wait_for(task, 10.0) == 0
    assert len(finished) == len(reconciler.calls) == 20


async def test_a_reconcile_that_outlives_the_grace_is_cancelled() -> None:
    manager = make(graceful_timeout=0.05)
    cancelled: list[Key] = []

    async def act(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(key)
        return Result()

    _, channel, reconciler = add_busy_controller(manager, act)
    running = Running(manager)
    channel.enqueue(Key("ns", "a"))
    await until(lambda: reconciler.calls)
    running.stop.set()
    with pytest.raises(ShutdownTimeout, match=r"0\.05 s"):
        await running.task
    assert cancelled == [Key("ns", "a")]


async def test_a_second_signal_leaves_at_once() -> None:
    manager = make()
    left: list[int] = []
    gate = asyncio.Event()

    async def act(key: Key) -> Result:
        await gate.wait()
        return Result()

    _, channel, reconciler = add_busy_controller(manager, act)
    task = asyncio.create_task(manager.run_until_signal(exit_now=left.append))
    channel.enqueue(Key("ns", "a"))
    await until(lambda: reconciler.calls)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: manager._stopping)
    assert left == []
    os.kill(os.getpid(), signal.SIGINT)
    await until(lambda: left)
    assert left == [1]
    gate.set()
    assert await asyncio.wait_for(task, 10.0) == 0


async def test_a_lost_lease_cancels_at_once_and_is_an_error() -> None:
    api, clock = FakeLeases(), FakeClock()
    manager = elect(make(leader_election=LeaderElection(name="lock"), clock=clock), api)
    cancelled: list[Key] = []

    async def act(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(key)
        return Result()

    _, channel, reconciler = add_busy_controller(manager, act)
    running = Running(manager)
    channel.enqueue(Key("ns", "a"))
    await until(lambda: reconciler.calls)
    api.hanging = True
    await clock.advance(11.9)
    with pytest.raises(LeaderLost):
        await asyncio.wait_for(running.task, 10.0)
    assert cancelled == [Key("ns", "a")]


async def test_a_lost_lease_cancels_led_work_before_anything_else_is_waited_for() -> None:
    api, clock, log = FakeLeases(), FakeClock(), list[str]()
    manager = elect(make(leader_election=LeaderElection(name="lock"), clock=clock), api)
    release = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    manager.add(Recorded("led", log))
    manager.add(slow_to_end, leader=False)
    running = Running(manager)
    await until(lambda: log)
    api.hanging = True
    await clock.advance(11.9)
    await until(lambda: "-led" in log, seconds=2.0)
    release.set()
    with pytest.raises(LeaderLost):
        await asyncio.wait_for(running.task, 10.0)


async def test_a_non_leader_that_is_stopped_never_starts_led_work() -> None:
    """controller-runtime#2719: the lease may become ours in the very moment of the stop."""
    log: list[str] = []
    api = FakeLeases()
    api.hanging = True
    manager = elect(make(leader_election=LeaderElection(name="lock")), api)
    manager.add(Recorded("led", log))
    running = Running(manager)
    await until(lambda: api.calls)
    running.stop.set()
    await running.end()
    manager._lead()  # what a late success would do
    await settle()
    assert log == []
    assert not manager.elected.is_set()


async def test_without_election_led_work_starts_and_writes_are_free() -> None:
    log: list[str] = []
    manager = make()
    manager.add(Recorded("led", log))
    running = Running(manager)
    await asyncio.wait_for(manager.elected.wait(), 10.0)
    await until(lambda: log)
    assert manager.leading
    manager.client._check()
    await running.end()
    with pytest.raises(RuntimeError, match="runs once"):
        await manager.run(asyncio.Event())


async def test_failures_stop_everything_and_are_raised() -> None:
    log: list[str] = []

    async def fails() -> None:
        raise ValueError("no good")

    manager = make()
    manager.add(Recorded("other", log), leader=False)
    manager.add(fails)
    with pytest.raises(ValueError, match="no good"):
        await asyncio.wait_for(manager.run(asyncio.Event()), 10.0)
    assert log == ["+other", "-other"]

    failing = make()
    failing.add(fails)
    assert await failing.run_until_signal() == 1


async def test_a_finished_cache_is_an_error_and_never_silence() -> None:
    manager = make()

    async def ends(stop: asyncio.Event) -> None:
        return None

    manager.cache.run = ends  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="cache ended"):
        await asyncio.wait_for(manager.run(asyncio.Event()), 10.0)


async def test_a_runnable_may_finish_and_one_that_is_none_is_an_error() -> None:
    done = asyncio.Event()

    async def once() -> None:
        done.set()

    manager = make()
    manager.add(once)
    running = Running(manager)
    await asyncio.wait_for(done.wait(), 10.0)
    await settle()
    assert not running.task.done()
    await running.end()

    wrong = make()
    wrong.add(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="neither a coroutine function"):
        await asyncio.wait_for(wrong.run(asyncio.Event()), 10.0)


async def test_what_ignores_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runnables, "CANCEL_PATIENCE", 0.05)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    manager = make(graceful_timeout=0.0)
    manager.add(stubborn)
    running = Running(manager)
    await asyncio.wait_for(manager.started.wait(), 10.0)
    await settle()
    await running.end()
    release.set()


async def test_cancelling_run_stops_without_grace() -> None:
    log: list[str] = []
    manager = make()
    manager.add(Recorded("led", log))
    running = Running(manager)
    await until(lambda: log)
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert log == ["+led", "-led"]


async def test_warm_up_starts_the_sources_of_a_follower() -> None:
    api = FakeLeases()
    api.hanging = True
    manager = elect(make(leader_election=LeaderElection(name="lock")), api)
    channel, reconciler = Channel(), FakeReconciler()
    made = controller(manager, "warm").source(channel).complete(reconciler, warm_up=True)
    running = Running(manager)
    await asyncio.wait_for(manager.started.wait(), 10.0)
    channel.enqueue(Key("ns", "a"))
    assert len(made.queue) == 1
    await running.end()
    assert reconciler.calls == []


async def test_health_follows_the_loop_the_lease_and_the_caches() -> None:
    clock = FakeClock()
    election = LeaderElection(name="lock")
    made = make(leader_election=election, clock=clock, health_address="127.0.0.1:0")
    manager = elect(made, FakeLeases())
    manager.add_healthz("mine", lambda: None)
    manager.add_readyz("mine", lambda: "not yet")
    assert "caches" in manager._check_caches()
    running = Running(manager)
    await until(lambda: manager.leading)
    assert manager._check_caches() == ""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{manager.health_port}"
        async with session.get(f"{url}/livez?verbose") as response:
            assert "[+]lease ok" in await response.text()
        async with session.get(f"{url}/readyz") as response:
            assert response.status == 500
    clock.jump(20.1)
    assert "lease not renewed for 20.1 s" in manager._check_lease()
    manager._watchdog._beat -= 60.0
    assert "silent" in manager._check_loop()
    running.task.cancel()
    await asyncio.wait([running.task])


async def test_health_and_metrics_may_share_an_address(unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    manager = make(health_address=address, metrics_address=address)
    running = Running(manager)
    await asyncio.wait_for(manager.started.wait(), 10.0)
    async with aiohttp.ClientSession() as session:
        for path in ("healthz", "readyz", "metrics"):
            async with session.get(f"http://{address}/{path}") as response:
                assert response.status == 200
    await running.end()


def test_options_are_checked_when_the_manager_is_made() -> None:
    with pytest.raises(ValueError, match="graceful_timeout"):
        make(graceful_timeout=-1.0)
    with pytest.raises(ValueError, match="host:port"):
        make(health_address="nonsense")
    with pytest.raises(ValueError, match=r"leader_election\.namespace"):
        Manager(Config(server="http://x"), field_manager="t", leader_election=LeaderElection(name="lock"))
