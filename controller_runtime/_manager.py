"""Puts the parts together, and starts and stops them in the order that loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from ._cache import Cache
from ._client import Client
from ._clock import SYSTEM_CLOCK, Clock
from ._config import Config
from ._consistency import CacheBarrier
from ._controller import Controller, WriteBarrier
from ._events import EventBroadcaster, EventRecorder
from ._health import Check, Checks, Handler, HttpServer, parse_address
from ._leaderelection import Elector, LeaderElection, LeaderLost
from ._metrics import PrometheusMetrics
from ._reflector_api import ReflectorOptions
from ._runnables import CANCEL_PATIENCE, Group, Runnable
from ._transport import Transport
from ._watchdog import Watchdog
from .errors import ControllerRuntimeError

_log = structlog.get_logger("controller_runtime.manager")

MAX_SILENCE = 10.0
MAX_SINCE_RENEWAL = 20.0
EVENT_DRAIN = 2.0


class ShutdownTimeout(ControllerRuntimeError):
    """Something was still running when the grace was over, and was cancelled."""


class Manager:
    """Owns the client, the caches, the elector and everything that was added; runs once.

    Start: HTTP servers, event writer, caches (until synced), what needs no leader, warm-ups, the elector, and
    once elected what needs the leader. Stop, within `graceful_timeout` seconds: what needs no leader, then
    the led (workers take no new keys, running reconciles finish, what is left at the end is cancelled), the
    caches, HTTP, the elector (which releases the lease only now), the event writer.

    `client` reads from the caches and refuses writes (NotLeader) while this process does not lead;
    `unfenced_client` is for what was added with `leader=False`; `api_reader` reads live.

    A lost lease cancels the led at once, and `run` raises LeaderLost. A runnable, a cache or a server that
    fails stops everything, and `run` raises its error.
    """

    def __init__(
        self,
        config: Config,
        *,
        field_manager: str,
        leader_election: LeaderElection | None = None,
        namespaces: Sequence[str] | None = None,
        health_address: str | None = None,
        metrics_address: str | None = None,
        graceful_timeout: float = 30.0,
        cache_sync_timeout: float = 120.0,
        block_threshold: float = 1.0,
        watch_options: ReflectorOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """`field_manager` signs every apply. `namespaces`: the only ones to watch. Addresses are "host:port",
        ":port", or None for no server; both may be the same. `block_threshold`: seconds for which the event
        loop may stand still before the watchdog names who blocks it. `watch_options`: how patient the caches
        are. Raises ValueError for what cannot work.
        """
        if graceful_timeout < 0:
            raise ValueError(f"graceful_timeout={graceful_timeout:g}: give seconds, 0 or more")
        for address in (health_address, metrics_address):
            if address is not None:
                parse_address(address)
        self.config = config
        self.clock = clock
        self.metrics = PrometheusMetrics(registry)
        self.elected = asyncio.Event()
        self.started = asyncio.Event()
        self._grace = graceful_timeout
        self._sync_timeout = cache_sync_timeout
        self._addresses = (health_address, metrics_address)
        self._field_manager = field_manager
        self._transport = Transport(config, user_agent=field_manager, metrics=self.metrics, clock=clock)
        self.cache = Cache(
            self._transport,
            namespaces=namespaces,
            metrics=self.metrics,
            options=watch_options,
            clock=clock,
        )
        self._lease_transport: Transport | None = None
        self._elector: Elector | None = None
        if leader_election is not None:
            self._elector = self._make_elector(leader_election)
        fence = self._elector.check if self._elector is not None else None
        self.client = Client(self._transport, field_manager=field_manager, cache=self.cache, fence=fence)
        self.unfenced_client = Client(self._transport, field_manager=field_manager, cache=self.cache)
        self.api_reader = Client(self._transport, field_manager=field_manager)
        self.barrier: WriteBarrier = CacheBarrier(self.cache, clock=clock)
        self._broadcaster = EventBroadcaster(
            self.api_reader, clock=clock, dropped=lambda why: self.metrics.events_dropped.labels(why).inc()
        )
        self.health = Checks("/healthz")
        self.live = Checks("/livez")
        self.ready = Checks("/readyz")
        for checks in (self.health, self.live):
            checks.add("loop", self._check_loop)
            if self._elector is not None:
                checks.add("lease", self._check_lease)
        self.ready.add("caches", self._check_caches)
        self._watchdog = Watchdog(
            threshold=block_threshold,
            lag=self.metrics.loop_lag,
            blocked=lambda task: self.metrics.loop_blocked.labels(task).inc(),
        )
        self._servers: list[HttpServer] = []
        self._others = Group("others", self._fail)
        self._led = Group("led", self._fail)
        self._lost = asyncio.Event()
        self._failure: asyncio.Future[BaseException] | None = None
        self._stopping = False
        self._ran = False
        self._cache_stop = asyncio.Event()
        self._cache_task: asyncio.Task[None] | None = None
        self._event_task: asyncio.Task[None] | None = None
        self._campaign_task: asyncio.Task[None] | None = None

    def _make_elector(self, options: LeaderElection) -> Elector:
        namespace = options.namespace or self.config.namespace
        if not namespace:
            raise ValueError("leader_election.namespace: not in a pod and no namespace configured; give one")
        self._lease_transport = Transport(
            self.config,
            user_agent=self._field_manager,
            metrics=self.metrics,
            max_connections=2,
            clock=self.clock,
        )
        return Elector(
            Client(self._lease_transport, field_manager=self._field_manager),
            replace(options, namespace=namespace),
            clock=self.clock,
            on_change=self.metrics.leadership(options.name),
            on_slow_path=self.metrics.slow_path.labels(name=options.name).inc,
        )

    @property
    def leading(self) -> bool:
        """Led work may go on: no election is wanted, or the lease is ours and fresh."""
        return self.elected.is_set() and (self._elector is None or self._elector.leads())

    def events(self, component: str) -> EventRecorder:
        """A recorder that signs as `component`; it never blocks nor raises."""
        return self._broadcaster.recorder(component)

    def add(self, runnable: Runnable, *, leader: bool = True) -> None:
        """Run `runnable` while leading, or with `leader=False` in every replica. At any time."""
        (self._led if leader else self._others).add(runnable)

    def add_healthz(self, name: str, check: Check) -> None:
        """A reason to be restarted: answered at /healthz and /livez."""
        self.health.add(name, check)
        self.live.add(name, check)

    def add_readyz(self, name: str, check: Check) -> None:
        """A reason not to be counted as ready: answered at /readyz."""
        self.ready.add(name, check)

    @property
    def health_port(self) -> int:
        """Where health is served, once started; for address port 0."""
        return self._servers[0].port

    @property
    def metrics_port(self) -> int:
        """Where metrics are served, once started; for address port 0."""
        return self._servers[-1].port

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or something fails; returns when everything has ended.

        Raises what failed, LeaderLost for a lost lease, ShutdownTimeout when the grace was too short. If it
        is cancelled itself, it stops everything without grace.
        """
        if self._ran:
            raise RuntimeError("a Manager runs once: make a new one")
        self._ran = True
        self._failure = asyncio.get_running_loop().create_future()
        starter = asyncio.create_task(self._start(), name="manager/start")
        starter.add_done_callback(self._task_ended)
        stopped = asyncio.create_task(stop.wait(), name="manager/stop")
        grace = self._grace
        try:
            ends: list[asyncio.Future[Any]] = [stopped, self._failure]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            grace = 0.0
            raise
        finally:
            self._stopping = True
            await _end(stopped, starter)
            clean = await self._stop(grace)
        if self._failure.done():
            raise self._failure.result()
        if not clean:
            raise ShutdownTimeout(f"cancelled what was still running after {grace:g} s")

    async def run_until_signal(
        self,
        *,
        signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
        exit_now: Callable[[int], object] = os._exit,
    ) -> int:
        """`run` until a signal comes; returns the exit code: 0, or 1 after an error, which is logged.

        A second signal leaves the process at once with code 1.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def received(number: signal.Signals) -> None:
            if stop.is_set():
                _log.error("second signal: leaving at once", signal=number.name)
                exit_now(1)
            _log.info("stopping", signal=number.name, grace=self._grace)
            stop.set()

        for number in signals:
            loop.add_signal_handler(number, received, number)
        try:
            await self.run(stop)
        except Exception as error:
            _log.error("manager failed", error=f"{type(error).__name__}: {error}")
            return 1
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
        return 0

    async def _start(self) -> None:
        await self._watchdog.__aenter__()
        for server in self._make_servers():
            await server.start()
            self._servers.append(server)
        self._event_task = self._spawn(self._broadcaster.run(), "manager/events")
        self._cache_task = self._spawn(self._run_cache(), "manager/cache")
        await self.cache.wait_synced(self._sync_timeout)
        self._others.start()
        warm = [run for run in self._led.runnables if isinstance(run, Controller) and run.options.warm_up]
        await asyncio.gather(*(controller.warm_up() for controller in warm))
        self.started.set()
        if self._elector is None:
            self._lead()
        else:
            self._campaign_task = self._spawn(self._campaign(self._elector), "manager/elector")

    async def _campaign(self, elector: Elector) -> None:
        await elector.acquire()
        if elector.lease is not None:
            said = f"{elector.options.identity} became leader"
            self.events(self._field_manager).normal(elector.lease, "LeaderElection", said)
        self._lead()
        try:
            await elector.renew()
        except LeaderLost:
            self._lost.set()
            raise

    def _lead(self) -> None:
        if self._stopping:
            return
        self.elected.set()
        self._led.start()

    async def _run_cache(self) -> None:
        await self.cache.run(self._cache_stop)
        if not self._stopping:
            raise RuntimeError("the cache ended by itself")

    async def _stop(self, grace: float) -> bool:
        end = self.clock.monotonic() + grace

        def left() -> float:
            return 0.0 if self._lost.is_set() else max(0.0, end - self.clock.monotonic())

        if not self.elected.is_set() and self._campaign_task is not None:
            await _end(self._campaign_task)  # nobody will lead any more
        if self._lost.is_set():
            await self._led.stop(0.0)
        clean = await self._others.stop(left(), hurry=self._lost)
        clean = await self._led.stop(left(), hurry=self._lost) and clean
        self._cache_stop.set()
        if self._cache_task is not None:
            await asyncio.wait({self._cache_task}, timeout=CANCEL_PATIENCE)
            await _end(self._cache_task)
        for server in self._servers:
            await server.stop()
        if self._campaign_task is not None:
            await _end(self._campaign_task)
        if self._elector is not None:
            await self._elector.release()
        if self._event_task is not None:
            await self._broadcaster.drain(min(EVENT_DRAIN, grace))
            await _end(self._event_task)
        if self._lease_transport is not None:
            await self._lease_transport.close()
        await self._transport.close()
        await self._watchdog.__aexit__(None, None, None)
        return clean

    def _make_servers(self) -> list[HttpServer]:
        health, metrics = self._addresses
        routes: dict[str, Handler] = {}
        for checks in (self.health, self.live, self.ready):
            routes.update(checks.routes())
        scrape: dict[str, Handler] = {"/metrics": self.metrics.handle}
        if health is not None and health == metrics and parse_address(health)[1]:
            return [HttpServer(health, {**routes, **scrape})]
        made = []
        if health is not None:
            made.append(HttpServer(health, routes))
        if metrics is not None:
            made.append(HttpServer(metrics, scrape))
        return made

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        _log.error("stopping because of a failure", error=f"{type(error).__name__}: {error}", exc_info=error)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def _check_loop(self) -> str:
        silence = self._watchdog.silence()
        return f"event loop was silent for {silence:.1f} s" if silence > MAX_SILENCE else ""

    def _check_lease(self) -> str:
        since = self._elector.since_renewal() if self._elector is not None else None
        late = since is not None and since > MAX_SINCE_RENEWAL
        return f"lease not renewed for {since:.1f} s" if late else ""

    def _check_caches(self) -> str:
        waiting = [str(entry.kind) for entry in self.cache.statistics() if not entry.synced]
        if waiting or not self.started.is_set():
            return f"waiting for the first list of {', '.join(waiting) or 'the caches'}"
        stale = self.cache.stale()
        return f"watch is dead: {', '.join(stale)}" if stale else ""


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel and wait; what they raise was reported by their callbacks."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=CANCEL_PATIENCE)
