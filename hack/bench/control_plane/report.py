"""Medians, the bars they must clear, and the file that keeps both."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..bars import Bar
from .phases import Outcome

CPU_BAR = 1.25
IDLE_BAR = 1.0  # the peers' are below what the kernel's clock ticks can tell
MEMORY_BAR = 110e6 / 2**20
MEMORY_PER_OBJECT = 8 / 2**10
Median = Callable[[Iterable[float]], float]
PHASES = ("cold", "live", "storm", "restart")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    versions: Mapping[str, str]
    settings: Mapping[str, object]
    outcomes: Sequence[Outcome]

    def median(self, median: Median, name: str, pick: Callable[[Outcome], float]) -> float:
        return median([pick(outcome) for outcome in self.outcomes if outcome.contender == name])

    def bars(self, median: Median) -> list[Bar]:
        """Against every peer of the run: wall and requests as theirs; CPU as kopf's, or 1.25 of Go's."""
        found: list[Bar] = []
        if "ours" in self.versions:
            seconds = float(str(self.settings["idle"]))
            idle = self.median(median, "ours", lambda outcome: 100 * outcome.cpu["idle"] / seconds)
            found.append(Bar("idle CPU of one core", idle, IDLE_BAR, "%"))
            # Early and live samples, and a ConfigMap for each.
            limit = MEMORY_BAR + MEMORY_PER_OBJECT * 4 * int(str(self.settings["objects"]))
            peak = self.median(median, "ours", lambda outcome: outcome.peak)
            found.append(Bar("peak memory, 110 MB + 8 KiB a cached object", peak, limit, "MiB"))
        for peer in self.versions:
            if peer == "ours" or "ours" not in self.versions:
                continue
            slack = CPU_BAR if peer == "go" else 1.0

            def bar(
                what: str, unit: str, pick: Callable[[Outcome], float], factor: float = 1.0, peer: str = peer
            ) -> None:
                ours, theirs = (self.median(median, name, pick) for name in ("ours", peer))
                times = f"{factor:g} x " if factor != 1.0 else ""
                found.append(Bar(f"{what}, ours <= {times}{peer}'s", ours, factor * theirs, unit))

            for phase in PHASES:
                bar(f"{phase} wall", "s", lambda outcome, phase=phase: outcome.wall[phase])  # type: ignore[misc]
            for phase in PHASES:
                bar(f"{phase} CPU", "CPU s", lambda outcome, phase=phase: outcome.cpu[phase], slack)  # type: ignore[misc]
            bar("storm latency p99", "s", lambda outcome: outcome.latency["storm p99"])
            bar("API requests", "requests", lambda outcome: sum(outcome.requests.values()))
        return found

    def table(self) -> str:
        """Every run's figures, one row each."""
        head = ["run", *(f"{phase} wall" for phase in PHASES), *(f"{p} CPU" for p in (*PHASES, "idle"))]
        head += [f"{phase} server CPU" for phase in PHASES[:3]]
        rows = [[*head, "storm p50/p99 ms", "RSS/peak MiB", "others", "requests"]]
        for outcome in self.outcomes:
            latency = "/".join(f"{outcome.latency[f'storm {q}'] * 1000:.0f}" for q in ("p50", "p99"))
            rows.append(
                [
                    outcome.contender,
                    *(f"{outcome.wall[phase]:.2f}" for phase in PHASES),
                    *(f"{outcome.cpu[phase]:.2f}" for phase in (*PHASES, "idle")),
                    *(f"{outcome.server_cpu[phase]:.2f}" for phase in PHASES[:3]),
                    latency,
                    f"{outcome.resident:.0f}/{outcome.peak:.0f}",
                    f"{outcome.others:.0%}",
                    ", ".join(f"{name} {count}" for name, count in outcome.requests.items()),
                ]
            )
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)

    def write(self, path: Path, bars: Sequence[Bar]) -> Path:
        """Everything, as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "bars": [bar.to_json() for bar in bars],
            "runs": [outcome.to_json() for outcome in self.outcomes],
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def machine() -> str:
    """One line: processor, cores, memory, kernel, load."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.2f}"
    )
