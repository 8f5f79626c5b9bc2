"""Scenarios 7 to 9 and 11: keys, failures and the end, with real events behind them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from itertools import pairwise

import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running

from ..fakes import until
from .mirror import OWNER, metric, owner

pytestmark = pytest.mark.apiserver

TOTAL = "controller_runtime_reconcile_total"


class Scripted:
    """A reconciler whose behaviour a test writes, by the name of the object; keeps the time of each call."""

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.running: set[ctrl.Key] = set()
        self.breaches: list[str] = []
        self.gate = asyncio.Event()

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        if request in self.running:
            self.breaches.append(str(request))
        self.running.add(request)
        self.calls[request.name].append(time.monotonic())
        try:
            return await self.act(request, len(self.calls[request.name]))
        finally:
            self.running.discard(request)

    async def act(self, request: ctrl.Request, call: int) -> ctrl.Result:
        match request.name:
            case "slow":
                await self.gate.wait()
            case "fails" if call <= 8:
                raise RuntimeError("not yet")
            case "terminal":
                raise ctrl.TerminalError("never")
            case "again" if call <= 2:
                raise RuntimeError("not yet")
            case "again" if call == 3:
                return ctrl.Result(requeue_after=0.3)
            case "cancels" if call == 1:
                raise asyncio.CancelledError
            case "hangs" if call == 1:
                await asyncio.Event().wait()
        return ctrl.Result()


def make(
    server: Envtest,
    space: str,
    *,
    workers: int = 5,
    timeout: float | None = None,
    when: ctrl.Predicate | None = None,
) -> tuple[ctrl.Manager, Scripted, ctrl.Controller]:
    manager = ctrl.Manager(server.config, field_manager="scripted", namespaces=[space], graceful_timeout=1.0)
    manager.cache.watch(ctrl.CONFIG_MAP, labels=OWNER)
    reconciler = Scripted()
    made = (
        ctrl.controller(manager, "scripted")
        .manages(ctrl.CONFIG_MAP, when=when)
        .complete(reconciler, workers=workers, reconciliation_timeout=timeout)
    )
    return manager, reconciler, made


@pytest.mark.parametrize("updates", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_7_updates_during_a_reconcile_lead_to_exactly_one_more(
    server: Envtest, space: str, updates: int
) -> None:
    manager, reconciler, _ = make(server, space, workers=50)
    async with server.client() as client, running(manager):
        await client.create(owner(space, "slow"))
        await until(lambda: reconciler.calls["slow"])
        last = ""
        for number in range(updates):
            changed = await client.patch(
                ctrl.CONFIG_MAP, ctrl.Key(space, "slow"), {"data": {"value": f"{number}"}}
            )
            last = changed.resource_version
        informer = manager.cache.informer(ctrl.CONFIG_MAP)
        await until(lambda: int(informer.last_resource_version) >= int(last))
        assert len(reconciler.calls["slow"]) == 1
        reconciler.gate.set()
        await until(lambda: len(reconciler.calls["slow"]) == 2)
        await client.create(owner(space, "marker"))
        await until(lambda: reconciler.calls["marker"])
        assert len(reconciler.calls["slow"]) == 2
        assert reconciler.breaches == []


async def test_8_failures_back_off_and_a_success_forgets_them(server: Envtest, space: str) -> None:
    manager, reconciler, made = make(server, space)
    async with server.client() as client, running(manager):
        for name in ("fails", "terminal", "again"):
            await client.create(owner(space, name))
        await until(lambda: len(reconciler.calls["fails"]) == 9 and len(reconciler.calls["again"]) == 4)
        gaps = [after - before for before, after in pairwise(reconciler.calls["fails"])]
        for number, gap in enumerate(gaps):
            # Never early; how late a busy machine makes it is not the queue's doing.
            assert gap >= 0.005 * 2**number, gaps
            assert gap < 0.005 * 2**number * 1.2 + 1.0, gaps
        again = reconciler.calls["again"]
        assert again[3] - again[2] >= 0.3
        await until(lambda: not reconciler.running)
        for name in ("fails", "again"):
            assert made.queue.failures(ctrl.Key(space, name)) == 0
        assert len(reconciler.calls["terminal"]) == 1
        await client.patch(ctrl.CONFIG_MAP, ctrl.Key(space, "terminal"), {"data": {"value": "2"}})
        await until(lambda: len(reconciler.calls["terminal"]) == 2)
        for name, count in (("terminal_reconcile_errors_total", 2.0), ("reconcile_errors_total", 12.0)):
            assert metric(manager, f"controller_runtime_{name}", controller="scripted") == count
        assert metric(manager, TOTAL, controller="scripted", result="requeue_after") == 1


async def test_9_nothing_a_user_raises_ends_a_worker(server: Envtest, space: str) -> None:
    def poison(obj: ctrl.Object) -> bool:
        if obj.name == "poison":
            raise RuntimeError("the predicate's own fault")
        return True

    manager, reconciler, _ = make(server, space, workers=1, timeout=0.3, when=ctrl.matching(poison))
    async with server.client() as client, running(manager):
        for name in ("poison", "cancels", "hangs"):
            await client.create(owner(space, name))
        await until(lambda: all(len(reconciler.calls[name]) == 2 for name in ("cancels", "hangs")))
        await client.create(owner(space, "after"))
        await until(lambda: reconciler.calls["after"])
        assert not reconciler.calls["poison"]
        assert metric(manager, "controller_runtime_reconcile_timeouts_total", controller="scripted") == 1
        assert metric(manager, TOTAL, controller="scripted", result="error") == 2
        failures = metric(manager, "controller_runtime_py_handler_failures_total", kind="ConfigMap")
        assert failures == 1
        await until(lambda: metric(manager, "controller_runtime_active_workers", controller="scripted") == 0)


class Slow:
    """Takes `seconds` a key."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = 0
        self.finished = 0

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        self.begun += 1
        await asyncio.sleep(self.seconds)
        self.finished += 1
        return ctrl.Result()


