"""Stand-ins for the half of the library that talks to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from controller_runtime import Key, Kind, Object, Result
from controller_runtime._informer_api import Handler, Registration
from controller_runtime.errors import CacheSyncTimeout


class FakeInformer:
    """An informer whose events a test makes."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.handlers: list[Handler] = []
        self.objects: list[Object] = []
        self.is_synced = asyncio.Event()
        self.delivered = asyncio.Event()
        self.last_error = ""
        self.last_resource_version = ""

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def synced(self) -> bool:
        return self.is_synced.is_set()

    def sync(self, *objects: Object) -> None:
        """The first list arrives."""
        self.objects = list(objects)
        self.is_synced.set()
        self.delivered.set()
        for handler in self.handlers:
            for obj in objects:
                handler.on_add(obj, True)

    def add_handler(self, handler: Handler) -> Registration:
        self.handlers.append(handler)
        for obj in self.objects:
            handler.on_add(obj, True)
        return _FakeRegistration(self, handler)

    async def wait_synced(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self.is_synced.wait()
        except TimeoutError:
            raise CacheSyncTimeout(f"{self._kind}: {self.last_error}") from None

    def get(self, key: Key) -> Object | None:
        return None

    def list(
        self,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | str | None = None,
        index: tuple[str, str] | None = None,
    ) -> list[Object]:
        return self.objects

    async def run(self) -> None:
        await asyncio.Event().wait()


class _FakeRegistration:
    def __init__(self, informer: FakeInformer, handler: Handler) -> None:
        self._informer = informer
        self._handler = handler

    def has_synced(self) -> bool:
        return self._informer.delivered.is_set()

    async def wait_synced(self, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._informer.delivered.wait()

    def remove(self) -> None:
        if self._handler in self._informer.handlers:
            self._informer.handlers.remove(self._handler)


class FakeReconciler:
    """Calls a function, and keeps what was asked and whether one key was ever in two calls."""

    def __init__(self, act: Callable[[Key], Awaitable[Result]] | None = None) -> None:
        self.act = act
        self.calls: list[Key] = []
        self.running: set[Key] = set()
        self.most = 0

    async def reconcile(self, request: Key) -> Result:
        assert request not in self.running, f"{request} in two workers"
        self.running.add(request)
        self.most = max(self.most, len(self.running))
        self.calls.append(request)
        try:
            return await self.act(request) if self.act is not None else Result()
        finally:
            self.running.remove(request)


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for a condition that other tasks or a server bring about; fails the test after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is not ours to signal
            await asyncio.sleep(0.005)
