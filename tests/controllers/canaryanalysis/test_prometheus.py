"""Judged by a real Prometheus: over histories written down beforehand, and once over live scrapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from controllers.analysis.answer import Answer, Refused
from controllers.analysis.client import Prometheus
from controllers.analysis.server import Server
from controllers.canaryanalysis.spec import moment, stamp
from runtime.metrics import ModelMetrics, RuntimeCollector
from tests.controllers.analysis.history import Pod, prometheus, write
from tests.controllers.analysis.prometheus import Scripted

from .harness import BASELINE, CANDIDATE, Harness, Silent
from .objects import START

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

BEGIN = int(moment(START))
STABLE = Pod(name="a", revision=BASELINE, qps=38)
#: As bad as the slowest candidate here.
SLUGGISH = Pod(name="a", revision=BASELINE, qps=38, slow=4)

HISTORIES = {
    "equal": ([STABLE, Pod(name="b", revision=CANDIDATE, qps=2)], "Passed", "Good", 3),
    "errors": ([STABLE, Pod(name="b", revision=CANDIDATE, qps=2, errors=5, before=0)], "Failed", "Worse", 1),
    "slow": ([STABLE, Pod(name="b", revision=CANDIDATE, qps=2, slow=4)], "Failed", "Worse", 1),
    "both slow": ([SLUGGISH, Pod(name="b", revision=CANDIDATE, qps=2, slow=4)], "Passed", "Good", 3),
    "a pod is replaced": (
        [
            STABLE,
            Pod(name="b1", revision=CANDIDATE, qps=2, last=90),
            Pod(name="b2", revision=CANDIDATE, qps=2, first=95, before=0),
        ],
        "Passed",
        "Good",
        3,
    ),
    "no traffic": ([STABLE, Pod(name="b", revision=CANDIDATE, qps=0)], "Inconclusive", "NoTraffic", 3),
    "never scraped": ([STABLE], "Unavailable", "NoData", 3),
}


def _earlier(pod: Pod) -> Pod:
    """The windows begin 300 s into the history, which goes on for 1000 s more."""
    return Pod(
        name=pod.name,
        revision=pod.revision,
        qps=pod.qps,
        errors=pod.errors,
        slow=pod.slow,
        before=pod.before,
        first=pod.first + 300 if pod.first else 0,
        last=pod.last + (300 if pod.last < 600 else 700),
    )


@pytest.mark.apiserver
@pytest.mark.parametrize("name", HISTORIES)
async def test_verdicts_over_a_history(name: str, apiserver: Envtest, namespace: str, tmp_path: Path) -> None:
    pods, verdict, reason, windows = HISTORIES[name]
    async with judging(apiserver, namespace, tmp_path, pods) as desk:
        status = await desk.until_done(await desk.create())
    assert (status["verdict"], status["reason"], status["counts"]["windows"]) == (verdict, reason, windows)


@pytest.mark.apiserver
async def test_what_is_counted_is_what_happened(apiserver: Envtest, namespace: str, tmp_path: Path) -> None:
    """Never more than happened, and no less than the two scrapes at the edges account for."""
    async with judging(apiserver, namespace, tmp_path, HISTORIES["equal"][0]) as desk:
        status = await desk.until_done(await desk.create())
    evidence = status["evidence"]["m/errors"]
    for side, truth in (("candidate", 2 * 180), ("baseline", 38 * 180)):
        bad, counted = evidence[side]
        assert bad == 0
        assert 0.85 * truth <= counted <= truth
    assert status["models"][0]["candidate"]["p95Milliseconds"] == pytest.approx(24.25, abs=1)


async def test_answers_of_a_real_server(tmp_path: Path) -> None:
    write(tmp_path, BEGIN - 60, [STABLE, Pod(name="b", revision=CANDIDATE, qps=2)])
    async with prometheus(tmp_path) as url:
        client = Prometheus(Server(name="default", url=url), Silent())
        try:
            await client.answers(at=BEGIN)
            assert await client.query("vector(NaN)", at=BEGIN) == Answer(None, "the value is NaN")
            assert await client.query("1 / 0", at=BEGIN) == Answer(None, "the value is +Inf")
            assert await client.query("nothing", at=BEGIN) == Answer(None, "no series")
            assert await client.query("model_load_success", at=BEGIN) == Answer(
                None, "2 series instead of one"
            )
            for query, words in (("sum(", "parse error"), ("up[1m]", "invalid expression type|a matrix")):
                with pytest.raises(Refused, match=words):
                    await client.query(query, at=BEGIN)
        finally:
            await client.close()


@asynccontextmanager
async def judging(
    apiserver: Envtest, namespace: str, folder: Path, pods: list[Pod]
) -> AsyncIterator[Harness]:
    write(folder, BEGIN - 300, [_earlier(pod) for pod in pods], namespace=namespace)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(prometheus(folder))
        client = await stack.enter_async_context(apiserver.client())
        desk = Harness(client, namespace, Scripted(url=url))
        await desk.service()
        for revision in (CANDIDATE, BASELINE):
            await desk.deployment("ocr", revision, ready=1)
        yield desk
        await asyncio.gather(*(server.close() for server in desk.servers))


class Exporter:
    """Plays one pod: so many requests a second since it began."""

    def __init__(self, namespace: str, revision: str, qps: float, slow: float) -> None:
        self.model = ModelMetrics(model="m", version="v1.0.0", sla=0.2, loaded=True)
        self.registry = CollectorRegistry()
        labels = {"paddle_namespace": namespace, "paddle_service": "ocr", "revision": revision}
        self.registry.register(RuntimeCollector(lambda: [self.model], labels, lambda: 0))
        self._began = time.monotonic()
        self._qps, self._slow, self._count = qps, slow, 0

    async def handle(self, request: web.Request) -> web.Response:
        due = int((time.monotonic() - self._began) * self._qps)
        for number in range(self._count, due):
            self.model.answered(200, 0.3 if number * self._slow % 1 + self._slow >= 1 else 0.02)
        self._count = due
        return web.Response(body=generate_latest(self.registry), content_type="text/plain")


@pytest.mark.apiserver
async def test_live_scrapes_of_two_exporters(apiserver: Envtest, namespace: str, tmp_path: Path) -> None:
    """A candidate with half of its requests over the SLA is found out within its first windows."""
    async with AsyncExitStack() as stack:
        ports = []
        for exporter in (Exporter(namespace, BASELINE, 190, 0.0), Exporter(namespace, CANDIDATE, 30, 0.5)):
            app = web.Application()
            app.router.add_get("/metrics", exporter.handle)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ports.append(runner.addresses[0][1])
        targets = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
        config = (
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs:\n- job_name: pods\n  static_configs: [{{targets: [{targets}]}}]\n"
        )
        url = await stack.enter_async_context(prometheus(tmp_path, config=config))
        client = await stack.enter_async_context(apiserver.client())
        desk = Harness(client, namespace, Scripted(url=url))
        await desk.service()
        for revision in (CANDIDATE, BASELINE):
            await desk.deployment("ocr", revision, ready=1)
        key = await desk.create(interval=5, windowStart=stamp(time.time() + 1))
        status: dict[str, object] = {}
        async with asyncio.timeout(90):
            while status.get("verdict", "Running") == "Running":
                desk.now = time.time()
                result = await desk.once(key)
                await asyncio.sleep(min(result.requeue_after or 0.0, 1.0))
                status = await desk.status(key)
        await asyncio.gather(*(server.close() for server in desk.servers))
    assert (status["verdict"], status["reason"]) == ("Failed", "Worse")
    assert "share slower than the SLA" in str(status["message"])
