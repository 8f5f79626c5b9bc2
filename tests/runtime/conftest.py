"""Real models, a worker to speak frames with, and a whole server as a process."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from runtime.arena import Arena, Block
from runtime.frames import MAX_FRAME, WINDOW, Frame, Op, Tensor, pack, unpack
from runtime.process import spawn
from tests.runtime.sick import Sick, sickness
from tests.support.models import Net, export, write_onnx

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120.0  # seconds for anything a real process has to do on a busy machine


@pytest.fixture(scope="session")
def nets() -> Mapping[str, Path]:
    """Folders of exported models by name; not to be written to."""
    wanted = {
        "linear": Net(),
        "linear2": Net(weight=3.0, bias=-1.0),
        "lenet": Net(kind="lenet"),
        "two": Net(kind="two"),
        "clash": Net(kind="clash"),
        "dynamic": Net(kind="dynamic"),
        "embedding": Net(kind="embedding"),
        "pdmodel": Net(layout="pdmodel"),
        "__model__": Net(layout="__model__"),
    }
    return dict(zip(wanted, export(list(wanted.values())), strict=True))


@pytest.fixture(scope="session")
def onnx_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("onnx"))


def wait_for(what: Callable[[], object], seconds: float = DEADLINE) -> object:
    """The first true answer of `what`, asked again and again; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.01)


class WorkerClient:
    """Speaks frames to a real worker process, synchronously."""

    def __init__(self, *, preload: str = "paddle", env: Mapping[str, str] | None = None) -> None:
        self.arena = Arena(8 << 20)
        self.process, self.socket = spawn(self.arena.fd, preload=preload, threads=1, env=env)
        self.socket.setblocking(True)
        self.socket.settimeout(DEADLINE)
        self.progress: list[tuple[str, str]] = []
        self._blocks: list[Block] = []

    def send(self, op: Op, *, tensors: Sequence[Tensor] = (), payload: bytes = b"", rows: int = 0) -> None:
        self.socket.send(pack(Frame(op, 1, 7, rows, tensors, payload)))

    def receive(self) -> Frame:
        while True:
            message = self.socket.recv(MAX_FRAME + 1)
            if not message:
                raise EOFError
            frame = unpack(message, self.arena.size)
            if frame.op is not Op.PROGRESS:
                return frame
            said = json.loads(frame.payload)
            self.progress.append((said["stage"], said["engine"]))

    def load(self, path: Path, **order: object) -> tuple[Op, dict[str, object]]:
        body = {"path": str(path), "framework": "paddle", "engine": "auto", "threads": 1, **order}
        data = json.dumps(body).encode()
        block = self.arena.allocate(len(data))
        self.arena.write(block.offset, data)
        self.send(Op.LOAD, tensors=[Tensor(14, 0, block.offset, len(data), (len(data),))])
        frame = self.receive()
        block.release()
        return frame.op, json.loads(frame.payload)

    def run(self, *inputs: tuple[int, tuple[int, ...], bytes], window: int = 4096) -> Frame:
        """Inputs are (datatype code, dims, bytes)."""
        tensors = []
        for index, (code, dims, data) in enumerate(inputs):
            block = self._allocate(len(data))
            self.arena.write(block.offset, data)
            tensors.append(Tensor(code, index, block.offset, len(data), dims))
        out = self._allocate(window)
        tensors.append(Tensor(14, WINDOW, out.offset, window, ()))
        self.send(Op.RUN, tensors=tensors, rows=1)
        return self.receive()

    def _allocate(self, size: int) -> Block:
        block = self.arena.allocate(size)
        self._blocks.append(block)
        return block

    def output(self, frame: Frame, index: int = 0) -> bytes:
        tensor = frame.tensors[index]
        return self.arena.read(tensor.offset, tensor.nbytes)

    def held(self) -> int:
        """Native handles that the worker has and has not given back."""
        self.send(Op.STATS)
        stats: dict[str, int] = json.loads(self.receive().payload)
        return stats["created"] - stats["destroyed"]

    def shutdown(self) -> dict[str, int]:
        self.send(Op.SHUTDOWN)
        stats: dict[str, int] = json.loads(self.receive().payload)
        assert self.process.wait(DEADLINE) == 0
        return stats

    def close(self) -> None:
        self.socket.close()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for block in self._blocks:
            block.release()
        self.arena.close()


