"""How far an analysis has come: what its status holds, and how each look changes it. Pure.

All that matters is in here and is written in one piece under the resourceVersion it was read at. Whatever
happens between two writes, the window that was open stays open and is looked at again: none is lost, and none
is counted twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ..analysis.tally import Tally, Verdict, closes
from ..analysis.verdict import Judgement, Ledger, Limits, Metric, Outcome, judge
from .look import ModelValues, Seen
from .spec import Spec

#: Seconds between attempts while Prometheus does not answer, and how long until that is a verdict.
RETRY: Final = 10.0
PATIENCE: Final = 300.0

#: A verdict on Prometheus rests on so many attempts, not on the time that the operator was away.
ATTEMPTS: Final = 10

#: Closed windows that a status keeps.
KEPT: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A closed window. Seconds since the epoch."""

    start: float
    end: float
    outcome: Outcome
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Times are seconds since the epoch; 0 means none.

    verdict, reason, message: as they stand. superseded: the verdict that is none. start, looks: of the open
    window. next_look: when to ask again; 0 for never. last_look: the last one that was answered. failing,
    errors: since when, and how often in a row, Prometheus has not answered. available: whether it does; None
    before the first time. trouble: why not. models, metrics: what the last answered look found.
    """

    verdict: Verdict = Verdict.Running
    superseded: bool = False
    reason: str = "Started"
    message: str = ""
    started: float = 0.0
    finished: float = 0.0
    start: float = 0.0
    looks: int = 0
    next_look: float = 0.0
    last_look: float = 0.0
    failing: float = 0.0
    errors: int = 0
    available: bool | None = None
    trouble: str = ""
    tally: Tally = field(default_factory=Tally)
    ledger: Ledger = field(default_factory=Ledger)
    closed: tuple[Closed, ...] = ()
    models: Sequence[ModelValues] = ()
    metrics: Sequence[Metric] = ()

    @property
    def running(self) -> bool:
        return self.verdict is Verdict.Running and not self.superseded

    @property
    def waits_for_prometheus(self) -> bool:
        """It has ended for want of a server, and says when that is back."""
        return self.verdict is Verdict.Unavailable and self.available is False


@dataclass(frozen=True, slots=True)
class Step:
    """A new progress, and the judgement that led there; judgement is None for an unanswered look."""

    progress: Progress
    judgement: Judgement | None = None


def limits(spec: Spec) -> Limits:
    """A step that asks for many passes, or for a long time, also gets the windows for them."""
    meanwhile = math.ceil(spec.minimum / spec.interval)
    return Limits(passes=spec.passes, windows=max(Limits().windows, 4 * spec.passes) + meanwhile)


def begin(spec: Spec, now: float) -> Progress:
    return Progress(
        message="the first window is open",
        started=now,
        start=math.ceil(spec.window_start),
        next_look=max(math.ceil(spec.window_start) + spec.interval, now),
        ledger=spec.ledger,
    )


def rewound(spec: Spec, progress: Progress, now: float) -> Progress:
    """A clock that was set back opens the window anew: what it held was not counted yet."""
    if not progress.running or progress.start <= now + spec.interval:
        return progress
    return replace(progress, start=math.floor(now), looks=0, next_look=now + spec.interval)


def seconds(progress: Progress, now: float) -> int:
    """Length of the open window, if it is looked at now."""
    return math.floor(now) - math.floor(progress.start)


def answered(spec: Spec, progress: Progress, seen: Seen, now: float) -> Step:
    """After a look at the window that ends at floor(now)."""
    bounds = limits(spec)
    end = float(math.floor(now))
    judgement = judge(seen.look, progress.ledger, bounds)
    looks = progress.looks + 1
    closed = closes(judgement, looks=looks, limits=bounds)
    tally = progress.tally.add(judgement, closed=closed)
    after = replace(
        progress,
        looks=0 if closed else looks,
        start=end if closed else progress.start,
        next_look=end + spec.interval,
        last_look=now,
        failing=0.0,
        errors=0,
        available=True,
        trouble="",
        tally=tally,
        reason=str(judgement.why),
        message=judgement.message,
        models=seen.models,
        metrics=_worst(seen.look.metrics),
    )
    if closed:
        window = Closed(
            start=progress.start,
            end=end,
            outcome=judgement.outcome,
            reason=str(judgement.why),
            message=judgement.message,
        )
        after = replace(after, ledger=judgement.ledger, closed=(*progress.closed, window)[-KEPT:])
    verdict = tally.verdict(bounds)
    if verdict is Verdict.Passed and not (closed and end >= spec.window_start + spec.minimum):
        verdict = Verdict.Running  # what goes wrong until the time is over still counts
    if verdict is not Verdict.Running:
        after = _ended(after, verdict, now)
    return Step(after, judgement)


def unanswered(spec: Spec, progress: Progress, trouble: str, now: float) -> Progress:
    """After a look that Prometheus did not answer: the window stays open, and nothing is counted."""
    failing = progress.failing if progress.failing and progress.failing <= now else now
    after = replace(
        progress,
        failing=failing,
        errors=progress.errors + 1,
        available=False,
        trouble=trouble,
        next_look=now + min(RETRY, spec.interval),
    )
    if progress.verdict is Verdict.Running:
        after = replace(after, reason="PrometheusUnavailable", message=trouble)
        if now - failing >= PATIENCE and after.errors >= ATTEMPTS:
            after = _ended(after, Verdict.Unavailable, now)
            return replace(after, next_look=now + RETRY)
    return after


def back(progress: Progress) -> Progress:
    """Prometheus answers again; the verdict stays, and whoever acts on it can go on."""
    return replace(progress, available=True, trouble="", failing=0.0, errors=0, next_look=0.0)


def unjudgeable(progress: Progress, problem: str, now: float) -> Progress:
    """A spec that nothing can be judged by is a person's to look at."""
    return _ended(replace(progress, reason="InvalidSpec", message=problem), Verdict.Inconclusive, now)


def overtaken(progress: Progress, words: str, now: float) -> Progress:
    """Nobody will act on it any more."""
    ended = replace(progress, superseded=True, reason="Superseded", message=words)
    return _ended(ended, progress.verdict, now)


def _ended(progress: Progress, verdict: Verdict, now: float) -> Progress:
    return replace(progress, verdict=verdict, finished=now, next_look=0.0)


def _worst(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """One entry a name: the largest value, a missing one before all."""
    worst: dict[str, Metric] = {}
    for metric in metrics:
        other = worst.get(metric.name)
        if other is None or (
            other.value is not None and (metric.value is None or metric.value > other.value)
        ):
            worst[metric.name] = metric
    return tuple(worst[name] for name in sorted(worst))
