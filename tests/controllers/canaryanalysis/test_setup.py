"""The controller as the operator runs it: manager, caches, watches and workers of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

import controller_runtime as ctrl
from controller_runtime.testing import running
from controllers import caches
from controllers.analysis.server import Server
from controllers.canaryanalysis.setup import setup
from controllers.canaryanalysis.spec import stamp
from controllers.kinds import CANARY_ANALYSIS, FIELD_MANAGER, PADDLE_SERVICE
from controllers.options import Options
from tests.controllers.analysis.prometheus import Scripted, serving

from .harness import Harness
from .objects import Tree
from .scenes import GOOD

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver


@asynccontextmanager
async def operator(
    apiserver: Envtest, namespace: str, servers: tuple[Server, ...]
) -> AsyncIterator[ctrl.Manager]:
    manager = ctrl.Manager(
        apiserver.config, field_manager=FIELD_MANAGER, namespaces=[namespace], graceful_timeout=2.0
    )
    caches.configure(manager)
    setup(manager, Options(runtime_image="none", prometheus=servers))
    async with running(manager, timeout=60):
        yield manager


@pytest.fixture
async def desk(apiserver: Envtest, namespace: str) -> AsyncIterator[tuple[Harness, Scripted]]:
    """A healthy server and one that hangs."""
    async with AsyncExitStack() as stack:
        healthy = await stack.enter_async_context(serving(Scripted()))
        hanging = await stack.enter_async_context(serving(Scripted(hang=asyncio.Event())))
        client = await stack.enter_async_context(apiserver.client())
        made = Harness(client, namespace, healthy)
        healthy.reply = lambda query, at: GOOD.value(query)
        await made.service()
        yield made, hanging


async def canary(desk: Harness, phase: str, *, attempt: int = 1, service: str = "ocr") -> None:
    status = {"canary": {"phase": phase, "run": 1, "attempt": attempt}}
    await desk.live.apply_status(PADDLE_SERVICE, ctrl.Key(desk.namespace, service), status)


async def until(desk: Harness, key: ctrl.Key, question: Callable[[Tree], bool]) -> Tree:
    status: Tree = {}
    try:
        async with asyncio.timeout(60):
            while True:
                found = await desk.live.get_live(CANARY_ANALYSIS, key)
                status = found.status if found is not None else {}
                if question(status):
                    return status
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never happened; status is {status}") from None


async def test_a_hanging_server_delays_no_analysis_of_another_one(
    desk: tuple[Harness, Scripted], apiserver: Envtest, namespace: str
) -> None:
    made, hanging = desk
    servers = (Server(name="default", url=made.url), Server(name="hangs", url=hanging.url))
    overdue = stamp(time.time() - 100)
    async with operator(apiserver, namespace, servers) as manager:
        for name in ("s1", "s2", "s3"):
            await made.service(name)
            await canary(made, "Analysing", service=name)
            await made.create(service=name, windowStart=overdue, prometheus="hangs")
        await hanging.arrive(3)

        await made.service()
        key = await made.create(windowStart=overdue, requiredPasses=1)
        await canary(made, "Shifting")
        # Its time has long come, but its service is not there yet: what comes makes it look at once.
        await canary(made, "Analysing")
        status = await until(made, key, lambda status: status.get("verdict") == "Passed")
        assert status["counts"]["windows"] == 1

        await canary(made, "Analysing", attempt=2)
        later = await made.create(attempt=2, windowStart=stamp(time.time()))
        await until(made, later, lambda status: status.get("verdict") == "Running")
        await canary(made, "RollingBack", attempt=2)
        await until(made, later, lambda status: status.get("verdict") == "Superseded")

        scrape = generate_latest(manager.metrics.registry).decode()
        assert 'paddle_canary_measurements_total{metric="all",result="pass"} 1.0' in scrape
        assert 'paddle_canary_verdicts_total{verdict="Superseded"} 1.0' in scrape
        assert 'paddle_prometheus_up{server="default"} 1.0' in scrape
        assert hanging.hang is not None
        hanging.hang.set()  # the end waits for looks that are under way