@pytest.fixture
def worker() -> Iterator[Callable[..., WorkerClient]]:
    """Starts workers; they are gone after the test."""
    with ExitStack() as stack:

        def start(**options: object) -> WorkerClient:
            client = WorkerClient(**options)  # type: ignore[arg-type]
            stack.callback(client.close)
            return client

        yield start


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.body)
        return value


@dataclass
class Running:
    """A server process. `log` grows as it writes."""

    process: subprocess.Popen[bytes]
    log: list[dict[str, object]] = field(default_factory=list)
    http: tuple[str, int] = ("", 0)
    admin: tuple[str, int] = ("", 0)
    grpc: str = ""

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        admin: bool = False,
    ) -> Answer:
        connection = http.client.HTTPConnection(*(self.admin if admin else self.http), timeout=DEADLINE)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, *, admin: bool = False) -> Answer:
        return self.request("GET", path, admin=admin)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})

    def events(self, name: str) -> list[dict[str, object]]:
        return [line for line in list(self.log) if line.get("event") == name]

    def progress(self) -> dict[str, object]:
        return self.get("/progress", admin=True).json

    def model(self, index: int = 0) -> dict[str, object]:
        models = self.progress()["models"]
        assert isinstance(models, list)
        return dict(models[index])

    def wait_ready(self) -> None:
        def ready() -> bool:
            try:
                return self.get("/healthz").status == 200
            except (OSError, http.client.HTTPException):
                return False  # a server with short limits may cut a client that is slow to ask

        wait_for(ready)

    def metric(self, start: str) -> float:
        """The value of the first sample whose text starts so."""
        for line in self.get("/metrics", admin=True).body.decode().splitlines():
            if line.startswith(start):
                return float(line.rpartition(" ")[2])
        raise KeyError(start)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]


@contextmanager
def serving(*arguments: str, env: Mapping[str, str] | None = None, ready: bool = True) -> Iterator[Running]:
    """A server on free ports; it must end with exit code 0 within its grace when told to."""
    command = [sys.executable, "-P", "-m", "runtime", "serve", *arguments]
    command += ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    if "--grpc" not in arguments:
        command += ["--grpc", "127.0.0.1:0"]
    if "--drain-quiet" not in arguments:
        command += ["--drain-quiet", "0"]
    if "--termination-log" not in arguments:
        command += ["--termination-log", os.devnull]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ)
    running = Running(process)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.log.append(json.loads(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_for(lambda: running.events("listening") or process.poll() is not None)
        assert running.events("listening"), f"the server ended with {process.returncode}"
        listening = running.events("listening")[0]
        running.http = _address(str(listening["http"]))
        running.admin = _address(str(listening["admin"]))
        running.grpc = str(listening["grpc"])
        if ready:
            running.wait_ready()
        yield running
        if process.poll() is None:
            process.terminate()
            assert process.wait(DEADLINE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(5.0)
        assert process.stdout is not None
        process.stdout.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def connect(running: Running) -> socket.socket:
    """A bare connection to the service port."""
    return socket.create_connection(running.http, timeout=DEADLINE)


def entry(name: str, path: Path, **extra: object) -> dict[str, object]:
    source = {"scheme": "file", "root": str(path), "files": []}
    return {"name": name, "uid": f"uid-{name}", "version": "v1.2.3", "digest": "", "framework": "paddle",
            "source": source, **extra}  # fmt: skip


@pytest.fixture(scope="session", params=[True, False], ids=["fast", "plain"])
def server(
    nets: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """Both ways through HTTP, one after the other, have to pass the same tests."""
    folder = tmp_path_factory.mktemp("config")
    desired = {
        "schema": 1,
        "service": "demo",
        "namespace": "team-a",
        "revision": "ab12cd34",
        "models": [
            entry(
                "lin",
                nets["linear"],
                latencySLAMilliseconds=37,
                engine="native",
                batching={"maxBatchSize": 8},
            ),
            entry("two", nets["two"]),
        ],
    }
    config = folder / "models.yaml"
    config.write_text(yaml.safe_dump(desired))
    arguments = ["--config", str(config), "--models", str(folder), "--max-body", "1"]
    if not request.param:
        arguments.append("--no-fast-path")
    with serving(*arguments) as running:
        yield running


@pytest.fixture
def sick(tmp_path: Path) -> Sick:
    return sickness(tmp_path)
