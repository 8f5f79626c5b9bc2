"""`make bench-traffic`: from a split handed over to the ACK of every router: two Envoys, ADS over TLS.

Once with one service, and once with 200 services of one namespace that have a canary each. Prints one line a
bar, writes the same to .local/bench/traffic.json, and exits 1 if one misses.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time

import structlog

import controller_runtime as ctrl
from controllers.traffic import Split, Verified
from hack.bench.bars import Bar
from hack.cluster import binaries, paths
from hack.cluster.console import Console
from hack.cluster.wheels import ENVOY
from tests.controllers.traffic.proxy import NAMESPACE, Proxy, backends, endpoint_slice, running, split, until

ROUTERS = 2
CHANGES = 100
LIMIT = 50.0


async def measure(services: int) -> tuple[list[float], int]:
    """Milliseconds of each change, and how many answers came from the wrong revision right after one."""
    async with (
        running(services=services, routers=ROUTERS) as proxy,
        backends("aaaa", "bbbb") as (stable, candidate),
    ):
        keys = [ctrl.Key(NAMESPACE, f"model-{number:03}") for number in range(services)]
        for key, port in zip(keys, proxy.ports, strict=True):
            for revision, backend in (("aaaa", stable), ("bbbb", candidate)):
                one = endpoint_slice(revision, [backend.port], service=key.name)
                proxy.world.slice(key, f"{key.name}-{revision}", one)
            proxy.world.ask(split(1, 5, port=port, candidate="bbbb", service=key))
        begun = time.perf_counter()
        proxy.push()
        last = split(1, 5, port=proxy.ports[-1], candidate="bbbb", service=keys[-1])
        await until(lambda: proxy.fleet.complete(NAMESPACE), "all services are on all routers")
        print(
            f"  {services} services on {ROUTERS} routers in {time.perf_counter() - begun:.2f} s", flush=True
        )
        times, wrong = [], 0
        for change in range(2, CHANGES + 2):
            index = change % services
            weight = 100 if change % 2 else 0
            last = split(change, weight, port=proxy.ports[index], candidate="bbbb", service=keys[index])
            times.append(1000 * await changed(proxy, last))
            if change % 10 == 0:
                expected = "bbbb" if weight else "aaaa"
                answers = [await proxy.get(proxy.ports[index]) for _ in range(4)]
                wrong += sum(text != expected for _, text in answers)
        return times, wrong


async def changed(proxy: Proxy, wanted: Split) -> float:
    """Seconds until every router has confirmed it."""
    begun = time.perf_counter()
    proxy.ask(wanted)
    while not isinstance(proxy.fleet.verify(wanted), Verified):
        proxy.heard.clear()
        async with asyncio.timeout(30.0):
            await proxy.heard.wait()
    return time.perf_counter() - begun


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    binaries.ensure([ENVOY], console=Console())
    bars: list[Bar] = []
    for services in (1, 200):
        times, wrong = asyncio.run(measure(services))
        what = f"{services} service{'s' if services > 1 else ''}, {ROUTERS} routers"
        for name, share in (("median", 0.5), ("p99", 0.99)):
            label = f"weight decided -> ACK by every router, {what}: {name}"
            bars.append(Bar(name=label, value=quantile(times, share), limit=LIMIT, unit="ms"))
        bars.append(Bar(name=f"answers of the old weight after it, {what}", value=wrong, limit=0, unit=""))
    print(f"load average before and now: {', '.join(f'{value:.1f}' for value in os.getloadavg())}")
    for bar in bars:
        print(bar)
    folder = paths.LOCAL / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "changes": CHANGES,
        "load": os.getloadavg(),
        "bars": [bar.to_json() for bar in bars],
    }
    (folder / "traffic.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
