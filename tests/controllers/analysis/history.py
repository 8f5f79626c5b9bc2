"""A real Prometheus over a history that is written down beforehand, as the runtime would have been scraped.

Nobody waits for scrapes: promtool makes blocks of the samples, and queries name a time within them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hack.prometheus import ensure
from runtime.metrics import ModelMetrics, RuntimeCollector

SCRAPE = 5


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod's requests a second; every `errors`-th is answered with 500, every `slow`-th takes 0.25 s.

    first, last: the scrapes that saw it, in seconds from the start. from_zero: it took no request before.
    """

    name: str
    revision: str
    qps: int
    errors: int = 0
    slow: int = 0
    first: int = 0
    last: int = 600
    before: int = 1000

    def scrapes(self, start: int, namespace: str) -> Iterator[tuple[int, list[str]]]:
        """(time, lines): the runtime's own exposition, at the runtime's own beat."""
        model = ModelMetrics(model="m", version="v1.0.0", sla=0.2, loaded=True)
        for _ in range(self.before):
            model.answered(200, 0.02)
        labels = {"paddle_namespace": namespace, "paddle_service": "ocr", "revision": self.revision}
        collector = RuntimeCollector(lambda: [model], labels, lambda: 0)
        count = 0
        for second in range(self.first, self.last + 1):
            if (second - self.first) % SCRAPE == 0:
                yield start + second, _lines(collector, self.name)
            for _ in range(self.qps):
                count += 1
                bad = self.errors and count % self.errors == 0
                late = self.slow and count % self.slow == 0
                model.answered(500 if bad else 200, 0.25 if late else 0.02)


def _lines(collector: RuntimeCollector, pod: str) -> list[str]:
    lines = []
    for family in collector.collect():
        if family.name not in ("inference_request", "inference_latency_seconds", "model_load_success"):
            continue
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in {**sample.labels, "pod": pod}.items())
            lines.append(f"{sample.name}{{{labels}}} {sample.value!r}")
    return lines


def write(folder: Path, start: int, pods: list[Pod], *, namespace: str = "default") -> None:
    """The data directory of a Prometheus that has seen `pods`."""
    series: dict[str, list[tuple[int, str]]] = {}
    for pod in pods:
        for at, lines in pod.scrapes(start, namespace):
            for line in lines:
                name, _, value = line.rpartition(" ")
                series.setdefault(name, []).append((at, value))
    text = [f"{name} {value} {at}" for name, points in sorted(series.items()) for at, value in points]
    source = folder / "history.txt"
    source.write_text("\n".join([*text, "# EOF", ""]))
    subprocess.run(
        [ensure() / "promtool", "tsdb", "create-blocks-from", "openmetrics", source, folder / "data"],
        check=True,
        capture_output=True,
        timeout=120,
    )


@asynccontextmanager
async def prometheus(folder: Path, *, config: str = "") -> AsyncIterator[str]:
    """Its URL. `folder` holds data/, or gets it."""
    (folder / "prometheus.yml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(ensure() / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(folder / "log").open("w"),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while not await _ready(session, url):
                if process.returncode is not None:
                    raise AssertionError((folder / "log").read_text()[-2000:])
                await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready", timeout=aiohttp.ClientTimeout(total=2)) as reply:
            return reply.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
