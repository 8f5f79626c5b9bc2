"""The bars of the scale run, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..bars import Bar

KIB_PER_OBJECT = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run measured. Seconds, MiB; counts of objects by kind, of writes by verb and resource.
    `shares`: CPU seconds of the other programs, their start included.
    """

    models: int
    ready: int
    seconds: float
    cpu: float
    empty: float
    resident: float
    peak: float
    objects: Mapping[str, int]
    cache_bytes: int
    newcomer: float
    behind_newcomer: int
    backlog_writes: Mapping[str, int]
    shares: Mapping[str, float]
    restarts: int
    settling: float
    idle: float
    idle_cpu: float
    idle_writes: Mapping[str, int]
    restart: float
    restart_cpu: float
    restart_resident: float
    restart_writes: Mapping[str, int]
    probes: int

    def bars(self) -> list[Bar]:
        objects = sum(self.objects.values())
        memory = self.empty + KIB_PER_OBJECT * objects / 1024
        return [
            Bar("models Ready", self.ready, self.models, "models", least=True),
            Bar(f"memory, empty + 8 KiB for each of {objects}", self.resident, memory, "MiB"),
            Bar("the same after a restart", self.restart_resident, memory, "MiB"),
            Bar(f"writes but the Lease in {self.idle:.0f} idle s", _total(self.idle_writes), 0, "writes"),
            Bar("writes but the Lease after a restart", _total(self.restart_writes), 0, "writes"),
            Bar("not Ready yet when the newcomer was", self.behind_newcomer, 1, "models", least=True),
        ]

    def text(self) -> str:
        """What is no bar but worth knowing."""
        kinds = ", ".join(f"{kind.partition('.')[0]} {count}" for kind, count in self.objects.items())
        rows = [
            f"backlog: {self.seconds:.1f} s, {self.cpu:.1f} CPU s; the newcomer {self.newcomer:.1f} s; "
            f"restarts of an operator that ended: {self.restarts}",
            "CPU s of the others: " + ", ".join(f"{name} {used:.0f}" for name, used in self.shares.items()),
            f"cached: {kinds}; {self.cache_bytes / 2**20:.1f} MiB encoded",
            f"memory: empty {self.empty:.1f}, now {self.resident:.1f}, at most {self.peak:.1f} MiB",
            f"writes for the backlog: {_list(self.backlog_writes)}",
            f"idle after {self.settling:.0f} s: {self.idle_cpu:.2f} CPU s, writes: {_list(self.idle_writes)}",
            f"restart: {self.restart:.1f} s, {self.restart_cpu:.1f} CPU s, "
            f"writes: {_list(self.restart_writes)}",
            f"probes of admin ports: {self.probes}",
        ]
        return "\n".join(rows)

    def write(self, path: Path, bars: Sequence[Bar], settings: Mapping[str, object], machine: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "settings": dict(settings),
            "bars": [bar.to_json() for bar in bars],
            "figures": asdict(self),
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def _total(writes: Mapping[str, int]) -> float:
    return float(sum(writes.values()))


def _list(writes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in writes.items()) or "none"
