"""Reloads under load: latencies before and during the change, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hack.bench.inference import servers, steady

# The least that is waited for a reload to end; a model under full load may take its time.
_RELOAD = 180.0


@dataclass(slots=True, kw_only=True)
class Phases:
    """Latencies in seconds of requests that were due before a reload was asked for, and from then until the
    old version's processes were gone. `lost` are those without a 200.
    """

    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    lost: int = 0
    reload_seconds: list[float] = field(default_factory=list)

    def add(self, samples: Sequence[steady.Sample], asked: float, done: float) -> None:
        self.reload_seconds.append(done - asked)
        for sample in samples:
            self.lost += sample.status != 200
            if sample.due < asked:
                self.before.append(sample.latency)
            elif sample.due < done:
                self.during.append(sample.latency)


def quantile(latencies: Sequence[float], share: float) -> float:
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


@dataclass(slots=True, kw_only=True)
class Desired:
    """models.yaml of one model `m`, rewritten with the next version."""

    folder: Path
    models: Sequence[Path]
    shape: Sequence[int]  # of a row: what the requests have, so that warm-up runs it too
    input: str = ""  # its name, for a model that leaves dimensions open
    count: int = 0

    @property
    def version(self) -> str:
        return f"v1.0.{self.count}"

    def change(self) -> None:
        """The next version, of the other model; the file is replaced as a ConfigMap's mount is."""
        self.count += 1
        self.write()

    def write(self) -> None:
        path = self.models[self.count % len(self.models)]
        entry: dict[str, object] = {
            "name": "m", "uid": "uid", "version": self.version, "digest": "", "framework": "paddle",
            "source": {"scheme": "file", "root": str(path), "files": []},
        }  # fmt: skip
        if self.input:
            entry["inputs"] = [{"name": self.input, "datatype": "FP32", "shape": [-1, *self.shape]}]
        desired = {"schema": 1, "service": "s", "namespace": "n", "revision": "r", "models": [entry]}
        temporary = self.folder / "models.tmp"
        temporary.write_text(json.dumps(desired))
        os.replace(temporary, self.folder / "models.yaml")


@contextmanager
def reloadable(desired: Desired) -> Iterator[servers.Ours]:
    """A server of it, without CAP_SYS_NICE as in a pod: what it may not do there it may not do here."""
    desired.write()
    folder = str(desired.folder)
    arguments = ["--config", f"{folder}/models.yaml", "--models", folder]
    with servers.ours(desired.folder, *arguments, unprivileged=True) as server:
        yield server


@contextmanager
def steady_load(server: servers.Ours, request: bytes, *, rate: float) -> Iterator[list[steady.Sample]]:
    """Requests at this rate until the block ends; the list has them then."""
    found: list[steady.Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        out, sent = Path(folder, "samples"), Path(folder, "request")
        sent.write_bytes(request)
        command = [sys.executable, "-m", "hack.bench.inference.steady", "--port", str(server.port)]
        command += ["--request", str(sent), "--out", str(out), "--rate", str(rate), "--seconds", "86400"]
        client = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(servers.ROOT)})
        try:
            yield found
        finally:
            client.terminate()
            client.wait(30.0)
        found += steady.read(out)


def measure(
    server: servers.Ours, desired: Desired, request: bytes, *, rate: float, before: float, times: int
) -> Phases:
    """`before` seconds of load, a reload under it, and that so many times."""
    phases = Phases()
    for _ in range(times):
        with steady_load(server, request, rate=rate) as samples:
            time.sleep(0.5 + before)
            asked = time.monotonic()
            desired.change()
            until_reloaded(server, desired)
            done = time.monotonic()
        phases.add([s for s in samples if s.due >= asked - before], asked, done)
    return phases


def until_reloaded(server: servers.Ours, desired: Desired) -> None:
    """The newest version serves, and nothing is left of the one before."""
    deadline = time.monotonic() + _RELOAD
    while True:
        models = server.progress()["models"]
        assert isinstance(models, list)
        if models[0]["version"] == desired.version and len(server.workers()) == 1:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{desired.version} does not serve after {_RELOAD:g} s")
        time.sleep(0.1)


def summary(phases: Phases, *, rate: float) -> dict[str, object]:
    """Milliseconds and seconds, rounded."""

    def milliseconds(latencies: Sequence[float]) -> dict[str, float]:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {name: round(quantile(latencies, share) * 1e3, 2) for name, share in shares.items()}

    return {
        "rate": round(rate, 1),
        "before": {"requests": len(phases.before), **milliseconds(phases.before)},
        "during": {"requests": len(phases.during), **milliseconds(phases.during)},
        "lost": phases.lost,
        "seconds": [round(seconds, 2) for seconds in phases.reload_seconds],
    }
