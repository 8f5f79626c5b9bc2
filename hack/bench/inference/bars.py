"""Readings -> bars: what has to hold, one line each. Medians of the rounds; a peer's best setting counts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from hack.bench.bars import Bar
from hack.bench.inference.load import Reading
from hack.bench.inference.reloads import Phases, quantile

# By number of connections; by name of the server and its setting.
Cells = Mapping[int, Sequence[Reading]]
OTHERS = ("kserve", "litserve", "bentoml")


def p50(cells: Cells, connections: int) -> float:
    return statistics.median(reading.p50 for reading in cells[connections])


def rate(cells: Cells, connections: int) -> float:
    return statistics.median(reading.rate for reading in cells[connections])


def errors(cells: Cells) -> int:
    return sum(reading.errors for readings in cells.values() for reading in readings)


def lenet(ours: Cells, peers: Mapping[str, Cells]) -> list[Bar]:
    found = []
    mosec = [cells for name, cells in peers.items() if name.startswith("mosec")]
    if mosec:
        least = min(p50(cells, 1) for cells in mosec)
        most = max(rate(cells, 32) for cells in mosec)
        found = [
            Bar("LeNet c=1: p50 / mosec's p50", p50(ours, 1) / least, 1 / 3, "x"),
            Bar("LeNet c=32: requests/s / mosec's", rate(ours, 32) / most, 1.25, "x", least=True),
        ]
    for other in OTHERS:
        for name, cells in peers.items():
            if name == other:
                ratio = rate(ours, 32) / max(rate(cells, 32), 1e-9)
                found.append(Bar(f"LeNet c=32: requests/s / {other}'s", ratio, 10.0, "x", least=True))
    return [*found, Bar("LeNet: our answers that were not 200", float(errors(ours)), 0.0, "answers")]


def recognition(ours: Cells, beside: Cells, bare: Sequence[float], native: Cells) -> list[Bar]:
    """`bare` is the predictor alone with our engine, in rows a second, and `beside` our server in the same
    rounds; `native` is our server with Paddle's native engine.
    """
    alone = rate(beside, 8) / statistics.median(bare)
    engine = rate(ours, 8) / rate(native, 8)
    return [
        Bar("PP-OCR recognition c=8: requests/s / bare predictor's", alone, 0.97, "x", least=True),
        Bar("PP-OCR recognition c=8: engine auto / native", engine, 2.0, "x", least=True),
        Bar("PP-OCR recognition: our answers that were not 200", float(errors(ours)), 0.0, "answers"),
    ]


def reloads(name: str, phases: Phases) -> list[Bar]:
    before, during = quantile(phases.before, 0.99), quantile(phases.during, 0.99)
    return [
        Bar(f"{name}, reload at half load: p99 / before", during / before, 2.0, "x"),
        Bar(f"{name}, reload at half load: requests lost", float(phases.lost), 0.0, "requests"),
    ]
