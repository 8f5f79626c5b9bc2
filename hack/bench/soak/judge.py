"""Is a row of readings flat? Pure: (seconds, value) pairs in, a bar out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hack.bench.bars import Bar

# Of the readings, what is left out at the start: caches fill, and the first versions come and go.
WARM_UP = 0.2

Readings = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far the line through the readings of `name` may rise from the first judged one to the last."""

    name: str
    title: str
    rise: float
    unit: str


BOUNDS = (
    Bound(name="front", title="memory of the front", rise=8.0, unit="MiB"),
    Bound(name="workers", title="memory of the worker", rise=16.0, unit="MiB"),
    Bound(name="descriptors", title="descriptors of the front", rise=1.0, unit=""),
    Bound(name="memfds", title="memfds of the front", rise=0.5, unit=""),
    Bound(name="processes", title="processes", rise=0.5, unit=""),
    Bound(name="threads", title="threads of the front", rise=1.0, unit=""),
)


def judged(readings: Readings) -> Readings:
    """Without the warm-up. The first WARM_UP of the time, not of the number, goes."""
    if not readings:
        return readings
    start, end = readings[0][0], readings[-1][0]
    return [reading for reading in readings if reading[0] >= start + WARM_UP * (end - start)]


def slope(readings: Readings) -> float:
    """Of the least-squares line, in units a second; 0 for fewer than two moments."""
    if not readings:
        return 0.0
    mean_time = sum(at for at, _ in readings) / len(readings)
    mean = sum(value for _, value in readings) / len(readings)
    spread = sum((at - mean_time) ** 2 for at, _ in readings)
    if not spread:
        return 0.0
    return sum((at - mean_time) * (value - mean) for at, value in readings) / spread


def flat(bound: Bound, readings: Readings) -> Bar:
    """The rise of the line over the judged time against its bound; a fall is no fault."""
    rest = judged(readings)
    span = rest[-1][0] - rest[0][0] if rest else 0.0
    return Bar(f"soak: rise of {bound.title}", slope(rest) * span, bound.rise, bound.unit)
