"""`make bench-analysis`: 200 canaries that are judged by one operator: how late their looks are.

A real API server, and a Prometheus stand-in in a process of its own that answers every query at once. Each
canary is looked at every 15 s, four times as often as by default. Then the operator is away until all of them
are overdue, and comes back; then all runs end, and nothing may be written any more. Prints one line a bar,
writes the same to .local/bench/analysis.json, and exits 1 if one misses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running
from controllers import caches
from controllers.analysis.server import Server
from controllers.canaryanalysis.setup import setup
from controllers.canaryanalysis.spec import stamp
from controllers.kinds import CANARY_ANALYSIS, FIELD_MANAGER, PADDLE_SERVICE
from controllers.options import Options
from hack.bench.bars import Bar
from hack.cluster import paths
from tests.controllers.analysis.prometheus import Scripted, serving
from tests.controllers.canaryanalysis.harness import Harness
from tests.controllers.canaryanalysis.scenes import GOOD

INTERVAL = 15
STEADY = 60.0
#: Seconds that 99 of 100 looks may be late at most.
LIMIT = 5.0


async def stand_in() -> None:
    """The Prometheus: says its URL on the first line, and ends with its standard input."""
    async with serving(Scripted(reply=lambda query, at: GOOD.value(query))) as scripted:
        print(scripted.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def prometheus() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hack.bench.analysis", "--stand-in"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def operator(config: ctrl.Config, namespace: str, url: str) -> AsyncIterator[CollectorRegistry]:
    manager = ctrl.Manager(config, field_manager=FIELD_MANAGER, namespaces=[namespace], graceful_timeout=5.0)
    caches.configure(manager)
    setup(manager, Options(runtime_image="none", prometheus=(Server(name="default", url=url),)))
    async with running(manager, timeout=60):
        yield manager.metrics.registry


class Looks:
    """What the operator's histogram of lateness says."""

    def __init__(self, registry: CollectorRegistry) -> None:
        samples = [
            sample
            for family in registry.collect()
            if family.name == "paddle_canary_look_lateness_seconds"
            for sample in family.samples
        ]
        self.buckets = {
            float(sample.labels["le"]): sample.value for sample in samples if "le" in sample.labels
        }
        self.count = self.buckets[float("inf")]

    def within(self, share: float) -> float:
        """The bucket edge that so many are below: never better than the truth."""
        return min(edge for edge, count in self.buckets.items() if count >= share * self.count)


async def canaries(desk: Harness, phase: str, count: int) -> None:
    status: Mapping[str, object] = {"canary": {"phase": phase, "run": 1, "attempt": 1}}
    for number in range(count):
        key = ctrl.Key(desk.namespace, f"s{number:03}")
        await desk.live.apply_status(PADDLE_SERVICE, key, dict(status))


async def versions(desk: Harness) -> dict[str, str]:
    found = await desk.live.list_live(CANARY_ANALYSIS, namespace=desk.namespace)
    return {item.name: item.resource_version for item in found}


async def measure(count: int) -> list[Bar]:
    async with AsyncExitStack() as stack:
        environment = stack.enter_context(Envtest(crds=[paths.ROOT / "config" / "crd"]))
        namespace = environment.create_namespace("bench")
        url = await stack.enter_async_context(prometheus())
        client = await stack.enter_async_context(environment.client())
        desk = Harness(client, namespace, Scripted(url=url))
        for number in range(count):
            await desk.service(f"s{number:03}")
            # Spread over one interval, as canaries that people began at their own times are.
            begin = time.time() + 20 + INTERVAL * number / count
            await desk.create(
                service=f"s{number:03}", windowStart=stamp(begin), interval=INTERVAL, requiredPasses=100
            )
        await canaries(desk, "Analysing", count)
        bars = []
        async with operator(environment.config, namespace, url) as registry:
            await asyncio.sleep(20 + INTERVAL + STEADY)
            looks = Looks(registry)
            print(f"  {count} canaries, every {INTERVAL} s: {looks.count:.0f} looks", flush=True)
            name = f"look late, {count} canaries: p99"
            bars.append(Bar(name=name, value=looks.within(0.99), limit=LIMIT, unit="s"))
            least = count * (STEADY / INTERVAL - 1)
            bars.append(
                Bar(name="looks that are missing", value=max(0, least - looks.count), limit=0, unit="")
            )
        await asyncio.sleep(INTERVAL + 1)
        async with operator(environment.config, namespace, url) as registry:
            begun = time.perf_counter()
            await until(lambda: _done(Looks(registry).count >= count))
            name = f"the operator comes back to {count} overdue looks: all done"
            bars.append(Bar(name=name, value=time.perf_counter() - begun, limit=LIMIT * 2, unit="s"))
            await canaries(desk, "Idle", count)
            await until(lambda: _all_over(desk))
            before = await versions(desk)
            await asyncio.sleep(2 * INTERVAL)
            after = await versions(desk)
            changed = sum(after[name] != before[name] for name in before)
            bars.append(Bar(name="writes about canaries at rest", value=changed, limit=0, unit=""))
        return bars


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while True:
            if await question():
                return
            await asyncio.sleep(0.05)


async def _done(yes: bool) -> bool:
    return yes


async def _all_over(desk: Harness) -> bool:
    found = await desk.live.list_live(CANARY_ANALYSIS, namespace=desk.namespace)
    return all(item.status.get("verdict") == "Superseded" for item in found)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How late the looks of many canaries are.")
    parser.add_argument("--canaries", type=int, default=200)
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if options.stand_in:
        asyncio.run(stand_in())
        return 0
    bars = asyncio.run(measure(options.canaries))
    print(f"load average: {', '.join(f'{value:.1f}' for value in os.getloadavg())}")
    for bar in bars:
        print(bar)
    folder = paths.LOCAL / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "canaries": options.canaries,
        "load": os.getloadavg(),
        "bars": [bar.to_json() for bar in bars],
    }
    (folder / "analysis.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
