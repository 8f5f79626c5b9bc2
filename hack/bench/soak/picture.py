"""The readings of a soak as one SVG: a panel for each, reloads as vertical lines, the judged line in red."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hack.bench.soak.judge import BOUNDS, Bound, Readings, judged, slope

_WIDTH, _HEIGHT, _LEFT, _GAP = 900, 110, 70, 34


def svg(readings: Mapping[str, Readings], reloads: Sequence[float], seconds: float) -> str:
    height = len(BOUNDS) * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for index, bound in enumerate(BOUNDS):
        top = _GAP + index * (_HEIGHT + _GAP)
        parts += _panel(bound, readings.get(bound.name, ()), reloads, max(seconds, 1.0), top)
    return "\n".join([*parts, "</svg>"])


def _panel(bound: Bound, readings: Readings, reloads: Sequence[float], seconds: float, top: int) -> list[str]:
    values = [value for _, value in readings] or [0.0]
    low, high = min(values), max(values)
    room = max(high - low, bound.rise) * 0.1
    low, high = low - room, high + room + (bound.rise - min(bound.rise, high - low))

    def x(at: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 10) * at / seconds, 1)

    def y(value: float) -> float:
        return round(top + _HEIGHT * (1 - (value - low) / (high - low)), 1)

    parts = [f'<text x="{_LEFT}" y="{top - 6}">{bound.title} {bound.unit}</text>']
    parts += [
        f'<line x1="{x(at)}" y1="{top}" x2="{x(at)}" y2="{top + _HEIGHT}" stroke="#ddd"/>' for at in reloads
    ]
    parts.append(
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - 10}" height="{_HEIGHT}" fill="none" '
        'stroke="#888"/>'
    )
    for value in (low, high):
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:.4g}</text>')
    points = " ".join(f"{x(at)},{y(value)}" for at, value in readings)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1f77b4"/>')
    rest = judged(readings)
    if rest:
        rise = slope(rest)
        mean_time = sum(at for at, _ in rest) / len(rest)
        mean = sum(value for _, value in rest) / len(rest)
        ends = [(at, mean + rise * (at - mean_time)) for at in (rest[0][0], rest[-1][0])]
        parts.append(
            f'<line x1="{x(ends[0][0])}" y1="{y(ends[0][1])}" x2="{x(ends[1][0])}" y2="{y(ends[1][1])}" '
            'stroke="#d62728" stroke-width="2"/>'
        )
    return parts
