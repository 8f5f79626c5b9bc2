"""The reconciler, driven by hand: a real API server, a scripted Prometheus, a clock, and crashes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import controller_runtime as ctrl
from controllers.analysis.client import Prometheus, Servers
from controllers.analysis.server import Server
from controllers.canaryanalysis.reconciler import CanaryAnalysisReconciler
from controllers.canaryanalysis.spec import moment
from controllers.kinds import CANARY_ANALYSIS, PADDLE_SERVICE
from controllers.resources.meta import Owner, labels
from tests.controllers.analysis.prometheus import Reply, Scripted, serving
from tests.controllers.paddleservice.harness import Crash, DirectClient, Told, pinned

from .objects import START, Tree, analysis
from .scenes import GOOD, World

DOWN: Reply = (500, {"error": "down"})
CANDIDATE, BASELINE = "bbbbbbbb", "aaaaaaaa"


class Silent:
    """Metrics that are only noted."""

    def __init__(self) -> None:
        self.looks: list[tuple[str, str]] = []
        self.verdicts: list[str] = []
        self.late: list[float] = []

    def query(self, server: str, result: str, seconds: float) -> None: ...

    def looked(self, metric: str, result: str, late: float) -> None:
        self.looks.append((metric, result))
        self.late.append(late)

    def ended(self, verdict: str) -> None:
        self.verdicts.append(verdict)


class Overlay(DirectClient):
    """Shows the service with a canary: to `get` perhaps an older one than to `get_live`."""

    canary: Mapping[str, object]
    cached: Mapping[str, object] | None = None

    async def get(self, kind: ctrl.Kind, key: ctrl.Key) -> ctrl.Object | None:
        return _with(await self.real.get_live(kind, key), self.canary if self.cached is None else self.cached)

    async def get_live(self, kind: ctrl.Kind, key: ctrl.Key) -> ctrl.Object | None:
        return _with(await self.real.get_live(kind, key), self.canary)


def _with(obj: ctrl.Object | None, canary: Mapping[str, object]) -> ctrl.Object | None:
    if obj is None or obj.raw["kind"] != "PaddleService":
        return obj
    raw = copy.deepcopy(obj.raw)
    raw.setdefault("status", {})["canary"] = dict(canary)
    return ctrl.Object(raw, PADDLE_SERVICE)


class Harness:
    def __init__(self, client: ctrl.Client, namespace: str, prometheus: Scripted) -> None:
        self.live = client
        self.namespace = namespace
        self.prometheus = prometheus
        self.client = Overlay(client)
        self.told, self.metrics = Told(), Silent()
        self.url = prometheus.url
        self.now = moment(START)
        self.world: World = GOOD
        self.down = False
        self.uid = ""
        prometheus.reply = lambda query, at: (
            (500, {"error": "down"}) if self.down else self.world.value(query)
        )
        self.phase("Analysing")
        self.servers: list[Prometheus] = []
        self.start()

    def start(self, *, custom_promql: bool = False) -> None:
        """A new operator process: it remembers nothing, its breaker neither."""
        # Patient: how slow this machine is must not show in what is judged.
        servers = Servers([Server(name="default", url=self.url)], self.metrics, deadline=120.0)
        self.servers.append(servers.get("default"))
        self.reconciler = CanaryAnalysisReconciler(
            cast(ctrl.Client, self.client),
            servers,
            cast(ctrl.EventRecorder, self.told),
            self.metrics,
            clock=lambda: self.now,
            custom_promql=custom_promql,
            deadline=300.0,
        )

    def phase(self, phase: str, *, run: int = 1, step: int = 0, attempt: int = 1) -> None:
        self.client.canary = {"phase": phase, "run": run, "step": step, "attempt": attempt}

    async def service(self, name: str = "ocr") -> None:
        body = {
            "apiVersion": PADDLE_SERVICE.api_version,
            "kind": "PaddleService",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"models": [{"name": "m", "pinned": pinned()}]},
        }
        self.uid = (await self.live.apply(body)).uid
        for revision in (CANDIDATE, BASELINE):
            await self.deployment(name, revision)

    async def deployment(self, service: str, revision: str, ready: int = 2) -> None:
        own = labels(service, revision)
        container = {"name": "server", "image": "none"}
        key = ctrl.Key(self.namespace, f"{service}-{revision}")
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": key.name,
                "namespace": self.namespace,
                "labels": own,
                "ownerReferences": [Owner(self.namespace, service, self.uid).reference()],
            },
            "spec": {
                "selector": {"matchLabels": own},
                "template": {"metadata": {"labels": own}, "spec": {"containers": [container]}},
            },
        }
        await self.live.apply(body)
        status = {"replicas": ready, "readyReplicas": ready}
        await self.live.patch(ctrl.DEPLOYMENT, key, {"status": status}, type="merge", subresource="status")

    async def create(self, *, owner_uid: str | None = None, **fields: object) -> ctrl.Key:
        body = analysis(owner_uid=self.uid if owner_uid is None else owner_uid, **fields)  # type: ignore[arg-type]
        body["metadata"] |= {"namespace": self.namespace, "labels": labels(body["spec"]["service"])}
        return (await self.live.create(body)).key

    async def once(self, key: ctrl.Key) -> ctrl.Result:
        return await self.reconciler.reconcile(key)

    async def until_done(self, key: ctrl.Key, *, turns: int = 80) -> Tree:
        """Reconcile at the times that it asks for, until there is nothing more to wait for."""
        for _ in range(turns):
            try:
                result = await self.once(key)
            except Crash:
                self.client.crash_before = self.client.crash_after = None
                self.start()
                continue
            if result.requeue_after is None:
                return await self.status(key)
            assert result.requeue_after > 0  # 0 would be never
            self.now += result.requeue_after
        raise AssertionError(f"no end after {turns} turns: {await self.status(key)}")

    async def status(self, key: ctrl.Key) -> Tree:
        found = await self.live.get_live(CANARY_ANALYSIS, key)
        assert found is not None
        return found.status

    async def looks(self) -> list[float]:
        """The times of the looks, each once."""
        return sorted({at for query, at in self.prometheus.asked if query != "vector(1)"})


def condition(status: Tree, kind: str) -> str:
    return next((item["status"] for item in status.get("conditions", []) if item["type"] == kind), "")


@asynccontextmanager
async def harness(client: ctrl.Client, namespace: str) -> AsyncIterator[Harness]:
    async with serving(Scripted()) as prometheus:
        made = Harness(client, namespace, prometheus)
        await made.service()
        try:
            yield made
        finally:
            await asyncio.gather(*(server.close() for server in made.servers))
