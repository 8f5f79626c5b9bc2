"""What a window says of a candidate. Pure.

`judge` weighs one look: Fail at once, Pass, or Undecided with the reason. `tally.Tally` counts closed windows
and gives the step's verdict: `PASSES` passes in a row, or one failure, or three undecided windows in a row.

Guarantees:
- missing data never passes: a value that is absent, NaN, infinite or negative, no sample, too few samples,
  too few pods scraped, and a condition that cannot be evaluated are all Undecided;
- E grows over the whole run and is shared by all rates and models, so alpha holds for the run;
- an open window can fail a candidate but is never counted: only what `judge` returns for a closed one is
  kept.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from .eprocess import ALPHA, Evidence, Window, log_mean, measure, merge, threshold

Rate = Literal["errors", "slow"]
RATES: Final[tuple[Rate, ...]] = ("errors", "slow")

#: The largest count of a window that is believed; it keeps a run's evidence within what a status can hold.
MAX_COUNT: Final = 1e12
_METRICS: Final[Mapping[Rate, str]] = {"errors": "errorRate", "slow": "slowRate"}
_WORDS: Final[Mapping[Rate, str]] = {"errors": "error rate", "slow": "share slower than the SLA"}


class Outcome(StrEnum):
    Pass = "Pass"
    Fail = "Fail"
    Undecided = "Undecided"


class Why(StrEnum):
    """The one reason of an outcome."""

    Good = "Good"
    Worse = "Worse"
    CriticalLimit = "CriticalLimit"
    ConditionFalse = "ConditionFalse"
    ConditionUnknown = "ConditionUnknown"
    NoData = "NoData"
    NoTraffic = "NoTraffic"
    TooFewSamples = "TooFewSamples"
    AboveMargin = "AboveMargin"
    OutsideLimit = "OutsideLimit"
    Open = "Open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a window passes or fails.

    samples, baseline_samples: the smallest number of requests to judge by. margin: how much higher than the
    baseline's the candidate's share of errors or of slow requests may be, in a window that passes. absolute:
    the largest share without a baseline (stable has no ready pod, or no traffic since the run began).
    critical: share of errors, or of slow requests, that fails at once; 1 for slow ones means never.
    """

    alpha: float = ALPHA
    samples: int = 50
    baseline_samples: int = 100
    margin: float = 0.01
    absolute: float = 0.05
    critical_errors: float = 0.2
    critical_slow: float = 1.0
    looks: int = 5
    passes: int = 3
    undecided: int = 3
    windows: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One side's requests of one model in a window, as `eprocess.observed` gives them. None: the query gave
    no single finite number.

    slow: None too if the model has no SLA, and then on both sides.
    """

    requests: float | None
    errors: float | None
    slow: float | None = None

    def of(self, rate: Rate) -> float | None:
        return self.errors if rate == "errors" else self.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One model in one window.

    baseline: None when stable is not expected to have any traffic (weight 100, or no ready pod): the run's
    earlier windows stand in, or the absolute limits. Anything else that is missing is missing data.
    condition: whether the successCondition holds for it; None if it could not be evaluated. failed: whether
    the failureCondition does. True and False if there is none. note: why counts are missing, if known.
    """

    model: str
    candidate: Counts
    baseline: Counts | None
    sla: bool = False
    condition: bool | None = True
    failed: bool | None = False
    note: str = ""

    @property
    def rates(self) -> Sequence[Rate]:
        return RATES if self.sla else RATES[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric with limits: the value of both sides. None: no single finite number. model: "" for a query
    of the user's own. note: why a value is missing, if known.
    """

    name: str
    model: str = ""
    value: float | None
    baseline: float | None = None
    min: float | None = None
    max: float | None = None
    max_ratio: float | None = None
    critical: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that one look at a window found.

    ready, scraped: pods of the candidate that are ready, and of those that Prometheus saw in the window.
    """

    samples: Sequence[Sample]
    closed: bool = True
    metrics: Sequence[Metric] = ()
    ready: int = 1
    scraped: int = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """The evidence of a run: one process a model and rate. Names are `<model>/<rate>`."""

    processes: Mapping[str, Evidence] = field(default_factory=dict)

    @property
    def log_e(self) -> float:
        return log_mean(process.log_e for process in self.processes.values())

    @property
    def worst(self) -> str:
        """The name of the process that speaks most against the candidate, or ""."""
        return max(sorted(self.processes), key=lambda name: self.processes[name].log_e, default="")

    def expect(self, names: Iterable[str]) -> "Ledger":
        """With these processes in it. All of a run must be there from its first window on: their mean is a
        process only if its weights are fixed before the data.
        """
        return Ledger({**{name: Evidence() for name in names}, **self.processes})

    def add(self, windows: Mapping[str, Window]) -> "Ledger":
        added = {
            name: merge(self.processes.get(name, Evidence()), measure(window))
            for name, window in windows.items()
        }
        return Ledger({**self.processes, **added})

    def to_wire(self) -> dict[str, object]:
        return {name: self.processes[name].to_wire() for name in sorted(self.processes)}

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> "Ledger":
        """ValueError if one of them cannot be read."""
        return cls(
            {
                name: Evidence.from_wire(item if isinstance(item, Mapping) else {})
                for name, item in raw.items()
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """ledger: with this window if it is closed and was usable, else as it was. metric: what decided, in one
    word, or "".
    """

    outcome: Outcome
    why: Why
    message: str
    ledger: Ledger
    metric: str = ""


def judge(look: Look, ledger: Ledger, limits: Limits | None = None) -> Judgement:
    """Weigh one look at a window, given the run's earlier windows."""
    limits = limits or Limits()
    windows, missing = _windows(look)
    ledger = ledger.expect(f"{sample.model}/{rate}" for sample in look.samples for rate in sample.rates)
    seen = ledger.add(windows)
    kept = seen if look.closed else ledger
    opinion = _failure(look, seen, limits) or _doubt(look, ledger, limits, missing)
    outcome, why, message, metric = opinion
    if outcome is Outcome.Pass and not look.closed:
        outcome, why, message = Outcome.Undecided, Why.Open, "the window is still open"
    return Judgement(outcome=outcome, why=why, message=message, ledger=kept, metric=metric)


_Opinion = tuple[Outcome, Why, str, str]


def usable(value: float | None) -> bool:
    """A count that can be one: no server answers a billion requests a second for a quarter of an hour."""
    return value is not None and math.isfinite(value) and 0 <= value <= MAX_COUNT


def _windows(look: Look) -> tuple[Mapping[str, Window], str]:
    """What can be counted, and the first thing that cannot, in words."""
    windows: dict[str, Window] = {}
    missing = "" if look.samples else "no model was measured"
    for sample in look.samples:
        for rate in sample.rates:
            other = sample.baseline or Counts(requests=0, errors=0, slow=0)
            values = (
                sample.candidate.requests,
                sample.candidate.of(rate),
                other.requests,
                other.of(rate),
            )
            good = [value for value in values if value is not None and usable(value)]
            if len(good) < len(values):
                side = "baseline" if usable(values[0]) and usable(values[1]) else "candidate"
                words = f"no data for the {side}'s {_WORDS[rate]} of {sample.model}"
                missing = missing or words + (f": {sample.note}" if sample.note else "")
                continue
            total, bad, other_total, other_bad = good
            # Two queries of one instant may differ by the rounding of an extrapolation.
            windows[f"{sample.model}/{rate}"] = Window(
                candidate=total,
                candidate_bad=min(bad, total),
                baseline=other_total,
                baseline_bad=min(other_bad, other_total),
            )
    return windows, missing


def _failure(look: Look, seen: Ledger, limits: Limits) -> _Opinion | None:
    if seen.log_e >= threshold(limits.alpha):
        process = seen.processes[seen.worst]
        model, _, name = seen.worst.rpartition("/")
        rate: Rate = "errors" if name == "errors" else "slow"
        return (
            Outcome.Fail,
            Why.Worse,
            f"{model}: {_WORDS[rate]} {process.candidate_bad} of {process.candidate} against "
            f"{process.baseline_bad} of {process.baseline} for the baseline",
            _METRICS[rate],
        )
    enough = {sample.model for sample in look.samples if _enough(sample, limits)}
    for sample in (sample for sample in look.samples if sample.model in enough):
        requests = sample.candidate.requests or 1.0
        for rate in RATES:
            bad = sample.candidate.of(rate)
            critical = limits.critical_errors if rate == "errors" else limits.critical_slow
            if bad is not None and usable(bad) and bad / requests > critical:
                words = f"{_WORDS[rate]} {bad / requests:.1%} is above the critical {critical:.1%}"
                return Outcome.Fail, Why.CriticalLimit, f"{sample.model}: {words}", _METRICS[rate]
        for words, said in (
            ("successCondition is false", sample.condition is False),
            ("failureCondition is true", sample.failed is True),
        ):
            if said:
                return Outcome.Fail, Why.ConditionFalse, f"{sample.model}: {words}", "condition"
    everybody = bool(look.samples) and len(enough) == len({sample.model for sample in look.samples})
    for metric in look.metrics:
        problem = _outside(metric)
        known = metric.model in enough if metric.model else everybody
        if known and metric.critical and problem:
            return Outcome.Fail, Why.CriticalLimit, problem, metric.name
    return None


def _enough(sample: Sample, limits: Limits) -> bool:
    requests = sample.candidate.requests
    return requests is not None and usable(requests) and requests >= max(1, limits.samples)


def _doubt(look: Look, before: Ledger, limits: Limits, missing: str) -> _Opinion:
    """The first thing that keeps a window from passing; Pass if there is none."""
    if missing:
        return Outcome.Undecided, Why.NoData, missing, ""
    if look.scraped * 2 < look.ready or look.ready <= 0:
        words = f"Prometheus saw {look.scraped} of {look.ready} ready pods of the candidate"
        return Outcome.Undecided, Why.NoData, words, ""
    for sample in look.samples:
        found = _rates(sample, before, limits)
        if found is not None:
            return found
    for metric in look.metrics:
        name = f"{metric.model}: {metric.name}" if metric.model else metric.name
        note = f": {metric.note}" if metric.note else ""
        if metric.value is None or not math.isfinite(metric.value):
            return Outcome.Undecided, Why.NoData, f"no data for the metric {name}{note}", metric.name
        if metric.max_ratio is not None and (metric.baseline is None or not math.isfinite(metric.baseline)):
            words = f"no baseline data for the metric {name}{note}"
            return Outcome.Undecided, Why.NoData, words, metric.name
        problem = _outside(metric)
        if problem:
            return Outcome.Undecided, Why.OutsideLimit, problem, metric.name
    for sample in look.samples:
        if sample.condition is None or sample.failed is None:
            words = f"{sample.model}: a condition could not be evaluated"
            return Outcome.Undecided, Why.ConditionUnknown, words, "condition"
    return Outcome.Pass, Why.Good, "no worse than the baseline", ""


def _rates(sample: Sample, before: Ledger, limits: Limits) -> _Opinion | None:
    requests = sample.candidate.requests or 0.0
    if requests <= 0:
        words = f"{sample.model}: the candidate got no request"
        return Outcome.Undecided, Why.NoTraffic, words, ""
    if requests < limits.samples:
        words = f"{sample.model}: {requests:.0f} requests of the candidate, {limits.samples} are needed"
        return Outcome.Undecided, Why.TooFewSamples, words, ""
    for rate in sample.rates:
        share = (sample.candidate.of(rate) or 0.0) / requests
        base, problem = _baseline(sample, rate, before, limits)
        if problem:
            return Outcome.Undecided, Why.TooFewSamples, problem, ""
        limit = limits.absolute if base is None else base + limits.margin
        if share > limit:
            words = f"{sample.model}: {_WORDS[rate]} {share:.1%}, at most {limit:.1%} passes"
            return Outcome.Undecided, Why.AboveMargin, words, _METRICS[rate]
    return None


def _baseline(sample: Sample, rate: Rate, before: Ledger, limits: Limits) -> tuple[float | None, str]:
    """The share to compare with (None: only the absolute limit), or what is missing."""
    process = before.processes.get(f"{sample.model}/{rate}", Evidence())
    now = sample.baseline
    if now is not None and (now.requests or 0.0) >= limits.baseline_samples:
        return (now.of(rate) or 0.0) / (now.requests or 1.0), ""
    if process.baseline >= limits.baseline_samples:
        return process.baseline_rate, ""
    if now is None:
        return None, ""
    return None, (
        f"{sample.model}: {now.requests or 0.0:.0f} requests of the baseline, "
        f"{limits.baseline_samples} are needed"
    )


def _outside(metric: Metric) -> str:
    value, base = metric.value, metric.baseline
    if value is None or not math.isfinite(value):
        return ""
    name = f"{metric.model}: {metric.name}" if metric.model else metric.name
    if metric.max is not None and value > metric.max:
        return f"{name} is {value:g}, at most {metric.max:g} is allowed"
    if metric.min is not None and value < metric.min:
        return f"{name} is {value:g}, at least {metric.min:g} is needed"
    if metric.max_ratio is None or base is None or not math.isfinite(base):
        return ""
    if value > metric.max_ratio * base:
        return f"{name} is {value:g}, at most {metric.max_ratio:g} times the baseline's {base:g} passes"
    return ""