async def stopping(
    server: Envtest, space: str, reconciler: Slow, *, grace: float, signals: int = 1
) -> tuple[int, float, list[int]]:
    """Start 20 reconciles with 1,000 keys behind them, send SIGTERM; (exit code, seconds it took, forced)."""
    manager = ctrl.Manager(server.config, field_manager="slow", namespaces=[space], graceful_timeout=grace)
    channel = ctrl.Channel()
    ctrl.controller(manager, "slow").source(channel).complete(reconciler, workers=20)
    forced: list[int] = []
    end = asyncio.create_task(manager.run_until_signal(exit_now=forced.append))
    await asyncio.wait_for(manager.started.wait(), 20.0)
    for number in range(1000):
        channel.enqueue(ctrl.Key(space, f"k{number}"))
    await until(lambda: reconciler.begun == 20)
    began = time.monotonic()
    for _ in range(signals):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
    code = await asyncio.wait_for(end, 30.0)
    return code, time.monotonic() - began, forced


@pytest.mark.parametrize("seconds", [0.5, pytest.param(3.0, marks=pytest.mark.slow)])
async def test_11_what_runs_is_finished_and_nothing_else_begins(
    server: Envtest, space: str, seconds: float
) -> None:
    reconciler = Slow(seconds)
    code, took, forced = await stopping(server, space, reconciler, grace=20.0)
    assert (code, forced) == (0, [])
    assert (reconciler.begun, reconciler.finished) == (20, 20)
    assert took < 15.0


async def test_11_what_outlives_the_grace_is_cancelled(server: Envtest, space: str) -> None:
    reconciler = Slow(60.0)
    code, took, _ = await stopping(server, space, reconciler, grace=0.3)
    assert code == 1
    assert (reconciler.begun, reconciler.finished) == (20, 0)
    assert took < 15.0


async def test_11_a_second_signal_leaves_at_once(server: Envtest, space: str) -> None:
    _, _, forced = await stopping(server, space, Slow(1.0), grace=10.0, signals=2)
    assert forced == [1]
