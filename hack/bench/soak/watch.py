"""What a server holds at a moment, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def held(pid: int, workers: list[int]) -> Mapping[str, float]:
    """Memory of their own in MiB, and counts. A process that ends while it is read holds nothing."""
    links = _links(pid)
    return {
        "front": _memory(pid),
        "workers": sum(_memory(worker) for worker in workers),
        "descriptors": float(len(links)),
        "memfds": float(sum("memfd:" in link for link in links)),
        "processes": float(1 + len(workers)),
        "threads": float(_field(pid, "Threads:")),
    }


def _links(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(descriptor))
    return found


def _memory(pid: int) -> float:
    return _field(pid, "RssAnon:") / 1024


def _field(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
