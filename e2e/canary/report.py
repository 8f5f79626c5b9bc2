"""What `make e2e-canary` leaves behind: a picture and the numbers of each run, and a page of all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from e2e.canary.picture import Run, svg
from e2e.canary.record import Moment
from e2e.canary.replies import Reply, percentile

FOLDER = Path(__file__).resolve().parents[2] / ".local" / "report" / "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scenario. problem: "" if it holds, else why not, on one line."""

    name: str
    title: str
    problem: str
    seconds: float
    numbers: Mapping[str, object]


def numbers(replies: Sequence[Reply], moments: Sequence[Moment]) -> dict[str, object]:
    """What the replies came to, and the way of the run."""
    answered = sorted({reply.version for reply in replies if reply.version})
    found: dict[str, object] = {
        "requests": len(replies),
        "lost": sum(reply.lost for reply in replies),
        "failed": sum(reply.failed for reply in replies),
    }
    for version in answered:
        seconds = [reply.seconds for reply in replies if reply.version == version and reply.status == 200]
        found[version] = {
            "requests": sum(reply.version == version for reply in replies),
            "errors": sum(reply.version == version and reply.failed for reply in replies),
            "p50Milliseconds": round(percentile(seconds, 0.5) * 1000, 1),
            "p99Milliseconds": round(percentile(seconds, 0.99) * 1000, 1),
        }
    begin = moments[0].at if moments else 0.0
    found["way"] = [
        f"{one.at - begin:.1f} s {one.phase}"
        + (f" step {one.step} weight {one.weight}" if one.candidate else "")
        + ("" if one.verified else " unverified")
        + (f" {one.pause}" if one.pause else "")
        for one in moments
    ]
    return found


def write(result: Result, run: Run, folder: Path = FOLDER) -> None:
    """Picture, numbers and every reply of one scenario."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.svg").write_text(svg(run))
    wire = {name: getattr(result, name) for name in ("name", "title", "problem", "seconds", "numbers")}
    (folder / f"{result.name}.json").write_text(json.dumps(wire, indent=1))
    with (folder / f"{result.name}.replies.csv").open("w") as out:
        out.write("at,version,status,milliseconds,error\n")
        for reply in run.replies:
            error = json.dumps(reply.error) if reply.error else ""
            out.write(f"{reply.at:.3f},{reply.version},{reply.status},{reply.seconds * 1000:.1f},{error}\n")


def results(folder: Path = FOLDER, *, since: float = 0.0) -> list[Result]:
    """Those in the folder; `since`: written then or later, in seconds since the epoch."""
    paths = [path for path in sorted(folder.glob("*.json")) if path.stat().st_mtime >= since]
    return [Result(**json.loads(path.read_text())) for path in paths]


def page(found: Iterable[Result]) -> str:
    """All runs on one page, those that miss first."""
    ordered = sorted(found, key=lambda result: (not result.problem, result.name))
    parts = [
        "<!doctype html><meta charset=utf-8><title>Canary scenarios</title>",
        "<style>body{font:14px sans-serif;max-width:1000px;margin:2em auto;color:#30343b}"
        "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}"
        ".miss{color:#b3261e}</style><h1>Canary scenarios</h1>",
        "<table><tr><th>scenario<th>result<th>requests<th>lost<th>failed<th>seconds</tr>",
    ]
    for result in ordered:
        verdict = f"<td class=miss>misses: {escape(result.problem)}" if result.problem else "<td>holds"
        cells = "".join(f"<td>{result.numbers.get(name, '')}" for name in ("requests", "lost", "failed"))
        parts.append(
            f"<tr><td><a href='#{escape(result.name)}'>{escape(result.title)}</a>{verdict}{cells}"
            f"<td>{result.seconds:.0f}</tr>"
        )
    parts.append("</table>")
    for result in ordered:
        way = "<br>".join(escape(str(line)) for line in result.numbers.get("way", ()))  # type: ignore[attr-defined]
        parts.append(
            f"<h2 id='{escape(result.name)}'>{escape(result.title)}</h2><img src='{escape(result.name)}.svg'>"
            f"<details><summary>the way of the run</summary>{way}</details>"
        )
    return "\n".join(parts) + "\n"


def lines(found: Iterable[Result]) -> list[str]:
    """One line a scenario, for a terminal."""
    told = []
    for result in found:
        verdict = "misses" if result.problem else "holds"
        counts = f"{result.numbers.get('requests', 0)} requests, {result.numbers.get('lost', 0)} lost"
        why = f": {result.problem}" if result.problem else ""
        told.append(f"{verdict:6}  {result.title}: {counts}, {result.seconds:.0f} s{why}")
    return told
