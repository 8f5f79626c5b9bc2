"""What is measured, each as a process: ours, the peer, the bare predictor; and the load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hack.bench.inference.load import Reading

ROOT = Path(__file__).resolve().parents[3]
_START = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def process(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        try:
            yield started
        finally:
            pause(started, False)
            started.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                started.wait(30.0)
            # Not every server ends its own processes.
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def pause(started: subprocess.Popen[bytes], paused: bool) -> None:
    """Stops all processes of a server, or lets them go on: some are busy also when nobody asks them."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGSTOP if paused else signal.SIGCONT)


def until_answers(started: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and started.poll() is None:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """Ports of our server, and its process."""

    port: int
    admin: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """Processes of the server's own."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children]

    def progress(self) -> Mapping[str, object]:
        return _get(self.admin, "/progress")

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30.0)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def parameters(self) -> Mapping[str, object]:
        """What it says of model `m`."""
        found = _get(self.port, "/v2/models/m")["parameters"]
        assert isinstance(found, Mapping)
        return found


@contextmanager
def ours(folder: Path, *arguments: str, unprivileged: bool = False) -> Iterator[Ours]:
    """Our server. `unprivileged`: without CAP_SYS_NICE, as in a pod."""
    port, admin = free_port(), free_port()
    command = [sys.executable, "-P", "-m", "runtime", "serve", *arguments]
    command += ["--http", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--grpc", ""]
    command += ["--log-level", "warning", "--drain-quiet", "0", "--connection-life", "3600"]
    command += ["--termination-log", os.devnull]
    if unprivileged and os.geteuid() == 0:
        # Without it in the bounding set, root does not get it at exec.
        command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", *command]
    log = folder / "ours.log"
    with process(command, {"PYTHONPATH": str(ROOT)}, log) as started:
        until_answers(started, port, "/healthz", log)
        yield Ours(port=port, admin=admin, process=started)


def _get(port: int, path: str) -> Mapping[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
    connection.request("GET", path)
    found: Mapping[str, object] = json.loads(connection.getresponse().read())
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
