"""Is the candidate's rate of bad requests higher than the baseline's? Evidence to look at any time. Pure.

Given that a window saw x bad requests in total, n_A of the baseline's and n_B of the candidate's requests,
equal rates put each bad one on the candidate's side with probability q = n_B / (n_A + n_B); a candidate whose
rate is r times the baseline's with q_r = r n_B / (n_A + r n_B). The likelihood ratio of the window is then

    r^(x_B) * ((n_A + n_B) / (n_A + r n_B))^x

and the process is the mean, over the ratios in `RATIOS`, of the product over windows.

Guarantees:
- if the candidate's rate is not above the baseline's, E reaches 1/alpha in at most a share alpha of all runs,
  however often and whenever somebody looks (Ville's inequality). Weights may change from window to window;
  there is no smallest sample and no variance to estimate. Without replacement (both rates equal and the total
  known) the counts vary less than the binomial they are compared with, which only lowers E.
- `merge` is exactly associative and commutative and `Evidence()` is its identity: logarithms are kept as
  whole micro-nats, rounded down, so no order of summation changes a digit and what a status holds is what was
  in memory.
- a window without requests on one of the sides, or without a bad request, says nothing and changes no
  logarithm.

Traps: counts from `increase()` are stretched to the edges of the window; `observed` undoes that, or E would
be too bold. Never test quantiles this way: count the requests slower than a limit.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

#: How many times worse the candidate may be, each with the same share of the bet.
RATIOS: Final = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

#: False alarms of one run, all of its looks, metrics and models together.
ALPHA: Final = 0.01

#: Whole units of the kept logarithms in one nat.
NAT: Final = 1_000_000

#: Bounds of what a status may hold: whole numbers that every JSON reader keeps exactly.
LIMIT: Final = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Requests and bad ones among them, of both sides, in one closed window. Counts, fractions allowed.

    Raises ValueError for a count that is not finite or negative, or more bad requests than requests.
    """

    candidate: float
    candidate_bad: float
    baseline: float
    baseline_bad: float

    def __post_init__(self) -> None:
        for total, bad in ((self.candidate, self.candidate_bad), (self.baseline, self.baseline_bad)):
            if not (math.isfinite(total) and math.isfinite(bad) and 0 <= bad <= total):
                raise ValueError(f"a window needs 0 <= bad <= requests, got {bad} of {total}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What all windows of a run say together.

    logs: one logarithm a ratio, in micro-nats. The counts are the sums of all windows, rounded down; they are
    for messages and for a baseline that gets no more traffic.
    """

    logs: tuple[int, ...] = (0,) * len(RATIOS)
    windows: int = 0
    candidate: int = 0
    candidate_bad: int = 0
    baseline: int = 0
    baseline_bad: int = 0

    @property
    def log_e(self) -> float:
        """The natural logarithm of E."""
        return log_mean(value / NAT for value in self.logs)

    @property
    def baseline_rate(self) -> float | None:
        """Share of bad requests of the baseline over the whole run; None before its first request."""
        return self.baseline_bad / self.baseline if self.baseline else None

    def to_wire(self) -> dict[str, object]:
        """As a status holds it: whole numbers within +-2^53."""
        return {
            "logs": [_bounded(value) for value in self.logs],
            "windows": _bounded(self.windows),
            "candidate": [_bounded(self.candidate_bad), _bounded(self.candidate)],
            "baseline": [_bounded(self.baseline_bad), _bounded(self.baseline)],
        }

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> "Evidence":
        """The reverse of `to_wire`. ValueError for anything else: unreadable evidence is not none."""
        logs = _integers(raw.get("logs"), len(RATIOS), "logs")
        candidate_bad, candidate = _integers(raw.get("candidate"), 2, "candidate")
        baseline_bad, baseline = _integers(raw.get("baseline"), 2, "baseline")
        (windows,) = _integers([raw.get("windows")], 1, "windows")
        return cls(
            logs=logs,
            windows=windows,
            candidate=candidate,
            candidate_bad=candidate_bad,
            baseline=baseline,
            baseline_bad=baseline_bad,
        )


def measure(window: Window) -> Evidence:
    """What one window says on its own."""
    bad = window.candidate_bad + window.baseline_bad
    total = window.candidate + window.baseline
    logs = (0,) * len(RATIOS)
    if bad > 0 and window.candidate > 0 and window.baseline > 0:
        logs = tuple(
            math.floor(
                NAT
                * (
                    window.candidate_bad * math.log(ratio)
                    + bad * math.log(total / (window.baseline + ratio * window.candidate))
                )
            )
            for ratio in RATIOS
        )
    return Evidence(
        logs=logs,
        windows=1,
        candidate=math.floor(window.candidate),
        candidate_bad=math.floor(window.candidate_bad),
        baseline=math.floor(window.baseline),
        baseline_bad=math.floor(window.baseline_bad),
    )


def merge(one: Evidence, other: Evidence) -> Evidence:
    """Both together. Windows must be disjoint in time."""
    return Evidence(
        logs=tuple(a + b for a, b in zip(one.logs, other.logs, strict=True)),
        windows=one.windows + other.windows,
        candidate=one.candidate + other.candidate,
        candidate_bad=one.candidate_bad + other.candidate_bad,
        baseline=one.baseline + other.baseline,
        baseline_bad=one.baseline_bad + other.baseline_bad,
    )


def log_mean(logs: Iterable[float]) -> float:
    """log of the mean of exp(logs), without overflow; 0 (E = 1) for none.

    The mean of several processes is a process again. That is how two rates, or several models, share one
    alpha.
    """
    values = list(logs)
    if not values:
        return 0.0
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values) / len(values))


def threshold(alpha: float = ALPHA) -> float:
    """The logarithm of E from which on the candidate is worse."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}: use {ALPHA}")
    return -math.log(alpha)


def observed(increase: float, *, seconds: float, scrape: float) -> float:
    """The count that was really seen, from what `increase()` says about a window of `seconds`.

    Between the first and the last scrape in a window lie `seconds - scrape`; the rest is extrapolated. Taken
    as it is, a window would count evidence that nobody observed.
    """
    if not 0 < scrape < seconds:
        raise ValueError(
            f"the scrape interval must lie between 0 and the window, got {scrape} of {seconds} s"
        )
    return increase * (seconds - scrape) / seconds


def _bounded(value: int) -> int:
    return max(-LIMIT, min(LIMIT, value))


def _integers(raw: object, count: int, name: str) -> tuple[int, ...]:
    values = tuple(raw) if isinstance(raw, list | tuple) else ()
    numbers = tuple(item for item in values if isinstance(item, int) and not isinstance(item, bool))
    if len(values) != count or len(numbers) != count:
        raise ValueError(
            f"evidence.{name} must be {count} whole numbers, got {str(raw)[:80]}: start a new attempt"
        )
    return numbers
