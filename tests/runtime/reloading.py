"""A served models.yaml that tests rewrite, and clients that never stop asking."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.runtime.conftest import DEADLINE, Running, entry, wait_for


@dataclass
class Config:
    """models.yaml, replaced the way a ConfigMap mount replaces it: a link that is swapped."""

    folder: Path
    count: int = 0

    @property
    def path(self) -> Path:
        return self.folder / "models.yaml"

    def write(self, *models: Mapping[str, object]) -> None:
        self.text(yaml.safe_dump(desired(models)))

    def text(self, text: str) -> None:
        self.count += 1
        data = self.folder / f"..{self.count}"
        data.mkdir()
        (data / "models.yaml").write_text(text)
        link = self.folder / "..data.tmp"
        link.symlink_to(data.name)
        os.replace(link, self.folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to(Path("..data") / "models.yaml")

    def arguments(self) -> list[str]:
        pulled = self.folder / "pulled"
        pulled.mkdir(exist_ok=True)
        return ["--config", str(self.path), "--models", str(pulled)]


def desired(models: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"schema": 1, "service": "demo", "namespace": "team-a", "revision": "r1", "models": list(models)}


def model(path: Path, version: str, name: str = "lin", **extra: object) -> dict[str, object]:
    """An entry of models.yaml for a folder; ONNX when it holds such a file, which starts in half the time."""
    onnx: dict[str, object] = {"framework": "onnx", "engine": "auto"} if any(path.glob("*.onnx")) else {}
    return {**entry(name, path), "version": version, "engine": "native", "threads": 1, **onnx, **extra}


def serves(running: Running, version: str, name: str = "lin") -> bool:
    """Whether a request for `name` is answered by `version`."""
    return ask(running, name) == (200, version)


def ask(running: Running, name: str = "lin") -> tuple[int, str]:
    got = running.post("/predict", {"model": name, "inputs": {"x": [[1, 1, 1]]}})
    return got.status, got.headers.get("X-Model-Version", "")


def loaded(running: Running, name: str = "lin", verb: str = "load") -> tuple[int, dict[str, object]]:
    got = running.request("POST", f"/v2/repository/models/{name}/{verb}", b"", admin=True)
    return got.status, got.json


@dataclass
class Load:
    """What clients saw: (status, version, answer) with how often, and the versions in order of change."""

    seen: Counter[tuple[int, str, float]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.seen.total()

    def more(self, count: int) -> None:
        """Waits for so many answers from now on."""
        wanted = self.total + count
        wait_for(lambda: self.total >= wanted)

    @property
    def bad(self) -> dict[tuple[int, str, float], int]:
        return {key: count for key, count in self.seen.items() if key[0] != 200}


@contextmanager
def load(running: Running, clients: int = 4, path: str = "/predict") -> Iterator[Load]:
    """Requests without a pause on kept connections until the block ends."""
    found, stop = Load(), threading.Event()
    body = json.dumps({"model": "lin", "inputs": {"x": [[1.0, 1.0, 1.0]]}})

    def client() -> None:
        connection = http.client.HTTPConnection(*running.http, timeout=DEADLINE)
        while not stop.is_set():
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                text = response.read()
                value = (
                    next(iter(json.loads(text)["outputs"].values()))[0][0] if response.status == 200 else 0.0
                )
                found.seen[response.status, response.headers.get("X-Model-Version", ""), value] += 1
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                found.lost.append(repr(error))
                connection.close()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: found.total >= clients)
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
