"""The client's side: makes and edits the objects, and sees when a contender has done its part."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import controller_runtime as ctrl

from .measure import Requests
from .ours import SAMPLE

CONCURRENCY = 16


class Load:
    """The samples of one namespace. `sent` counts its own requests, to be taken from the server's count."""

    def __init__(self, config: ctrl.Config, namespace: str) -> None:
        self.namespace = namespace
        self.sent: Requests = Counter()
        self._client = ctrl.connect(config, field_manager="bench-load")
        self._transport = ctrl.Transport(config, user_agent="bench-load")
        self._cache = ctrl.Cache(self._transport, namespaces=[namespace])
        self._wanted: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._latencies: list[float] = []
        self._open: set[str] = set()
        self._settled = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._cache.watch(SAMPLE).add_handler(self)
        self._task = asyncio.create_task(self._cache.run(self._stop))
        await self._cache.wait_synced(30.0)
        self.sent["LIST", "samples"] += 1  # its watch counts when it ends, which is after the last look
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._stop.set()
        await self._task
        for path in (SAMPLE.path(self.namespace), ctrl.CONFIG_MAP.path(self.namespace)):
            await self._client.request("DELETE", path, timeout=300.0)
        await self._client.close()
        await self._transport.close()

    # -- work

    async def create(self, names: Iterable[str], value: str) -> None:
        """One sample per name, as fast as the server takes them."""

        async def one(name: str) -> None:
            body = {
                "apiVersion": SAMPLE.api_version,
                "kind": SAMPLE.kind,
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"value": value},
            }
            self._expect(name, value)
            await self._client.create(body)
            self.sent["POST", "samples"] += 1

        await _crowd(names, one)

    async def edit(self, names: Iterable[str], value: str, *, rate: float = 0.0) -> None:
        """One edit of spec.value per name; `rate` a second, or as fast as the server takes them with 0."""
        began = time.monotonic()
        started = 0

        async def one(name: str) -> None:
            nonlocal started
            if rate:
                due = began + started / rate
                started += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._expect(name, value)
            await self._client.patch(
                SAMPLE, ctrl.Key(self.namespace, name), {"spec": {"value": value}}, type="merge"
            )
            self.sent["PATCH", "samples"] += 1

        await _crowd(names, one)

    async def settled(self, timeout: float) -> None:
        """Return when every sample's status says what its spec says. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._settled.wait()

    def take_latencies(self) -> list[float]:
        """Seconds from the request of each create or edit to its status, sorted; forgets them."""
        found, self._latencies = sorted(self._latencies), []
        return found

    # -- inside

    def _expect(self, name: str, value: str) -> None:
        self._wanted[name] = value
        self._began[name] = time.monotonic()
        self._open.add(name)
        self._settled.clear()

    def on_add(self, obj: ctrl.Object, in_initial_list: bool) -> None:
        self._see(obj)

    def on_update(self, old: ctrl.Object, new: ctrl.Object) -> None:
        self._see(new)

    def on_delete(self, obj: ctrl.Object, state_unknown: bool) -> None:
        pass

    def _see(self, obj: ctrl.Object) -> None:
        name = obj.name
        if name not in self._open or obj.status.get("value") != self._wanted[name]:
            return
        self._open.discard(name)
        self._latencies.append(time.monotonic() - self._began[name])
        if not self._open:
            self._settled.set()


async def _crowd(names: Iterable[str], act: Callable[[str], Awaitable[None]]) -> None:
    waiting = iter(names)

    async def worker() -> None:
        for name in waiting:
            await act(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(worker())
