"""A real Envoy on this host, real ADS, and tiny HTTP servers that say which revision they are."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

import controller_runtime as ctrl
from controllers.traffic import Revision, Rule, Split
from controllers.traffic.envoy import authority, bootstrap
from controllers.traffic.envoy.admission import Denied, Identity
from controllers.traffic.envoy.fleet import Fleet, Router
from controllers.traffic.envoy.server import Options, Server
from controllers.traffic.envoy.world import World
from hack.cluster import paths

NAMESPACE = "default"
SERVICE = ctrl.Key(NAMESPACE, "ocr")
ADS_NAME = "paddle-operator-ads.paddle-system.svc"
ENVOY = paths.BIN / "envoy"
DEADLINE = 60.0


def free_ports(count: int) -> list[int]:
    """An even port and the one after it, `count` times; free a moment ago."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 30000, 2)
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, *, timeout: float = DEADLINE
) -> None:
    """Return once `condition` holds; AssertionError naming `what` at the deadline."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.02)


def split(change: int, weight: int = 0, *, port: int, candidate: str = "", rules: tuple[Rule, ...] = (),
          stable: str = "aaaa", service: ctrl.Key = SERVICE) -> Split:  # fmt: skip
    return Split(
        service=service, uid=f"uid-{service.name}", port=port, change=change,
        stable=Revision(hash=stable, versions=("v1.0.0",)),
        candidate=Revision(hash=candidate, versions=("v2.0.0",)) if candidate else None,
        weight=weight, rules=rules,
    )  # fmt: skip


def endpoint_slice(revision: str, ports: Iterable[int], *, service: str = SERVICE.name) -> dict[str, object]:
    """As the cluster would make it for Service <name>-<revision>, one slice a port."""
    labels = {
        "serving.paddlepaddle.org/paddle-service": service,
        "serving.paddlepaddle.org/revision": revision,
    }
    listed = list(ports)
    return {
        "metadata": {"name": f"{service}-{revision}", "namespace": NAMESPACE, "labels": labels},
        "ports": [{"name": "http", "port": listed[0]}, {"name": "grpc", "port": listed[0]}] if listed else [],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}] if listed else [],
    }


class Tokens:
    """Admission by a table; what a TokenReview says in a cluster."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}
        self.asked = 0
        self.accepted: Counter[str] = Counter()

    async def admit(self, token: str) -> Identity:
        self.asked += 1
        if token not in self.known:
            raise Denied("unknown token")
        self.accepted[token] += 1
        return self.known[token]


@dataclass
class Backend:
    """A pod of one revision: answers its name, or `status`, after `delay` seconds."""

    revision: str
    port: int = 0
    host: str = "127.0.0.1"
    status: int = 200
    delay: float = 0.0
    hits: int = 0
    received: int = 0
    runner: web.AppRunner | None = None

    async def start(self) -> Backend:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, self.host, self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]
        return self

    async def _answer(self, request: web.Request) -> web.Response:
        self.received = len(await request.read())
        self.hits += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        return web.Response(text=self.revision, status=self.status)

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


