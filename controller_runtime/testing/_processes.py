"""Server processes that never outlive their test run."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import ControllerRuntimeError

_SET_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


_starter = ThreadPoolExecutor(1, thread_name_prefix="envtest")
"""Starts every program: the kernel ends them with the thread that did, so it must be one that stays."""


class EnvtestError(ControllerRuntimeError):
    """A test server is missing, did not start or died; the message has its last words."""


class Process:
    """One running program, its output in a log file. On Linux it dies with this process, however it ends."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.name = Path(command[0]).name
        self.log = log
        self._process = _starter.submit(self._start, [os.fspath(part) for part in command]).result()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is for the test run, which then stops us
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise EnvtestError, with the end of the log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise EnvtestError(f"{self.name} exited with {code}:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(text[-lines:])

    def stop(self, *, kill: bool = False, timeout: float = 10.0) -> None:
        """End it: politely first unless `kill`, for sure after `timeout` seconds. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nothing listens on now, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def find_binary(name: str) -> Path:
    """From $CONTROLLER_RUNTIME_ASSETS, the project's cache or PATH. Raises EnvtestError naming all three."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-operator" / "bin"
    places = [os.environ.get("CONTROLLER_RUNTIME_ASSETS", ""), os.fspath(cache)]
    places += os.environ.get("PATH", "").split(os.pathsep)
    for place in places:
        path = Path(place) / name
        if place and path.is_file() and os.access(path, os.X_OK):
            return path
    raise EnvtestError(
        f"{name}: not in $CONTROLLER_RUNTIME_ASSETS ({places[0] or 'unset'}), {cache} or PATH; "
        "run `make binaries` or set the variable to a folder that has it"
    )
