"""The one guard that blocks a canary, in one line with numbers. Pure."""

from collections.abc import Iterable

from controllers.rollout.canary import Pause, Phase

from . import words
from .reading import Reading, Wire, mapping, maps, moment, revision_of, text, whole


def explain(reading: Reading) -> str:
    """One line: where the run is, what it waits for, and what would move it."""
    state = reading.state
    if state.phase is Phase.Idle:
        return f"{reading.name}: {_idle(reading)}"
    head = f"{reading.name}: run {state.run}, {_place(reading)}"
    parts = [f"{head}: waits for {reading.waits}" if reading.waits else head, *_numbers(reading)]
    return "; ".join(part for part in parts if part)


def _place(reading: Reading) -> str:
    state = reading.state
    match state.phase:
        case Phase.RollingBack:
            return f"rolling back {words.revision(reading, state.candidate)} ({state.ending}: {state.reason})"
        case Phase.Draining:
            return f"{state.ending}: {state.reason}; draining {words.revision(reading, state.retiring)}"
        case Phase.Preparing:
            return f"{state.phase} {words.revision(reading, state.candidate)} at 0 %"
        case _:
            return f"{state.phase} at {words.weight(state)} % ({words.step(reading)})"


def _idle(reading: Reading) -> str:
    state = reading.state
    if reading.waits:
        return f"no canary runs; waits for {reading.waits}"
    if not state.stable:
        return "no canary runs, and no revision is stable yet"
    line = f"no canary runs; {words.revision(reading, state.stable)} has all requests"
    if not state.history:
        return f"{line}; change the model's version to start one"
    last = state.history[-1]
    ago = words.clock(last.finished, reading.now)
    return f"{line}; run {last.run} ended {ago}: {last.ending} ({last.reason})"


def _numbers(reading: Reading) -> Iterable[str]:
    state = reading.state
    if state.phase in (Phase.Preparing, Phase.Shifting, Phase.Promoting):
        blocked = unready(reading)
        yield "" if blocked and blocked.split()[1] in reading.waits else blocked  # it was named before
        if reading.view.at_weight and state.traffic.verified_at is not None:
            yield f"{words.span(state.traffic.verified_at + reading.view.plan.settle - reading.now)} to go"
        elif state.deadline:
            yield f"rolled back in {words.span(state.deadline - reading.now)} otherwise"
    if state.phase in (Phase.Analysing, Phase.Soaking) or state.pause is Pause.Inconclusive:
        yield judged(reading.analysis, reading.now)


def judged(analysis: Wire, now: float) -> str:
    """How far the analysis is, and what its last look said."""
    if not analysis:
        return "the analysis has not begun"
    status = mapping(analysis.get("status"))
    counts = mapping(status.get("counts"))
    line = f"{whole(counts.get('passes'))} of {words.needed(analysis)} windows in a row passed"
    if undecided := whole(counts.get("undecided")):
        line += f", {undecided} undecided in a row"
    if (e := words.evidence(analysis)) is not None:
        line += f", E {e:.1f} of 100"
    if message := text(status.get("message")):
        line += f"; last look: {message}"
    if due := moment(status.get("nextLookTime")):
        line += f"; next look in {words.span(due - now)}"
    return line


def unready(reading: Reading) -> str:
    """The first pod of the candidate that is not ready, and why."""
    for pod in reading.pods:
        if revision_of(pod) != reading.state.candidate:
            continue
        name, status = text(mapping(pod.get("metadata")).get("name")), mapping(pod.get("status"))
        for key in ("initContainerStatuses", "containerStatuses"):
            for container in maps(status.get(key)):
                waiting = mapping(mapping(container.get("state")).get("waiting"))
                if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                    restarts = whole(container.get("restartCount"))
                    why = text(waiting.get("message"))
                    return f"pod {name} {waiting.get('reason')} after {restarts} restarts: {why}".rstrip(": ")
        for condition in maps(status.get("conditions")):
            if condition.get("type") in ("PodScheduled", "Ready") and condition.get("status") == "False":
                why = text(condition.get("message")) or text(condition.get("reason"))
                missing = "scheduled" if condition["type"] == "PodScheduled" else "ready"
                return f"pod {name} is not {missing}: {why}".rstrip(": ")
    return ""
