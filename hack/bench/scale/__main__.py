"""`python -m hack.bench.scale`: thousands of PaddleModels through the real operator on a real API server.

The models are there before the operator starts, so it meets the whole backlog at once; in the middle one
more is applied. Then it idles, and is started again. One line a bar; the figures in .local/bench/; exit 1 on
a miss.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

import aiohttp
import uvloop

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, EnvtestError
from controller_runtime.testing._processes import Process
from controllers.kinds import FIELD_MANAGER, PADDLE_MODEL
from hack.cluster.console import ClusterError, Console

from ..control_plane.measure import Usage, usage
from ..control_plane.report import machine
from .measure import Models, scrape, watching, writes
from .report import Figures
from .store import tiny_store
from .world import ROOT, Operator, admin_stub, make_nodes, world

NEWCOMER = "newcomer"
PER_NAMESPACE = 100
WARM = 10.0
QUIET = 5.0
MOST_RESTARTS = 5
_CACHE = "controller_runtime_py_cache_"


class Run:
    """One run, phase by phase; `figures` at the end."""

    def __init__(
        self, env: Envtest, programs: Sequence[Process], console: Console, arguments: argparse.Namespace
    ) -> None:
        self._env = env
        self._programs = programs
        self._say = console.say
        self._arguments = arguments
        self._namespace = env.create_namespace("scale")
        # As users have them; the controllers of Kubernetes look through a whole namespace at each change.
        count = max(1, arguments.models // PER_NAMESPACE)
        self._namespaces = [env.create_namespace(f"team-{number}") for number in range(count)]
        self._operator = Operator(env, self._namespace, arguments.workers)
        self.restarts = 0

    async def figures(self) -> Figures:
        count = self._arguments.models
        async with (
            tiny_store() as endpoint,
            admin_stub() as asked,
            self._env.client(field_manager="scale") as client,
            watching(self._env.config) as models,
        ):
            await make_nodes(client)
            await self._start()
            await asyncio.sleep(WARM)
            empty = self._usage().resident
            self._say(f"the empty operator has {empty:.1f} MiB")
            self._operator.stop()

            await self._make(client, endpoint, [f"m{number}" for number in range(count)])
            await until(lambda: len(models.phases) == count, 60.0)
            self._say(f"{count} models are there, the operator starts")
            mark, began = self._env.audit_size, time.monotonic()
            await self._start()
            behind, newcomer = await self._newcomer(client, endpoint, models)
            ready = await self._all_ready(models, count + 1, began)
            seconds = max(models.ready.values(), default=began) - began
            used, shares = self._usage(), self._shares()
            settling = await self._quiet()
            backlog = self._writes(mark)

            objects = {k: int(v) for k, v in (await self._scrape(f"{_CACHE}objects")).items()}
            cached = sum((await self._scrape(f"{_CACHE}bytes")).values())
            self._say(f"idle for {self._arguments.idle:.0f} s; cached: {objects}")
            mark, before = self._env.audit_size, self._usage()
            await asyncio.sleep(self._arguments.idle)
            idle, after = self._writes(mark), self._usage()

            self._operator.stop()
            mark, began = self._env.audit_size, time.monotonic()
            await self._start()
            await until(self._drained, 600.0)
            restart = time.monotonic() - began
            await asyncio.sleep(self._arguments.idle / 10)
            again = self._usage()
            return Figures(
                models=count + 1,
                ready=ready,
                seconds=seconds,
                cpu=used.cpu,
                empty=empty,
                resident=after.resident,
                peak=after.peak,
                objects=objects,
                cache_bytes=int(cached),
                newcomer=newcomer,
                behind_newcomer=behind,
                backlog_writes=backlog,
                shares=shares,
                restarts=self.restarts,
                settling=settling,
                idle=self._arguments.idle,
                idle_cpu=after.cpu - before.cpu,
                idle_writes=idle,
                restart=restart,
                restart_cpu=again.cpu,
                restart_resident=again.resident,
                restart_writes=self._writes(mark),
                probes=asked[0],
            )

    def stop(self) -> None:
        self._operator.stop()

    async def _start(self) -> None:
        """Start the operator; return when it leads and its caches are filled."""
        self._operator.start()

        async def up() -> bool:
            self._alive()
            try:
                async with aiohttp.ClientSession() as session:
                    url = f"http://127.0.0.1:{self._operator.health_port}/readyz"
                    async with session.get(url) as answer:
                        if answer.status != 200:
                            return False
                led = await self._scrape("leader_election_master_status")
            except aiohttp.ClientError:
                return False
            return list(led.values()) == [1.0]

        await until(up, 300.0)

    def _alive(self) -> None:
        """Start the operator again if it has ended, as the kubelet would (a lost lease ends it). Raises
        EnvtestError, with its last words, if it does so again and again or another program has ended.
        """
        for program in self._programs:
            program.check()
        if self._operator.ended:
            if self.restarts == MOST_RESTARTS and self._operator.process is not None:
                self._operator.process.check()
            self.restarts += 1
            self._say("the operator ended (see .local/bench/scale-operator.log) and is started again")
            self._operator.start()

    def _usage(self) -> Usage:
        self._alive()
        assert self._operator.process is not None
        return usage(self._operator.process.pid)

    def _shares(self) -> dict[str, float]:
        """CPU seconds so far of every program but the operator."""
        return {program.name: usage(program.pid).cpu for program in self._programs}

    async def _scrape(self, name: str) -> dict[str, float]:
        return await scrape(self._operator.metrics_port, name)

    async def _make(self, client: ctrl.Client, endpoint: str, names: Sequence[str]) -> None:
        slots = asyncio.Semaphore(50)

        async def make(name: str, namespace: str) -> None:
            async with slots:
                await client.create(model(namespace, name, endpoint))

        await asyncio.gather(*map(make, names, cycle(self._namespaces)))

    async def _newcomer(self, client: ctrl.Client, endpoint: str, models: Models) -> tuple[int, float]:
        """Apply one more when the operator has taken up half of the backlog: how many were not Ready when it
        was, and the seconds it took.
        """
        count = self._arguments.models
        await self._progress(models, lambda: 2 * sum(map(bool, models.phases.values())) >= count)
        await client.create(model(self._namespaces[0], NEWCOMER, endpoint))
        began = time.monotonic()
        await self._progress(models, lambda: NEWCOMER in models.ready)
        took = models.ready[NEWCOMER] - began
        behind = count - sum(at <= models.ready[NEWCOMER] for name, at in models.ready.items()) + 1
        self._say(f"the newcomer was Ready after {took:.1f} s, {behind} models before it were not")
        return behind, took

    async def _all_ready(self, models: Models, count: int, began: float) -> int:
        try:
            await self._progress(models, lambda: len(models.ready) >= count)
        except TimeoutError:
            self._say(f"given up after {self._arguments.deadline:.0f} s: {models.summary()}")
        else:
            self._say(f"all Ready {time.monotonic() - began:.1f} s after the operator started")
        return len(models.ready)

    async def _progress(self, models: Models, condition: Callable[[], bool]) -> None:
        """Until `condition` holds, telling how it goes."""
        told = time.monotonic()

        def reached() -> bool:
            nonlocal told
            self._alive()
            if time.monotonic() - told > 15.0:
                told = time.monotonic()
                self._say(f"  {models.summary()}")
            return condition()

        await until(reached, self._arguments.deadline)

    async def _quiet(self) -> float:
        """Seconds until the operator has written nothing for `QUIET` seconds, at most two minutes."""
        began = last = time.monotonic()
        mark = self._env.audit_size
        while time.monotonic() - last < QUIET and time.monotonic() - began < 120.0:
            await asyncio.sleep(1.0)
            size = self._env.audit_size
            if self._writes(mark):
                last = time.monotonic()
            mark = size
        return last - began

    def _writes(self, mark: int) -> dict[str, int]:
        return writes(self._env.audit_events(mark), FIELD_MANAGER)

    async def _drained(self) -> bool:
        """No key waits for a worker and none is in one."""
        depth = await self._scrape("workqueue_depth")
        active = await self._scrape("controller_runtime_active_workers")
        return not sum(depth.values()) and not sum(active.values())


def model(namespace: str, name: str, endpoint: str) -> dict[str, object]:
    storage = {"endpoint": endpoint, "bucket": "models", "key": f"{name}/v1.0.0/"}
    return {
        "apiVersion": PADDLE_MODEL.api_version,
        "kind": PADDLE_MODEL.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"framework": "paddle", "version": "v1.0.0", "storage": storage},
    }


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float) -> None:
    """Ask ten times a second; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.1)


