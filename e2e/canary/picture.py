"""One run as a picture: weight and share, latency, errors, under one clock. Pure: replies in, SVG out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from e2e.canary.record import Moment
from e2e.canary.replies import Reply, percentile

WIDTH, LEFT, RIGHT, TOP = 960, 64, 150, 56
HEIGHT, GAP = 130, 44
STABLE, CANDIDATE, OTHER, INK, GRID = "#2f6db3", "#d9662b", "#5b8f4e", "#30343b", "#e3e6ea"
BACKGROUND = {
    "Preparing": "#f3f1fb",
    "Shifting": "#eef4fb",
    "Analysing": "#fdf6e3",
    "Paused": "#fbeaea",
    "Promoting": "#e9f6ec",
    "Soaking": "#e1f3e6",
    "RollingBack": "#f8d9d6",
    "Draining": "#f2f2f2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one picture shows. versions: of stable, of the candidate, and of any others, in this order."""

    title: str
    moments: Sequence[Moment]
    replies: Sequence[Reply]
    versions: Sequence[str]
    bucket: float = 2.0

    @property
    def begin(self) -> float:
        return min(
            [reply.at for reply in self.replies[:1]] + [one.at for one in self.moments[:1]], default=0.0
        )

    @property
    def end(self) -> float:
        last = [reply.at for reply in self.replies[-1:]] + [one.at for one in self.moments[-1:]]
        return max(max(last, default=0.0), self.begin + 1.0)


@dataclass(frozen=True, slots=True)
class _Panel:
    """A drawing area; values from 0 to `most` fill it from its lower edge."""

    top: float
    title: str
    unit: str
    most: float
    begin: float
    end: float

    def x(self, at: float) -> float:
        width = WIDTH - LEFT - RIGHT
        return LEFT + width * min(1.0, max(0.0, (at - self.begin) / (self.end - self.begin)))

    def y(self, value: float) -> float:
        return self.top + HEIGHT * (1 - min(1.0, max(0.0, value / self.most)))

    def frame(self) -> Iterable[str]:
        right = WIDTH - RIGHT
        yield _text(LEFT, self.top - 8, self.title, weight="bold")
        for part in (0.0, 0.5, 1.0):
            value = self.most * part
            y = self.y(value)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>'
            yield _text(LEFT - 6, y + 4, f"{value:g}{self.unit}", anchor="end")

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, *, dash: str = "", width: float = 1.6
    ) -> str:
        path = " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def svg(run: Run) -> str:
    """The picture as a document of its own."""
    begin, end = run.begin, run.end
    series = _series(run)
    slowest = max([p95 for rows in series.values() for _, _, p95 in rows], default=0.0) * 1000
    errors = _errors(run)
    worst = max([count for rows in errors.values() for count in rows.values()], default=0)
    panels = [
        _Panel(TOP, "weight and share of the candidate", " %", 100, begin, end),
        _Panel(
            TOP + HEIGHT + GAP, "latency (line: median, dashed: 95 %)", " ms", _round(slowest), begin, end
        ),
        _Panel(
            TOP + 2 * (HEIGHT + GAP), "failed requests a second", "", _round(worst / run.bucket), begin, end
        ),
    ]
    height = TOP + 3 * (HEIGHT + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 20, run.title, weight="bold", size=14),
        *_phases(run, panels),
    ]
    for panel in panels:
        parts += panel.frame()
    parts += _weight(run, panels[0])
    for version, rows in series.items():
        colour = _colour(run, version)
        parts.append(panels[1].line([(at, p50 * 1000) for at, p50, _ in rows], colour))
        parts.append(panels[1].line([(at, p95 * 1000) for at, _, p95 in rows], colour, dash="4 3", width=1.1))
    for version, counts in errors.items():
        for at, count in counts.items():
            x, y = panels[2].x(at), panels[2].y(count / run.bucket)
            width = max(1.5, panels[2].x(at + run.bucket) - x - 0.5)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{panels[2].top + HEIGHT - y:.1f}" fill="{_colour(run, version)}"/>'
            )
    parts += _axis(run, panels[-1])
    parts += _legend(run)
    return "\n".join([*parts, "</svg>\n"])


