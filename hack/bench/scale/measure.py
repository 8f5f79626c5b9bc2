"""What the run watches: how many models are Ready, what the operator holds, what it wrote."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

import controller_runtime as ctrl
from controllers.kinds import PADDLE_MODEL


class Models:
    """Which models are Ready at their newest generation, in the order in which they became so."""

    def __init__(self) -> None:
        self.ready: dict[str, float] = {}
        self.phases: dict[str, str] = {}

    def on_add(self, obj: ctrl.Object, in_initial_list: bool) -> None:
        self._see(obj)

    def on_update(self, old: ctrl.Object, new: ctrl.Object) -> None:
        self._see(new)

    def on_delete(self, obj: ctrl.Object, state_unknown: bool) -> None:
        self.ready.pop(obj.name, None)
        self.phases.pop(obj.name, None)

    def _see(self, obj: ctrl.Object) -> None:
        status = obj.status
        phase = str(status.get("phase") or "")
        self.phases[obj.name] = phase
        if phase == "Ready" and status.get("observedGeneration") == obj.generation:
            self.ready.setdefault(obj.name, time.monotonic())
        else:
            self.ready.pop(obj.name, None)

    def summary(self) -> str:
        return ", ".join(
            f"{phase or 'new'} {count}" for phase, count in Counter(self.phases.values()).items()
        )


@asynccontextmanager
async def watching(config: ctrl.Config) -> AsyncIterator[Models]:
    """Models of all namespaces, followed by a watch of the benchmark's own."""
    transport = ctrl.Transport(config, user_agent="scale")
    cache = ctrl.Cache(transport)
    models = Models()
    cache.watch(PADDLE_MODEL).add_handler(models)
    stop = asyncio.Event()
    task = asyncio.create_task(cache.run(stop))
    try:
        await cache.wait_synced(30.0)
        yield models
    finally:
        stop.set()
        await task
        await transport.close()


async def scrape(port: int, name: str) -> dict[str, float]:
    """The samples of one metric of the operator, as `samples` has them."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return samples(await answer.text(), name)


def samples(text: str, name: str) -> dict[str, float]:
    """The samples called `name` in a scrape, by the values of their labels, joined by "/"."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found["/".join(sample.labels.values())] = sample.value
    return found


def writes(events: Iterable[Mapping[str, object]], lease: str) -> dict[str, int]:
    """What audit events wrote but for the Lease and the event that says who holds it, "verb resource" ->
    how many.
    """
    found: Counter[str] = Counter()
    for event in events:
        where = event.get("objectRef")
        if not isinstance(where, Mapping) or where.get("resource") == "leases":
            continue
        if where.get("resource") == "events" and str(where.get("name")).startswith(f"{lease}."):
            continue
        parts = (str(where.get("resource")), str(where.get("subresource") or ""))
        found[f"{event['verb']} {'/'.join(part for part in parts if part)}"] += 1
    return dict(found)
