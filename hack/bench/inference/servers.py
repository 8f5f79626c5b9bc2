"""What is measured, each as a process: ours, the peer, the bare predictor; and the load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hack.bench.inference.load import Reading

ROOT = Path(__file__).resolve().parents[3]
PEERS = Path(__file__).with_name("peers.txt")
_START = 120.0


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "paddle-operator" / "bench"


def peer_environment() -> Path:
    """The interpreter of an environment that holds the peer, made once from the hashed list."""
    folder = cache() / "mosec"
    ready = folder / "installed"
    text = PEERS.read_text()
    python = folder / "bin" / "python"
    if not (ready.is_file() and ready.read_text() == text):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "-r", str(PEERS)]
        subprocess.run(command, check=True, timeout=300)
        ready.write_text(text)
    return python


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def _process(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _until_answers(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the server did not come up; it said: {log.read_text(errors='replace')[-1500:]}")


@contextmanager
def ours(model: Path, folder: Path, *arguments: str) -> Iterator[int]:
    """The port of our server with one model, `m`."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "runtime", "serve", "--model", f"m={model}"]
    command += [
        "--http",
        f"127.0.0.1:{port}",
        "--admin",
        "127.0.0.1:0",
        "--grpc",
        "",
        "--log-level",
        "warning",
    ]
    command += [
        "--drain-quiet",
        "0",
        "--connection-life",
        "3600",
        "--termination-log",
        os.devnull,
        *arguments,
    ]
    log = folder / "ours.log"
    with _process(command, {"PYTHONPATH": str(ROOT)}, log) as process:
        _until_answers(process, port, "/healthz", log)
        yield port


@contextmanager
def mosec(
    model: Path, folder: Path, *, engine: str, threads: int, shape: Sequence[int], wait: int
) -> Iterator[int]:
    """The port of the peer; `wait` is its max_wait_time in milliseconds."""
    port = free_port()
    command = [str(peer_environment()), "-m", "hack.bench.inference.mosec_server"]
    command += ["--address", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    packages = sysconfig.get_paths()["purelib"]
    env = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}",
        "OMP_NUM_THREADS": str(threads),
        "GLOG_minloglevel": "2",
        "BENCH_MODEL": str(model),
        "BENCH_ENGINE": engine,
        "BENCH_THREADS": str(threads),
        "BENCH_SHAPE": ",".join(str(d) for d in shape),
        "BENCH_WAIT": str(wait),
    }
    log = folder / f"mosec{wait}.log"
    with _process(command, env, log) as process:
        _until_answers(process, port, "/metrics", log)
        yield port


def parameters(port: int) -> Mapping[str, object]:
    """What our server says of model `m`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    connection.request("GET", "/v2/models/m")
    found: Mapping[str, object] = json.loads(connection.getresponse().read())["parameters"]
    connection.close()
    return found


def raw_request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(port: int, request: bytes) -> bytes:
    """The body of the answer to one raw request. Raises when it is not 200."""
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {body[:300]!r}")
    return body


def loaded(port: int, request: bytes, *, connections: int, seconds: float) -> Reading:
    """One cell, from a client process of its own."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        command = [sys.executable, "-m", "hack.bench.inference.load", "--port", str(port)]
        command += ["--request", file.name, "--connections", str(connections), "--seconds", str(seconds)]
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            timeout=seconds * 3 + 60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return Reading(**json.loads(done.stdout))


def bare(model: Path, *, engine: str, threads: int, shape: Sequence[int], rows: int, seconds: float) -> float:
    """Rows a second of the predictor alone in a loop, in a process of its own."""
    command = [sys.executable, "-m", "hack.bench.inference.bare", "--model", str(model), "--engine", engine]
    command += ["--threads", str(threads), "--shape", ",".join(map(str, shape)), "--rows", str(rows)]
    command += ["--seconds", str(seconds)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "GLOG_minloglevel": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=seconds * 3 + 60, env=env)
    return float(json.loads(done.stdout)["rate"])
