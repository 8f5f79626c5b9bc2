"""Other inference servers, each in an environment of its own, with the model that ours has."""

from __future__ import annotations

import importlib
import json
import subprocess
import sysconfig
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from hack.bench.inference import servers
from runtime.codec.v2 import HEADER_LENGTH

Row = NDArray[numpy.float32]
_BINARY = {"Content-Type": "application/octet-stream"}


def v2(name: str, row: Row) -> bytes:
    """V2 with one binary tensor of one row, for the model `m`."""
    tensor = {
        "name": name,
        "datatype": "FP32",
        "shape": [1, *row.shape],
        "parameters": {"binary_data_size": row.nbytes},
    }
    head = json.dumps({"id": "1", "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {**_BINARY, HEADER_LENGTH: str(len(head))}
    return servers.raw_request("/v2/models/m/infer", head + row.tobytes(), headers)


def _mosec(name: str, row: Row) -> bytes:
    return servers.raw_request("/inference", row.tobytes(), _BINARY)


def _litserve(name: str, row: Row) -> bytes:
    body = json.dumps({"x": b64encode(row.tobytes()).decode()}).encode()
    return servers.raw_request("/predict", body, {"Content-Type": "application/json"})


def _bentoml(name: str, row: Row) -> bytes:
    body = json.dumps({"x": [row.astype("float64").round(6).tolist()]}).encode()
    return servers.raw_request("/infer", body, {"Content-Type": "application/json"})


def last_values(body: bytes) -> Row:
    """The last ten numbers of an answer, which is JSON or ends with the tensor's bytes."""
    if body[-1:] == b"]":
        return numpy.array(json.loads(body), dtype="float32").reshape(-1)[-10:]
    return numpy.frombuffer(body[-40:], dtype="float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`package` names requirements/peer-<package>.txt and serve_<package>.py. `request` makes a raw request
    of the input's name and one row. `wait` is its batches' waiting time in milliseconds.
    """

    package: str
    request: Callable[[str, Row], bytes]
    ready: str
    wait: int = 1

    @property
    def name(self) -> str:
        return f"{self.package}, wait {self.wait} ms" if self.package == "mosec" else self.package


PEERS = (
    Peer(package="mosec", request=_mosec, ready="/metrics"),
    Peer(package="mosec", request=_mosec, ready="/metrics", wait=10),  # its default
    Peer(package="kserve", request=v2, ready="/v2/health/ready"),
    Peer(package="litserve", request=_litserve, ready="/health"),
    Peer(package="bentoml", request=_bentoml, ready="/readyz"),
)


@contextmanager
def serving(
    peer: Peer, model: Path, folder: Path, *, engine: str, threads: int, shape: Sequence[int]
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port of the peer and its process, once it is ready."""
    port = servers.free_port()
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    if not (packages / "paddle").is_symlink():
        (packages / "paddle").symlink_to(Path(sysconfig.get_paths()["purelib"], "paddle"))
    log = folder / f"{peer.package}{peer.wait}.log"
    env = {
        "PYTHONPATH": str(servers.ROOT),
        "BENCH_PACKAGES": str(packages),
        "BENCH_PORT": str(port),
        "BENCH_MODEL": str(model),
        "BENCH_ENGINE": engine,
        "BENCH_THREADS": str(threads),
        "BENCH_SHAPE": ",".join(str(d) for d in shape),
        "BENCH_WAIT": str(peer.wait),
        "OMP_NUM_THREADS": str(threads),
        "GLOG_minloglevel": "2",
        "HOME": str(folder),
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    with servers.process(_command(peer, port), env, log) as started:
        servers.until_answers(started, port, peer.ready, log)
        yield port, started


def _command(peer: Peer, port: int) -> Sequence[str]:
    module = f"hack.bench.inference.serve_{peer.package}"
    python = _python(peer.package)
    if peer.package == "bentoml":
        place = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(servers.ROOT)]
        return [python, "-m", "bentoml", "serve", f"{module}:Served", *place]
    command = [python, "-m", module]
    if peer.package == "mosec":
        command += ["--address", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    return command


def _python(package: str) -> str:
    """The interpreter of the peer's environment, made once. Imported by name: tests are not type checked."""
    make: Callable[[str], Path] = importlib.import_module("tests.support.venvs").python_of
    return str(make(f"peer-{package}"))
