"""A picture of how E grows, as SVG, from the simulation's own histories. Pure; see `simulate`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 28, 44
#: Decades of E that are shown.
_LOW, _HIGH = -3, 4

#: Told apart by dash and label too, not by colour alone.
STYLES: Final = (
    ("#8c8c8c", ""),
    ("#0072b2", ""),
    ("#009e73", "7 4"),
    ("#d55e00", "2 3"),
    ("#cc79a7", "9 3 2 3"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Logarithms of E after each window. style: index into STYLES. label: beside the picture; "" for none."""

    logs: Sequence[float]
    style: int
    label: str = ""
    width: float = 1.0


def svg(lines: Sequence[Line], *, title: str, limit: float) -> str:
    """limit: the E at which a run fails."""
    windows = max((len(line.logs) for line in lines), default=1)

    def x(window: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * window / windows

    def y(log: float) -> float:
        decades = min(_HIGH, max(_LOW, log / math.log(10)))
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (decades - _LOW) / (_HIGH - _LOW)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>'
    ]
    for decade in range(_LOW, _HIGH + 1):
        at = y(decade * math.log(10))
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for tick in range(0, windows + 1, 10):
        at = x(tick)
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - 26}" text-anchor="middle">{tick}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">windows</text>')
    parts.append(f'<text x="14" y="{_HEIGHT / 2:.0f}" transform="rotate(-90 14 {_HEIGHT / 2:.0f})">E</text>')
    labels = 0
    for line in lines:
        colour, dash = STYLES[line.style]
        points = [(0.0, 0.0), *((number + 1.0, log) for number, log in enumerate(line.logs))]
        path = "L".join(f"{x(window):.1f} {y(log):.1f}" for window, log in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{line.width:g}"{dashes}/>'
        )
        if line.label:
            end, last = points[-1]
            parts.append(f'<circle cx="{x(end):.1f}" cy="{y(last):.1f}" r="4" fill="{colour}"/>')
            row = _HEIGHT / 2 + 20 * labels
            labels += 1
            place = f"M{_WIDTH - _RIGHT + 6} {row:.0f}h24"
            parts.append(f'<path d="{place}" stroke="{colour}" stroke-width="2"{dashes}/>')
            where = f'x="{_WIDTH - _RIGHT + 36}" y="{row + 4:.0f}"'
            parts.append(f"<text {where}>{escape(line.label)}</text>")
    at = y(math.log(limit))
    parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#000000" stroke-width="1.5"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{at + 4:.1f}">fails at {limit:g}</text></svg>')
    return "\n".join(parts) + "\n"
