"""What `status` and `history` print. Pure."""

from collections.abc import Sequence

from controllers.rollout.canary import Ending, Phase

from . import words
from .reading import Reading, Side, Wire, mapping, maps, moment, text, whole


def status(reading: Reading) -> list[str]:
    """Lines of the full view."""
    state = reading.state
    lines = [_pair("Service", f"{reading.namespace}/{reading.name}"), _pair("Phase", _phase(reading))]
    lines += _sides(reading)
    if state.active:
        lines.append(_pair("Steps", _steps(reading)))
        lines.append(
            _pair("Weight", f"{words.bar(words.weight(state))} {words.weight(state)} %, {_traffic(reading)}")
        )
    if reading.analysis:
        lines += _analysis(reading)
    if state.ending is not None and state.phase in (Phase.RollingBack, Phase.Draining):
        lines.append(_pair("Ending", f"{state.ending}: {state.reason}"))
    if reading.waits:
        lines.append(_pair("Waits for", reading.waits))
    if not words.running(state) and state.history:
        last = state.history[-1]
        lines.append(
            _pair(
                "Last run",
                f"{last.run}, {last.ending} {words.clock(last.finished, reading.now)}: {last.reason}",
            )
        )
    if state.answer:
        lines.append(_pair("Command", state.answer))
    if reading.trouble:
        lines.append(_pair("Note", reading.trouble))
    return lines


def _pair(name: str, value: str) -> str:
    return f"{name + ':':<11} {value}".rstrip()


def _phase(reading: Reading) -> str:
    state = reading.state
    phase = f"{state.phase}"
    if state.pause is not None:
        phase += f" ({state.pause})"
    if not words.running(state):
        return phase
    line = f"{phase}, {words.step(reading)}, run {state.run}, attempt {state.attempt}"
    return f"{line}, for {words.span(reading.now - state.since)}" if state.since else line


def _sides(reading: Reading) -> list[str]:
    state = reading.state
    named = [("Stable", state.stable), ("Candidate", state.candidate), ("Draining", state.retiring)]
    return [_pair(name, _side(reading.side(revision))) for name, revision in named if revision]


def _side(side: Side) -> str:
    share = "no traffic" if side.weight is None else f"{side.weight} %"
    return f"{side.revision}  {side.version or '-':<10} {share:>10}  {side.ready}/{side.wanted} ready"


def _steps(reading: Reading) -> str:
    """`5 [20] 50 100`: the present one in brackets."""
    state = reading.state
    all_steps = [*map(str, reading.steps), "100"]
    here = min(state.step, len(all_steps) - 1)
    return " ".join(f"[{step}]" if index == here else step for index, step in enumerate(all_steps)) + " %"


def _traffic(reading: Reading) -> str:
    traffic = reading.state.traffic
    by = f" by {reading.provider}" if reading.provider else ""
    if traffic.verified_at:
        return f"verified{by} {words.clock(traffic.verified_at, reading.now)}"
    return f"asked for {words.clock(traffic.asked_at, reading.now)}, not verified{by} yet"


def _analysis(reading: Reading) -> list[str]:
    analysis = reading.analysis
    found = mapping(analysis.get("status"))
    counts = mapping(found.get("counts"))
    passed = f"{whole(counts.get('passes'))} of {words.needed(analysis)} in a row passed"
    marks = words.windows(analysis)
    window = mapping(found.get("window"))
    lines = [_pair("Windows", f"{marks + '  ' if marks else ''}{passed}{_open(window, reading.now)}")]
    if (e := words.evidence(analysis)) is not None:
        lines.append(_pair("Evidence", f"{e:.2f} of 100 against the candidate"))
    if message := text(found.get("message")):
        lines.append(_pair("Last look", message))
    return [*lines, *_table(analysis)]


def _open(window: Wire, now: float) -> str:
    began = moment(window.get("start"))
    if not began:
        return ""
    return f"; open for {words.span(now - began)}, {whole(window.get('looks'))} looks"


def _table(analysis: Wire) -> list[str]:
    """Both sides of each model, as the latest look found them."""
    models = maps(mapping(analysis.get("status")).get("models"))
    if not models:
        return []
    rows: list[tuple[str, ...]] = [("", "requests", "errors", "slow", "p50", "p95", "p99")]
    for model in models:
        for side in ("candidate", "baseline"):
            rows.append((f"{text(model.get('name'))} {side}", *_cells(mapping(model.get(side)))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _cells(side: Wire) -> tuple[str, ...]:
    return (
        words.count(side.get("samples")),
        words.share(side.get("errorRate")),
        words.share(side.get("slowRate")),
        words.milliseconds(side.get("p50Milliseconds")),
        words.milliseconds(side.get("p95Milliseconds")),
        words.milliseconds(side.get("p99Milliseconds")),
    )


def line(reading: Reading) -> str:
    """The same on one line, for logs."""
    state = reading.state
    phase = f"{state.phase}" + (f"({state.pause})" if state.pause is not None else "")
    parts = [phase]
    if state.active:
        verified = "" if state.traffic.verified_at else " unverified"
        parts.append(f"{words.step(reading)}, weight {words.weight(state)} %{verified}")
    if reading.analysis:
        counts = mapping(mapping(reading.analysis.get("status")).get("counts"))
        parts.append(f"passes {whole(counts.get('passes'))}/{words.needed(reading.analysis)}")
        parts += _sides_line(reading.analysis)
    if state.ending is not None and state.phase in (Phase.RollingBack, Phase.Draining):
        parts.append(f"{state.ending}: {state.reason}")
    if reading.waits:
        parts.append(f"waits for {reading.waits}")
    return "; ".join(parts)


def _sides_line(analysis: Wire) -> list[str]:
    found = []
    for model in maps(mapping(analysis.get("status")).get("models")):
        for side in ("candidate", "baseline"):
            cells = mapping(model.get(side))
            if cells.get("samples") is None:
                continue  # the window has just begun
            found.append(
                f"{side} {words.count(cells.get('samples'))} requests, "
                f"{words.share(cells.get('errorRate'))} errors, "
                f"p95 {words.milliseconds(cells.get('p95Milliseconds'))}"
            )
    return found


def history(reading: Reading) -> list[str]:
    """The runs, the newest last, as a table."""
    state = reading.state
    rows: list[tuple[str, ...]] = [("RUN", "REVISION", "VERSION", "OUTCOME", "STEP", "TOOK", "ENDED", "WHY")]
    for run in state.history:
        rows.append(
            (
                f"{run.run}.{run.attempt}",
                run.candidate,
                reading.version(run.candidate) or "-",
                str(run.ending),
                str(run.step + 1),
                words.span(run.finished - run.started),
                words.clock(run.finished, reading.now),
                run.reason,
            )
        )
    if state.candidate:
        rows.append(
            (
                f"{state.run}.{state.attempt}",
                state.candidate,
                reading.version(state.candidate) or "-",
                f"{state.phase}",
                str(state.step + 1),
                words.span(reading.now - state.started),
                "-",
                reading.waits,
            )
        )
    if len(rows) == 1:
        return [f"{reading.name} has had no canary yet"]
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def good(reading: Reading) -> bool:
    """Whether the last run that ended ended well."""
    history = reading.state.history
    return bool(history) and history[-1].ending is Ending.Promoted
