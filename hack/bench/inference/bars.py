"""Readings -> bars: what has to hold, one line each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hack.bench.inference.load import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`value` has to be at most `limit`, or at least it when `least`."""

    name: str
    value: float
    limit: float
    least: bool

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.least else "<="
        return (
            f"{self.name:<58} {self.value:8.3f} {sign} {self.limit:<6g} {'holds' if self.holds else 'MISSES'}"
        )


def against_peer(
    ours: Mapping[int, Sequence[Reading]], peers: Mapping[str, Mapping[int, Sequence[Reading]]]
) -> list[Bar]:
    """Readings by number of connections; medians of the rounds; the peer's best setting counts in each."""
    p50 = min(statistics.median(r.p50 for r in cells[1]) for cells in peers.values())
    rate = max(statistics.median(r.rate for r in cells[32]) for cells in peers.values())
    failed = sum(r.errors for readings in ours.values() for r in readings)
    return [
        Bar(
            name="LeNet c=1: p50 / mosec's p50",
            value=statistics.median(r.p50 for r in ours[1]) / p50,
            limit=1 / 3,
            least=False,
        ),
        Bar(
            name="LeNet c=32: requests/s / mosec's",
            value=statistics.median(r.rate for r in ours[32]) / rate,
            limit=1.25,
            least=True,
        ),
        Bar(name="LeNet: our answers that were not 200", value=float(failed), limit=0.0, least=False),
    ]


def against_bare(ours: Sequence[Reading], bare: Sequence[float]) -> Bar:
    return Bar(
        name="PP-OCR recognition c=8: requests/s / bare predictor's",
        value=statistics.median(r.rate for r in ours) / statistics.median(bare),
        limit=0.97,
        least=True,
    )
