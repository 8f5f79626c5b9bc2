"""How many CPUs this container may use: the cgroup's quota, not the machine's count."""

from __future__ import annotations

import os
from pathlib import Path


def available(root: Path = Path("/")) -> float:
    """CPUs that may be used at once: the smallest quota on the way up (cgroup v2 or v1), the affinity mask,
    whatever is least. `root` is where /proc and /sys are looked for.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    return min([cpus, *_quotas(root)])


def threads(workers: int, asked: int = 0, root: Path = Path("/")) -> int:
    """Math threads for each of `workers` processes: what was asked, else an equal share of the CPUs, at
    least 1.
    """
    return asked or max(1, int(available(root) / max(1, workers)))


def _quotas(root: Path) -> list[float]:
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                found += _v2(folder)
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                for folder in _upwards(root / "sys/fs/cgroup" / mount, path):
                    found += _v1(folder)
    return found


def _upwards(mount: Path, path: str) -> list[Path]:
    """The group's folder and all above it; a container often sees only the last of them."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _v2(folder: Path) -> list[float]:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if quota in ("", "max"):
        return []
    return _ratio(quota, period)


def _v1(folder: Path) -> list[float]:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> list[float]:
    try:
        value = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return []
    return [value] if value > 0 else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