async def measure(run: Run) -> Figures:
    try:
        return await run.figures()
    finally:
        run.stop()


def main(argv: Sequence[str] | None = None) -> int:
    flags = argparse.ArgumentParser(prog="python -m hack.bench.scale", description=__doc__)
    flags.add_argument("--models", type=int, default=5000)
    flags.add_argument("--idle", type=float, default=600.0, metavar="SECONDS")
    flags.add_argument("--workers", type=int, default=16, help="of each controller, as the operator's flag")
    flags.add_argument("--deadline", type=float, default=3600.0, metavar="SECONDS", help="for the backlog")
    arguments = flags.parse_args(argv)
    os.environ["PYTHONPATH"] = str(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    console = Console()
    described = machine()
    print(described, flush=True)
    try:
        with world(console) as (env, programs):
            figures = uvloop.run(measure(Run(env, programs, console, arguments)))
    except (EnvtestError, ClusterError, TimeoutError, OSError) as error:
        print(f"scale: {error or type(error).__name__}", file=sys.stderr)
        return 2
    bars = figures.bars()
    print(figures.text())
    for bar in bars:
        print(bar)
    path = figures.write(ROOT / ".local" / "bench" / "scale.json", bars, vars(arguments), described)
    print(f"figures: {path.relative_to(ROOT)}")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
