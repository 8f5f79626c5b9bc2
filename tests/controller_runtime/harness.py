"""One controller on a fake clock, for the tests of controllers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from controller_runtime import CONFIG_MAP, Key, Result
from controller_runtime._controller import Controller, ControllerOptions
from controller_runtime._metrics import PrometheusMetrics
from controller_runtime._ratelimit import ExponentialRateLimiter
from controller_runtime._sources import Channel
from controller_runtime.testing.clock import FakeClock, settle

from .fakes import FakeReconciler

A = Key("ns", "a")


class Harness:
    """One controller on a fake clock, fed by a channel."""

    def __init__(self, act: Callable[[Key], Awaitable[Result]] | None = None, **options: Any) -> None:
        self.clock = FakeClock(start=0.0)
        self.reconciler = FakeReconciler(act)
        self.channel = Channel()
        self.registry = CollectorRegistry()
        barrier = options.pop("barrier", None)
        limiter = ExponentialRateLimiter[Key](base=1.0, maximum=1000.0)
        self.controller = Controller(
            "thing",
            self.reconciler,
            [self.channel.source()],
            metrics=PrometheusMetrics(self.registry),
            kind=CONFIG_MAP,
            options=ControllerOptions(limiter=limiter, **options),
            barrier=barrier,
            clock=self.clock,
        )

    def value(self, name: str, /, **labels: str) -> float:
        value = self.registry.get_sample_value(name, {"controller": "thing", **labels})
        assert value is not None, name
        return value

    def results(self) -> dict[str, float]:
        names = ("success", "error", "requeue", "requeue_after")
        found = {name: self.value("controller_runtime_reconcile_total", result=name) for name in names}
        return {name: value for name, value in found.items() if value}

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.controller.run())
        await settle()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
