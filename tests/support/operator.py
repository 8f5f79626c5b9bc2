"""The operator in this process, against a real API server, limited to the namespaces of one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

import controller_runtime as ctrl
from controller_runtime import testing
from controllers import caches
from controllers.kinds import FIELD_MANAGER
from controllers.options import Options

Setup = Callable[[ctrl.Manager, Options], object]


@asynccontextmanager
async def running(
    config: ctrl.Config, namespace: str, options: Options, setups: Iterable[Setup]
) -> AsyncIterator[ctrl.Manager]:
    """Yields the manager once its caches are synced; stops it (and fails on its error) afterwards."""
    manager = ctrl.Manager(
        config,
        field_manager=FIELD_MANAGER,
        namespaces=[namespace],
        graceful_timeout=5.0,
        registry=CollectorRegistry(),
    )
    caches.configure(manager)
    for setup in setups:
        setup(manager, options)
    async with testing.running(manager):
        yield manager


async def eventually(
    client: ctrl.Client,
    kind: ctrl.Kind,
    key: ctrl.Key,
    holds: Callable[[ctrl.Object | None], object],
    *,
    within: float = 10.0,
) -> ctrl.Object | None:
    """The object once `holds(object)`; fails with its last status after `within` seconds."""
    last: ctrl.Object | None = None
    try:
        async with asyncio.timeout(within):
            while True:
                last = await client.get_live(kind, key)
                if holds(last):
                    return last
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{kind.kind} {key} after {within:g} s: {last.raw if last else None}") from None
