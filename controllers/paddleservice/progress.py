"""Does the rollout get on? Pure.

Progress is going further than ever before with the same revision: more pods, more ready pods, more stages
behind them, more bytes. Readiness that comes and goes, or a download that starts over, is none. Each mark is
bounded, so a rollout that never ends does end: at the deadline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..conditions import timestamp
from ..resources.wire import JSON, integer, mapping, text
from .observed import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The furthest of each; `revision` says what they are about."""

    revision: str = ""
    pods: int = 0
    ready: int = 0
    stage: int = 0
    bytes: int = 0

    def furthest(self, other: "Marks") -> "Marks":
        return Marks(
            revision=other.revision,
            pods=max(self.pods, other.pods),
            ready=max(self.ready, other.ready),
            stage=max(self.stage, other.stage),
            bytes=max(self.bytes, other.bytes),
        )

    def wire(self) -> JSON:
        return {
            "revision": self.revision,
            "pods": self.pods,
            "ready": self.ready,
            "stage": self.stage,
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    time: datetime
    deadline: datetime
    marks: Marks

    def overdue(self, now: datetime) -> bool:
        return now >= self.deadline

    def wire(self) -> JSON:
        return {
            "time": timestamp(self.time),
            "deadline": timestamp(self.deadline),
            "marks": self.marks.wire(),
        }


def _read(status: Mapping[str, object]) -> tuple[datetime, Marks] | None:
    block = mapping(status.get("progress"))
    time, marks = moment(block.get("time")), mapping(block.get("marks"))
    if time is None:
        return None
    return time, Marks(
        revision=text(marks.get("revision")),
        pods=integer(marks.get("pods")),
        ready=integer(marks.get("ready")),
        stage=integer(marks.get("stage")),
        bytes=integer(marks.get("bytes")),
    )


def follow(
    status: Mapping[str, object], current: Marks, *, fresh: bool, deadline: float, now: datetime
) -> Progress:
    """The progress block after seeing `current`. fresh: the spec changed, so the clock starts again."""
    # Whole seconds, as status keeps them: what is written reads back equal.
    now = now.replace(microsecond=0)
    before = _read(status)
    if before is None or fresh or before[1].revision != current.revision:
        time, marks = now, current
    else:
        time, old = before
        marks = old.furthest(current)
        if marks != old:
            time = now
    return Progress(time, time + timedelta(seconds=deadline), marks)
