"""What a process used, and what the API server says it was asked."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp

import controller_runtime as ctrl

_TICKS = os.sysconf("SC_CLK_TCK")
_SERIES = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
COUNTED = frozenset(("samples", "configmaps", "events"))
"""The resources that a contender has to do with. The server's own traffic is on others."""

Requests = Counter[tuple[str, str]]
"""(verb, resource[/subresource]) -> how many."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user + system) so far, resident memory now and at its peak in MiB."""

    cpu: float
    resident: float
    peak: float


def usage(pid: int) -> Usage:
    """Of a running process, its threads included. Raises FileNotFoundError when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu, int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024)


def machine_cpu() -> float:
    """CPU seconds that everything on this machine has used since it started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    user, nice, system, _, _, irq, softirq = (int(field) for field in fields)
    return (user + nice + system + irq + softirq) / _TICKS


def children_cpu() -> float:
    """CPU seconds of this process's children now running: API server, etcd and a contender."""
    children: list[str] = []
    for thread in Path("/proc/self/task").iterdir():
        children += (thread / "children").read_text().split()
    return sum(usage(int(child)).cpu for child in children)


def own_cpu() -> float:
    """CPU seconds of this process and of its children, those that have ended included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + children_cpu()


def parse_requests(text: str) -> Requests:
    """From the text of the API server's /metrics. A watch counts when it ends."""
    found: Requests = Counter()
    for line in text.splitlines():
        match = _SERIES.match(line)
        if match is None:
            continue
        labels = dict(_LABEL.findall(match[1]))
        if labels.get("resource") in COUNTED:
            parts = [labels["resource"], labels.get("subresource", "")]
            found[labels["verb"], "/".join(part for part in parts if part)] += round(float(match[2]))
    return found


async def requests(config: ctrl.Config) -> Requests:
    """The API server's counters now."""
    tls = config.tls
    assert tls is not None
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{config.server}/metrics", ssl=tls.context()) as response,
    ):
        response.raise_for_status()
        return parse_requests(await response.text())
