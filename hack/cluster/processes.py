"""Starts, recognises and ends the node's processes.

A pid alone says little: after a hard kill or a reboot it may be somebody else's. A process is ours when pid,
start time and program all agree with what was written down. Whatever those processes start in turn (container
shims, above all) is found through a cgroup that every one of them is born in.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Identity of a process: ``started`` is in clock ticks since boot (field 22 of /proc/<pid>/stat)."""

    pid: int
    started: int
    program: str

    def is_alive(self, proc: Path = PROC) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return identify(self.pid, proc) == self


def parse_stat(text: str) -> tuple[str, int]:
    """State and start time from /proc/<pid>/stat, whose second field may hold spaces and parentheses."""
    fields = text[text.rindex(")") + 1 :].split()
    return fields[0], int(fields[19])


def identify(pid: int, proc: Path = PROC) -> Process | None:
    """The process of that pid as it is now; None when there is none, or only its zombie."""
    try:
        state, started = parse_stat((proc / str(pid) / "stat").read_text())
        program = (proc / str(pid) / "exe").readlink().name
    except (OSError, ValueError):
        return None
    return (
        None
        if state in "ZX"
        else Process(pid=pid, started=started, program=program.removesuffix(" (deleted)"))
    )


def save(path: Path, processes: Mapping[str, Process]) -> None:
    """Write the processes down, atomically."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({name: asdict(process) for name, process in processes.items()}, indent=1))
    temporary.rename(path)


def load(path: Path) -> dict[str, Process]:
    """What `save` wrote; empty when there is nothing readable."""
    try:
        return {name: Process(**fields) for name, fields in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def find_kubelets(*, ours: Iterable[int], proc: Path = PROC) -> list[int]:
    """Kubelets that are not ours but share this network namespace: they would fight over iptables and ports.

    One inside a container with a network of its own (kind, minikube's docker driver) is no rival.
    """
    mine = set(ours)
    found = []
    for folder in proc.glob("[0-9]*"):
        pid = int(folder.name)
        try:
            program = (folder / "exe").readlink().name.removesuffix(" (deleted)")
            is_here = (folder / "ns" / "net").readlink() == (proc / "self" / "ns" / "net").readlink()
        except OSError:
            continue
        if program == "kubelet" and is_here and pid not in mine:
            found.append(pid)
    return sorted(found)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    groups: Sequence[Path],
    mounts_of: int | None = None,
    setup: str = "",
) -> Process:
    """Start a daemon in a session of its own (it outlives make), output to ``log``, born in the ``groups``.

    ``mounts_of`` joins the mount namespace of that pid. ``setup`` is shell that runs first, in a new mount
    namespace; with neither it sees the host's mounts.
    """
    join = "".join(f'echo $$ > "{group}/cgroup.procs" && ' for group in groups)
    wrapped: list[str] = ["sh", "-c", f'ulimit -n "$(ulimit -Hn)"; {join}exec "$@"', "sh"]
    if setup:
        wrapped += ["unshare", "--mount", "--propagation", "slave", "sh", "-c", f'{setup} && exec "$@"', "sh"]
    elif mounts_of is not None:
        wrapped += ["nsenter", f"--mount=/proc/{mounts_of}/ns/mnt", "--"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*wrapped, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    program = Path(command[0]).name
    # The chain of execs keeps the pid; the identity is final once the last one has happened.
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        found = identify(child.pid)
        if found is None:
            break
        if found.program == program:
            return found
        time.sleep(0.005)
    child.poll()
    raise RuntimeError(f"{program} did not start: {last_line(log)}")


def last_line(log: Path) -> str:
    """The last non-empty line of a log, for a message; its path when there is none."""
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return f"{lines[-1].strip()[-300:]} (see {log})"
    return f"see {log}"


def end(pids: Callable[[], Iterable[int]], *, grace: float = 0.0, timeout: float = 20.0) -> list[int]:
    """End every process that ``pids`` lists, until it lists none; SIGTERM first when there is a ``grace``.

    Returns those that outlived ``timeout`` seconds (uninterruptible ones).
    """
    begun = time.monotonic()
    asked: set[int] = set()
    while True:
        left = [pid for pid in pids() if pid != os.getpid() and identify(pid) is not None]
        elapsed = time.monotonic() - begun
        if not left or elapsed > grace + timeout:
            return left
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                if elapsed >= grace:
                    os.kill(pid, signal.SIGKILL)
                elif pid not in asked:  # once: a second SIGTERM makes some exit without cleaning up
                    os.kill(pid, signal.SIGTERM)
                    asked.add(pid)
        time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # a child of this very process would stay a zombie
