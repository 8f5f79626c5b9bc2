"""The arena and the processes of a model, made before the front has imported its own libraries.

A worker needs half a second of its own for the engine's library; on a second core that costs nothing if it
starts first. This module therefore imports nothing heavy.
"""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field

from runtime import cpu
from runtime.arena import Arena
from runtime.process import spawn
from runtime.spec import Limits, ModelSpec


@dataclass(slots=True)
class Prestarted:
    """Owns the arena and the processes nobody has taken yet. `threads` is for each worker."""

    spec: ModelSpec
    arena: Arena
    threads: int
    waiting: list[tuple[subprocess.Popen[bytes], socket.socket]] = field(default_factory=list)

    def take(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """A process that waits for its first frame: one that was started before, or a new one."""
        return self.waiting.pop() if self.waiting else self._spawn()

    def start(self, count: int, *, calm: bool) -> None:
        """`calm`: others serve while these get ready."""
        self.waiting += [self._spawn(calm=calm) for _ in range(count)]

    def _spawn(self, *, calm: bool = False) -> tuple[subprocess.Popen[bytes], socket.socket]:
        preload = "onnx" if self.spec.framework == "onnx" else "paddle"
        return spawn(self.arena.fd, preload=preload, threads=self.threads, calm=calm)

    def close(self) -> None:
        """Ends what was never taken. Raises RuntimeError when arena blocks are still out."""
        for process, connection in self.waiting:
            connection.close()
            process.kill()
            process.wait()
        self.waiting.clear()
        self.arena.close()


def prestart(spec: ModelSpec, limits: Limits, *, total_workers: int, calm: bool = False) -> Prestarted:
    """Starts all workers of a model, unless there is nothing for them to load. `calm`: others serve."""
    started = Prestarted(
        spec,
        Arena(limits.arena, name=f"model-{spec.name}"[:200]),
        cpu.threads(total_workers, spec.threads),
    )
    if not spec.problem:
        started.start(spec.workers, calm=calm)
    return started
