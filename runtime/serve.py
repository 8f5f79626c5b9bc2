"""The front process: starts the workers, listens, watches, drains and ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from runtime import cpu, faults
from runtime.admin import Admin
from runtime.connections import Server
from runtime.fast import FastPath
from runtime.http import Http
from runtime.logs import Logger
from runtime.model import Model
from runtime.ondemand import OnDemand
from runtime.progress import termination_message, write_termination
from runtime.reload import Reloader
from runtime.spec import Limits
from runtime.telemetry.gpu import Gpus
from runtime.turns import Turns

if TYPE_CHECKING:
    from runtime.grpc.server import GrpcServer
    from runtime.telemetry.tracing import Tracing

_CALLS_GRACE = 1.0


class Service:
    """All of one front process. `run` returns after `stop` was set and everything has ended.

    Draining: not ready at once, while new requests are still served with `Connection: close`, because
    proxies learn late; it ends when no request came for `drain_quiet` seconds and none is in work, or 5 s
    before the grace is over. gRPC connections end of themselves within that time.
    """

    def __init__(
        self,
        reloader: Reloader,
        limits: Limits,
        log: Logger,
        *,
        labels: Mapping[str, str],
        http: socket.socket,
        admin: socket.socket,
        termination_log: Path,
        grpc: socket.socket | None = None,
        tracing: Tracing | None = None,
        fast_path: bool = True,
        token: str = "",
        on_demand: OnDemand | None = None,
    ) -> None:
        self.reloader = reloader
        if on_demand is not None:
            on_demand.attach(reloader)
        self.registry = reloader.registry
        self.stop = asyncio.Event()
        self._limits = limits
        self._log = log
        self._http = Http(self.registry, limits, log)
        self._fast = FastPath(self._http, limits) if fast_path else None
        self._gpus = Gpus(log)
        self._admin = Admin(
            reloader, limits, labels=dict(labels), service=self._http.server, gpus=self._gpus, token=token
        )
        if (faulty := faults.install(os.environ, self.registry, limits, log)) is not None:
            self._http.inference, self._admin.faults = faulty
        self._grpc: GrpcServer | None = None
        self._reserved = grpc
        self._sockets = (http, admin)
        self._termination_log = termination_log
        self._reported: set[str] = set()
        self._turns = Turns(slots=limits.slots, cpus=int(cpu.available()))
        self._http.tracing = self._tracing = tracing
        reloader.on_new(self._adopt)

    def _adopt(self, model: Model) -> None:
        model.on_change = self._changed
        model.on_loaded = self._loaded
        model.join(self._turns)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        runners = [
            await _listen(self._http.server, None if self._fast is not None else self._sockets[0]),
            await _listen(self._admin.server, self._sockets[1]),
        ]
        listening = None
        if self._fast is not None:
            listening = await loop.create_server(self._fast, sock=self._sockets[0], backlog=4096)
        http, admin = (f"{s.getsockname()[0]}:{s.getsockname()[1]}" for s in self._sockets)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reloader.run())
            gpus = group.create_task(self._gpus.run())
            grpc = await self._start_grpc()
            self._log.info("listening", http=http, admin=admin, grpc=grpc, models=list(self.registry.models))
            # What lives now lives to the end; the collector need not look at it again.
            gc.collect()
            gc.freeze()
            await self.stop.wait()
            self.reloader.quiesce()
            if self.registry.on_demand is not None:
                self.registry.on_demand.close()
            await self._drain(loop)
            if listening is not None and self._fast is not None:
                listening.close()
                self._fast.close()
            if self._grpc is not None:
                await self._grpc.stop(_CALLS_GRACE)
            for runner in runners:
                await runner.cleanup()
            await self.reloader.stop()
            gpus.cancel()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        self._log.info("stopped")

    async def _start_grpc(self) -> str:
        """Its address, "" without one. Its imports take longer than all others together: workers load
        meanwhile, and nothing is ready before it listens.
        """
        if self._reserved is None:
            return ""
        self.registry.starting = True
        module = await asyncio.to_thread(import_module, "runtime.grpc.server")
        server: GrpcServer = module.GrpcServer(self._http, self.registry, self._limits, self._reserved)
        await server.start()
        self._grpc = server
        self.registry.starting = False
        return server.address

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self.registry.draining = True
        started = loop.time()
        limit = self._limits.drain_limit
        self._log.info("draining", inflight=self._http.inflight, at_most_seconds=limit)
        while (now := loop.time()) - started < limit:
            quiet = now - max(started, self._http.last_request)
            if self._http.inflight == 0 and quiet >= self._limits.drain_quiet:
                break
            await asyncio.sleep(0.05)
        self._log.info("drained", seconds=round(loop.time() - started, 3), inflight=self._http.inflight)

    def _loaded(self, model: Model, report: Mapping[str, object]) -> None:
        if self._tracing is not None:
            self._tracing.loaded(
                {
                    "model": model.spec.name,
                    "model_version": model.spec.version,
                    "engine": model.metrics.engine,
                },
                load=float(str(report["loadSeconds"])),
                warm_up=float(str(report["warmSeconds"])),
            )

    def _changed(self) -> None:
        """A model that failed is told in the termination message too, in case the process is killed."""
        failed = {name for name, model in self.registry.models.items() if model.error is not None}
        if failed - self._reported:
            self._reported |= failed
            write_termination(termination_message(self.registry), self._termination_log)


async def _listen(server: Server, sock: socket.socket | None) -> web.ServerRunner:
    """Without a socket the server only takes the connections that it is given."""
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    if sock is not None:
        await web.SockSite(runner, sock, backlog=4096).start()
    return runner


def stop_on_signals(service: Service) -> None:
    """The first SIGTERM or SIGINT drains; a second one ends the process as the kernel would have. SIGUSR2 has
    the desired state read again.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        service.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGUSR2, service.reloader.mark)