def _series(run: Run) -> Mapping[str, list[tuple[float, float, float]]]:
    """version -> (moment, median, 95 %) of its answers, in seconds."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for reply in run.replies:
        if reply.version and reply.status == 200:
            found[reply.version][_bucket(run, reply)].append(reply.seconds)
    return {
        version: [
            (at + run.bucket / 2, percentile(seconds, 0.5), percentile(seconds, 0.95))
            for at, seconds in sorted(buckets.items())
        ]
        for version, buckets in sorted(found.items())
    }


def _errors(run: Run) -> Mapping[str, Counter[float]]:
    found: dict[str, Counter[float]] = defaultdict(Counter)
    for reply in run.replies:
        if reply.failed:
            found[reply.version][_bucket(run, reply)] += 1
    return found


def _bucket(run: Run, reply: Reply) -> float:
    return run.begin + (reply.at - run.begin) // run.bucket * run.bucket


def _weight(run: Run, panel: _Panel) -> Iterable[str]:
    """The weight asked for as steps, and the share that really came as dots."""
    points: list[tuple[float, float]] = []
    before = 0.0
    for one in run.moments:
        # A promoted candidate is the stable one: its share stays where it was until it is drawn as such.
        weight = float(one.weight) if one.candidate else (100.0 if _promoted(run, one) else 0.0)
        points += [(one.at, before), (one.at, weight)]
        before = weight
    if points:
        yield panel.line([*points, (run.end, before)], INK)
    counts: dict[float, Counter[bool]] = defaultdict(Counter)
    for reply in run.replies:
        if reply.version and len(run.versions) > 1:
            counts[_bucket(run, reply)][reply.version == run.versions[1]] += 1
    for at, count in sorted(counts.items()):
        share = 100 * count[True] / count.total()
        x, y = panel.x(at + run.bucket / 2), panel.y(share)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{CANDIDATE}"/>'


def _promoted(run: Run, one: Moment) -> bool:
    first = next((moment.stable for moment in run.moments if moment.stable), "")
    return bool(one.stable) and one.stable != first


def _phases(run: Run, panels: Sequence[_Panel]) -> Iterable[str]:
    """A coloured ground for each phase, with its name where it begins."""
    ends = [*(one.at for one in run.moments[1:]), run.end][: len(run.moments)]
    names: list[str] = []
    named, edge = "", 0.0
    for one, until in zip(run.moments, ends, strict=True):
        colour = BACKGROUND.get(one.phase)
        left, right = panels[0].x(one.at), panels[0].x(until)
        if colour is not None:
            for panel in panels:
                yield (
                    f'<rect x="{left:.1f}" y="{panel.top}" width="{max(0.5, right - left):.1f}" '
                    f'height="{HEIGHT}" fill="{colour}"/>'
                )
            if one.phase != named and left >= edge:
                edge = left + 10
                names.append(
                    f'<text transform="translate({left + 4:.1f},{panels[0].top + 6}) rotate(90)" '
                    f'font-size="9" fill="#7a808a">{escape(one.phase)}</text>'
                )
        named = one.phase
    yield from names


def _axis(run: Run, panel: _Panel) -> Iterable[str]:
    length = run.end - run.begin
    step = next((s for s in (5, 10, 15, 30, 60, 120, 300) if length / s <= 12), 600)
    second = 0
    while second <= length:
        x = panel.x(run.begin + second)
        yield _text(x, panel.top + HEIGHT + 16, f"{second} s", anchor="middle")
        second += step


def _legend(run: Run) -> Iterable[str]:
    x, y = WIDTH - RIGHT + 14, TOP + 8
    names = ("stable", "candidate", "later")
    for index, version in enumerate(run.versions):
        yield f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{_colour(run, version)}"/>'
        yield _text(x + 16, y + 1, f"{version} ({names[min(index, 2)]})")
        y += 18
    yield f'<line x1="{x}" y1="{y - 3}" x2="{x + 10}" y2="{y - 3}" stroke="{INK}" stroke-width="1.6"/>'
    yield _text(x + 16, y + 1, "weight asked for")


def _colour(run: Run, version: str) -> str:
    if not version:
        return INK
    order = dict(zip(run.versions, (STABLE, CANDIDATE, OTHER), strict=False))
    return order.get(version, OTHER)


def _round(value: float) -> float:
    """The next readable number that is not below `value`."""
    size = 1.0
    while size < value:
        for step in (1, 2, 5):
            if size * step >= value:
                return size * step
        size *= 10
    return size


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 11
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{INK}">{escape(text)}</text>'
    )
