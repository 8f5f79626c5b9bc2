"""One worker process as the front sees it: started with exec, spoken to in frames, buried exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.frames import MAX_FRAME, Frame, FrameError, Op, pack, unpack

_STDERR = 2
_SOCKET_BUFFER = 4 * MAX_FRAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: `code` >= 0, or the number of the signal that ended it."""

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"{name} (out of memory)" if self.out_of_memory else name


def spawn(
    arena_fd: int, *, preload: str, threads: int, calm: bool = False, env: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a worker that waits for its first frame; returns it and our end of its socket. A `calm` one
    leaves the CPUs to others until it is ready.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        command = [sys.executable, "-P", "-m", "runtime.worker"]
        command += ["--fd", str(theirs.fileno()), "--arena-fd", str(arena_fd)]
        command += ["--parent", str(os.getpid()), "--preload", preload, *(["--calm"] if calm else [])]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), arena_fd),
                stdin=subprocess.DEVNULL,
                # Native libraries print as they like; stdout carries JSON lines only.
                stdout=_STDERR,
                env={**os.environ, **_environment(threads), **(env or {})},
            )
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return process, ours


def _environment(threads: int) -> dict[str, str]:
    """What the engines read when their libraries start, which is before any frame."""
    log_level = os.environ.get("GLOG_minloglevel", "2")  # noqa: SIM112 - the library's own spelling
    return {
        "OMP_NUM_THREADS": str(threads),
        "GLOG_minloglevel": log_level,
        # Milliseconds that a thread of OpenMP waits for work on its CPU (200 if nothing is said); between the
        # parts of a run it waits for less, between runs the CPU is of use to others.
        "KMP_BLOCKTIME": os.environ.get("KMP_BLOCKTIME", "1"),
        # Packages are found where this process found them, whatever the working directory is.
        "PYTHONPATH": os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if p),
    }


_ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """Guarantees: `on_frame` is called in order and never after `on_exit`; `on_exit` is called once.

    A message that is no frame ends the process: whoever breaks the protocol is not spoken to again.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        connection: socket.socket,
        *,
        arena_size: int,
        on_frame: Callable[[Worker, Frame], None],
        on_exit: Callable[[Worker, Exit], None],
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._socket = connection
        self._arena_size = arena_size
        self._on_frame = on_frame
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._oom_kills = oom_kills()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._reading = True

    def send(self, frame: Frame) -> int:
        """Sends and returns the sequence number given to the frame. A dead peer is not an error: `on_exit`
        follows.
        """
        self._seq = (self._seq + 1) & 0xFFFFFFFF
        message = pack(
            Frame(
                frame.op, self._seq, frame.generation, frame.rows, frame.tensors, frame.payload, frame.sent_ns
            )
        )
        try:
            self._socket.send(message)
        except (BrokenPipeError, ConnectionError, OSError):
            self.kill()
        return self._seq

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Safe at any time: the pid is not reused before this object has reaped it."""
        if not self.exited.done():
            self._process.send_signal(number)

    async def stop(self, grace: float) -> Exit:
        """SHUTDOWN, then SIGTERM, then SIGKILL, each after `grace` seconds."""
        for step in (lambda: self.send(Frame(Op.SHUTDOWN, 0)), self._terminate):
            if self.exited.done():
                break
            step()
            await asyncio.wait([self.exited], timeout=grace)
        if not self.exited.done():
            self.kill()
        return await self.exited

    def _terminate(self) -> None:
        self.kill(signal.SIGTERM)

    def _readable(self) -> None:
        while self._reading:
            try:
                message = self._socket.recv(MAX_FRAME + 1)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._stop_reading()
                return
            try:
                frame = unpack(message, self._arena_size)
            except FrameError:
                self._stop_reading()
                self.kill()
                return
            self._on_frame(self, frame)

    def _stop_reading(self) -> None:
        """After EOF the exit status follows; a process that closed its socket but lives on is of no use."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(1.0, self.kill)

    def _reap(self) -> None:
        if self._process.poll() is None:
            return
        if self._reading:
            self._readable()  # what it said last is still in the socket
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._socket.close()
        code = self._process.returncode
        if code >= 0:
            result = Exit(code=code)
        else:
            memory = code == -signal.SIGKILL and oom_kills() > self._oom_kills
            result = Exit(signal=-code, out_of_memory=memory)
        self.exited.set_result(result)
        self._on_exit(self, result)


def oom_kills(root: Path = Path("/")) -> int:
    """How often the kernel killed something in this control group for lack of memory; 0 when it does not
    say.
    """
    total = 0
    for file in (
        root / "sys/fs/cgroup/memory.events",
        root / "sys/fs/cgroup/memory/memory.oom_control",
    ):
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return total
