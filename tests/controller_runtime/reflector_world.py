"""A reflector between a scripted server and a recording sink, on a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controller_runtime import Key, ReflectorOptions
from controller_runtime._reflector import Reflector
from controller_runtime._wire import Entry, MalformedObject
from controller_runtime.testing import FakeClock

from .scripted import ScriptedSource, ScriptedStream, page, thing


class RecordingSink:
    """Keeps the resulting names and everything it was told."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.version = ""
        self.replaced = 0
        self.batches: list[int] = []
        self.bad = 0
        self.pauses: list[float] = []
        self.ends: list[str] = []
        self.last: dict[Key, Entry] = {}

    def replace(self, entries: dict[Key, Entry], version: str) -> None:
        self.replaced += 1
        self.version = version
        self.held = {key.name: entry.header.resourceVersion for key, entry in entries.items()}
        self.last = entries

    def apply(self, events: list[tuple[str, Entry]], version: str) -> None:
        self.batches.append(len(events))
        self.version = version
        for kind, entry in events:
            if kind == "DELETED":
                self.held.pop(entry.header.name, None)
            else:
                self.held[entry.header.name] = entry.header.resourceVersion

    def malformed(self, error: MalformedObject) -> None:
        self.bad += 1

    def failed(self, error: Exception, pause: float) -> None:
        self.pauses.append(round(pause, 3))

    def connected(self) -> None: ...

    def ended(self, reason: str) -> None:
        self.ends.append(reason)


class World:
    def __init__(self, options: ReflectorOptions | None = None, *, random: float = 0.0) -> None:
        self.clock = FakeClock()
        self.source = ScriptedSource()
        self.sink = RecordingSink()
        self.reflector = Reflector(
            self.source, self.sink, options=options, clock=self.clock, random=lambda: random
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reflector.run())
        await self.clock.advance()
        try:
            yield
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def started(*items: bytes, world: World, version: int = 10) -> ScriptedStream:
    """Script: a list with one object at `version`, then a watch with `items`."""
    stream = ScriptedStream(*items)
    world.source.on_list(page(thing("a", 7), version=version))
    world.source.on_watch(stream)
    return stream