@dataclass
class Proxy:
    """The leader's part and the Envoys that follow it, all on the same ports."""

    folder: Path
    world: World
    fleet: Fleet
    tokens: Tokens
    authority: authority.Authority
    ports: list[int]
    status_port: int
    told: list[ctrl.Key]
    settled: list[str]
    heard: asyncio.Event
    server: Server | None = None
    ads_port: int = 0
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    client: aiohttp.ClientSession = field(default=None)  # type: ignore[assignment]

    @property
    def port(self) -> int:
        return self.ports[0]

    async def serve(self, *, lifetime: float = 1800.0) -> None:
        """Start the ADS server, on the port it had before."""
        leaf = authority.issue(self.authority, [ADS_NAME], time.time())
        pair = (leaf.certificate.encode(), leaf.key.encode())
        options = Options(address=f"127.0.0.1:{self.ads_port}", lifetime=lifetime)
        server = Server(self.fleet, self.tokens, lambda: pair, options=options)
        await server.start()
        self.server, self.ads_port = server, server.port

    async def end_server(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None

    def ask(self, wanted: Split) -> None:
        self.world.ask(wanted)
        self.push()

    def slices(self, *slices: dict[str, object], service: ctrl.Key = SERVICE) -> None:
        for one in slices:
            self.world.slice(service, str(one["metadata"]["name"]), one)  # type: ignore[index]
        self.push()

    def push(self) -> None:
        self.fleet.aim(NAMESPACE, self.world.snapshot(NAMESPACE))

    async def start(self, *, token: str = "token-0", name: str = "router-0") -> None:
        folder = self.folder / name
        (folder / "token").mkdir(parents=True)
        self.hand(token, name=name)
        place = bootstrap.Place(
            ads=f"127.0.0.1:{self.ads_port}", ca=str(self.folder / "ca.crt"),
            secret=str(folder / "token" / "token.json"), admin=str(folder / "admin.sock"),
            name=ADS_NAME, status_port=self.status_port, address="127.0.0.1",
        )  # fmt: skip
        config = folder / "bootstrap.json"
        config.write_text(json.dumps(bootstrap.asking(place, node=name, namespace=NAMESPACE)))
        log = (self.folder / "envoy.log").open("w")
        process = await asyncio.create_subprocess_exec(
            str(ENVOY), "-c", str(config), "--concurrency", "1", "--disable-hot-restart",
            "--log-level", "warning", stdout=log, stderr=log,
        )  # fmt: skip
        self.processes.append(process)

    def hand(self, token: str, *, name: str = "router-0") -> None:
        """Give Envoy its token as the entrypoint does: written aside, moved into place."""
        aside = self.folder / name / "token" / "next"
        aside.write_text(json.dumps(bootstrap.secret(token)))
        aside.replace(aside.with_name("token.json"))

    async def ready(self) -> bool:
        try:
            async with self.client.get(f"http://127.0.0.1:{self.status_port}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def verified(self, wanted: Split) -> None:
        await until(
            lambda: type(self.fleet.verify(wanted)).__name__ == "Verified",
            f"change {wanted.change} verified ({self.fleet.verify(wanted)})\n{self.log()}",
        )

    async def get(self, port: int | None = None, /, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(f"http://127.0.0.1:{port or self.port}/predict", headers=named) as answer:
            return answer.status, await answer.text()

    async def count(self, requests: int, **headers: str) -> Counter[str]:
        """How often each revision answered; anything but 200 counts under its status."""
        found: Counter[str] = Counter()
        for begin in range(0, requests, 50):
            many = (self.get(**headers) for _ in range(min(50, requests - begin)))
            for status, text in await asyncio.gather(*many):
                found[text if status == 200 else str(status)] += 1
        return found

    def log(self) -> str:
        path = self.folder / "envoy.log"
        return path.read_text()[-3000:] if path.exists() else ""


@asynccontextmanager
async def running(*, start: bool = True, services: int = 1, routers: int = 1) -> AsyncIterator[Proxy]:
    """A leader with routers that are ready, and nothing to serve yet."""
    with tempfile.TemporaryDirectory(prefix="traffic-") as folder:
        told: list[ctrl.Key] = []
        settled: list[str] = []
        heard = asyncio.Event()

        def tell(key: ctrl.Key) -> None:
            told.append(key)
            heard.set()

        fleet = Fleet(tell, settled.append)
        own = authority.generate(time.time())
        ports = free_ports(services + 1)
        proxy = Proxy(
            folder=Path(folder), world=World(address="127.0.0.1"), fleet=fleet, tokens=Tokens(),
            authority=own, ports=ports[1:], status_port=ports[0], told=told, settled=settled, heard=heard,
        )  # fmt: skip
        (proxy.folder / "ca.crt").write_text(own.certificate)
        for number in range(routers):
            name, uid = f"router-{number}", f"uid-{number}"
            proxy.tokens.known[f"token-{number}"] = Identity(NAMESPACE, name, uid)
            fleet.pod(Router(namespace=NAMESPACE, name=name, uid=uid, ready=True))
        proxy.client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30.0))
        try:
            await proxy.serve()
            if start:
                for number in range(routers):
                    await proxy.start(token=f"token-{number}", name=f"router-{number}")
                await until(lambda: len(fleet.connected(NAMESPACE)) == routers, "all are connected")
                await until(proxy.ready, f"Envoy ready\n{proxy.log()}")
            yield proxy
        finally:
            await proxy.client.close()
            for process in proxy.processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
            await proxy.end_server()


@asynccontextmanager
async def backends(*revisions: str, host: str = "127.0.0.1") -> AsyncIterator[list[Backend]]:
    made = [await Backend(revision, host=host).start() for revision in revisions]
    try:
        yield made
    finally:
        for one in made:
            await one.stop()


if os.environ.get("ENVOY_BINARY"):
    ENVOY = Path(os.environ["ENVOY_BINARY"])
