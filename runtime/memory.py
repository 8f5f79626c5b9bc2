"""Whether a second generation of a model fits beside the first: the cgroup's memory, and what workers use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# What a worker takes beside its model: the engine's library and its first buffers.
_WORKER = 160 << 20
# A model's weights, and what the engine makes of them while it loads.
_WEIGHTS = 2.0
# Of the limit, what stays free for requests.
_KEEP = 0.05


def needed(files: int, workers: int, used: int) -> int:
    """Bytes that a new generation will take, at a guess: what the one that serves takes (`used`), or what
    follows from the size of the files, whichever is more.
    """
    return max(used, workers * (_WORKER + int(_WEIGHTS * files)))


def refusal(need: int, free: int | None, limit: int | None, *, promised: int = 0) -> str:
    """Why `need` bytes do not fit, or "". `promised` is what other generations that load now will take; a
    `free` of None is unknown and refuses nothing.
    """
    if free is None:
        return ""
    left = free - promised - int(_KEEP * (limit or 0))
    if need <= left:
        return ""
    return (
        f"a second generation needs about {_mib(need)} MiB and {_mib(max(0, left))} MiB are free"
        + (f" of {_mib(limit)} MiB" if limit else "")
        + ": raise the memory limit, or replace the pod instead of reloading in it"
    )


def _mib(count: int) -> int:
    return count >> 20


def resident(pids: Iterable[int], root: Path = Path("/")) -> int:
    """Bytes of their own that these processes hold; one that is gone holds none."""
    return sum(_field(_read(root / f"proc/{pid}/status"), "RssAnon:") for pid in pids)


def free(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """(free bytes, limit): what the cgroup still grants, caches not counted as used, and its limit; without
    a limit what the machine has, and None.
    """
    machine = _field(_read(root / "proc/meminfo"), "MemAvailable:")
    available = machine or None
    group = root / "sys/fs/cgroup"
    limit, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    cache = _count(_read(group / "memory.stat"), "inactive_file")
    if not limit:  # version 1
        group = group / "memory"
        limit = _read(group / "memory.limit_in_bytes").strip()
        used = _read(group / "memory.usage_in_bytes").strip()
        cache = _count(_read(group / "memory.stat"), "total_inactive_file")
    if not limit.isdigit() or not used.isdigit() or int(limit) >= 1 << 60:
        return available, None
    left = max(0, int(limit) - int(used) + cache)
    return (left if available is None else min(left, available)), int(limit)


def _count(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def _field(text: str, name: str) -> int:
    """A "Name:  123 kB" line, in bytes; 0 when there is none."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
