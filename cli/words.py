"""How numbers and steps are written. Pure."""

import math
import re

from controllers.rollout.canary import Canary, Phase

from .reading import Reading, Wire, mapping, maps, number, whole


def span(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    for size, unit, small, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            rest = left % size // small
            return f"{left // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{left} s"


def share(value: object) -> str:
    found = number(value)
    return "-" if found is None else f"{found * 100:.1f} %" if found < 0.9995 else "100 %"


def count(value: object) -> str:
    found = number(value)
    return "-" if found is None else f"{found:.0f}"


def milliseconds(value: object) -> str:
    found = number(value)
    if found is None:
        return "-"
    return f"{found:.1f} ms" if found < 10 else f"{found:.0f} ms"


def step(reading: Reading) -> str:
    """`step 2 of 4`: the steps count from 1 for people, and the soak is the last."""
    whole_run = len(reading.steps) + 1
    return f"step {min(reading.state.step, whole_run - 1) + 1} of {whole_run}"


def weight(state: Canary) -> int:
    """The candidate's share asked for, in percent."""
    return state.traffic.share(state.candidate) if state.candidate else 0


def revision(reading: Reading, name: str) -> str:
    """`ab12cd34 (v1.0.0)`."""
    version = reading.version(name)
    return f"{name} ({version})" if version else name or "-"


def bar(percent: int, *, width: int = 40) -> str:
    filled = max(1, round(width * percent / 100)) if percent else 0
    return "[" + "#" * filled + "." * (width - filled) + "]"


def clock(moment: float, now: float) -> str:
    """How long ago; "-" for never."""
    return f"{span(now - moment)} ago" if moment else "-"


def windows(analysis: Wire) -> str:
    """The last closed windows, oldest first: + passed, ? undecided, x failed."""
    marks = {"Pass": "+", "Undecided": "?", "Fail": "x"}
    measured = maps(mapping(analysis.get("status")).get("measurements"))
    return " ".join(marks.get(str(window.get("outcome")), "?") for window in measured)


def needed(analysis: Wire) -> int:
    return whole(mapping(analysis.get("spec")).get("requiredPasses")) or 3


def evidence(analysis: Wire) -> float | None:
    """The run's E; it fails at 100."""
    found = number(mapping(analysis.get("status")).get("evidenceRatio"))
    return found if found is not None and math.isfinite(found) else None


def running(state: Canary) -> bool:
    """Something is under way, or winds down."""
    return state.phase is not Phase.Idle


def still(line: str) -> str:
    """`line` without the spans of time in it: what is left is news."""
    return re.sub(r"\d+ (d|h|min|s)\b( \d+ (h|min|s)\b)?", "~", line)
