"""One contender through all phases, in a namespace of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from controller_runtime.testing import Envtest

from .load import Load
from .measure import Requests, children_cpu, machine_cpu, own_cpu, requests, usage
from .peers import Contender

TIMEOUT = 600.0
STORM_RATE = 200.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Of one run. Seconds, MiB, and requests of the contender by verb and resource."""

    contender: str
    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    server_cpu: dict[str, float] = field(default_factory=dict)
    """What the same work costs the API server and etcd."""
    load_cpu: dict[str, float] = field(default_factory=dict)
    """What it costs the benchmark's own client."""
    latency: dict[str, float] = field(default_factory=dict)
    others: float = 0.0
    """Share of the machine that everybody else took meanwhile."""
    resident: float = 0.0
    peak: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    restart_requests: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


async def measure(
    env: Envtest, contender: Contender, *, objects: int, workers: int, idle: float, folder: Path
) -> Outcome:
    """Cold start, live creates, update storm, idle, restart. Raises TimeoutError when one never ends."""
    outcome = Outcome(contender=contender.name)
    whole, own, start_time = machine_cpu(), own_cpu(), time.monotonic()
    namespace = env.create_namespace(contender.name)
    kubeconfig = env.kubeconfig(folder / f"{namespace}.kubeconfig")
    log = folder / f"{namespace}.log"
    early = [f"early-{number}" for number in range(objects)]
    live = [f"live-{number}" for number in range(objects)]
    before = await requests(env.config)
    async with Load(env.config, namespace) as load:
        await load.create(early, "one")
        load.take_latencies()
        servers = children_cpu()
        began = time.monotonic()
        async with running(contender, kubeconfig, namespace, workers, log) as process:
            await load.settled(TIMEOUT)
            outcome.wall["cold"] = time.monotonic() - began
            outcome.cpu["cold"] = usage(process.pid).cpu
            outcome.server_cpu["cold"] = children_cpu() - outcome.cpu["cold"] - servers
            load.take_latencies()

            await _phase(outcome, "live", process.pid, load, load.create(live, "one"))
            storm = load.edit(early, "two", rate=STORM_RATE)
            await _phase(outcome, "storm", process.pid, load, storm)

            await asyncio.sleep(2.0)  # what it still does of its own after the last change
            start = usage(process.pid)
            await asyncio.sleep(idle)
            end = usage(process.pid)
            outcome.cpu["idle"] = end.cpu - start.cpu
            outcome.resident, outcome.peak = end.resident, end.peak
        outcome.requests = _by_name(await requests(env.config) - before - load.sent)

        before_restart = await requests(env.config)
        load.sent = Counter()
        began = time.monotonic()
        async with running(contender, kubeconfig, namespace, workers, log) as process:
            # Useful again when a change made at the start has gone through.
            await load.edit(live[:1], "three")
            await load.settled(TIMEOUT)
            outcome.wall["restart"] = time.monotonic() - began
            await _quiet(process.pid)
            outcome.cpu["restart"] = usage(process.pid).cpu
        outcome.restart_requests = _by_name(await requests(env.config) - before_restart - load.sent)
    used = machine_cpu() - whole - (own_cpu() - own)
    outcome.others = used / ((time.monotonic() - start_time) * (os.cpu_count() or 1))
    return outcome


async def _phase(outcome: Outcome, name: str, pid: int, load: Load, work: object) -> None:
    cpu, all_cpu, load_cpu, began = usage(pid).cpu, children_cpu(), time.process_time(), time.monotonic()
    await work  # type: ignore[misc]
    await load.settled(TIMEOUT)
    outcome.wall[name] = time.monotonic() - began
    await asyncio.sleep(0.3)  # the events of the last children
    outcome.cpu[name] = usage(pid).cpu - cpu
    outcome.server_cpu[name] = children_cpu() - all_cpu - outcome.cpu[name]
    outcome.load_cpu[name] = time.process_time() - load_cpu
    found = load.take_latencies()
    outcome.latency[f"{name} p50"] = found[len(found) // 2]
    outcome.latency[f"{name} p99"] = found[int(len(found) * 0.99)]


async def _quiet(pid: int) -> None:
    """Until it uses less than a tenth of a core."""
    cpu = usage(pid).cpu
    while True:
        await asyncio.sleep(1.0)
        now = usage(pid).cpu
        if now - cpu < 0.1:
            return
        cpu = now


def _by_name(found: Requests) -> dict[str, int]:
    return {f"{verb} {resource}": count for (verb, resource), count in sorted(found.items()) if count}


@asynccontextmanager
async def running(
    contender: Contender, kubeconfig: Path, namespace: str, workers: int, log: Path
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The contender's process; it must live to the end and then stop within 30 s of SIGTERM."""
    process = contender.start(kubeconfig, namespace, workers, log)
    try:
        yield process
        if process.poll() is not None:
            raise RuntimeError(f"{contender.name} ended with {process.returncode}: see {log}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
