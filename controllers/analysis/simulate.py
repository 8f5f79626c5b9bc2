"""How often the judge cries wolf, and how soon it sees a real one. `python -m controllers.analysis.simulate`

Draws seeded histories of windows, gives each to the real e-process and counts. The table that it prints
stands in docs/canary.md, the picture of `--picture` in docs/analysis.md. Needs numpy, which is not in the
operator's image: this module is never imported by it.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .eprocess import ALPHA, Evidence, Window, measure, merge, threshold
from .picture import Line, svg
from .tally import Tally, Verdict, closes
from .verdict import Counts, Ledger, Look, Sample, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A history: share of bad requests of both sides, the candidate's weights (percent; the last one stays),
    requests a window of both sides together, windows.
    """

    baseline: float
    candidate: float
    weights: tuple[int, ...] = (5,)
    requests: int = 1000
    looks: int = 60

    @property
    def title(self) -> str:
        weights = "/".join(str(weight) for weight in self.weights)
        return f"{self.baseline:.1%} -> {self.candidate:.1%} | {weights} % | {self.requests}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """alarms: share of runs that reached 1/alpha. median, late: windows until then, of those that did (the
    latter is the 95th percentile); None without an alarm.
    """

    alarms: float
    median: float | None
    late: float | None


def path(case: Case, random: np.random.Generator) -> list[float]:
    """The logarithm of E after each window of one history."""
    weights = [case.weights[min(look, len(case.weights) - 1)] for look in range(case.looks)]
    candidate = random.binomial(case.requests, [weight / 100 for weight in weights])
    baseline = case.requests - candidate
    candidate_bad = random.binomial(candidate, case.candidate)
    baseline_bad = random.binomial(baseline, case.baseline)
    evidence, logs = Evidence(), []
    for look in range(case.looks):
        window = Window(
            candidate=float(candidate[look]),
            candidate_bad=float(candidate_bad[look]),
            baseline=float(baseline[look]),
            baseline_bad=float(baseline_bad[look]),
        )
        evidence = merge(evidence, measure(window))
        logs.append(evidence.log_e)
    return logs


def stops(case: Case, *, runs: int, seed: int, alpha: float = ALPHA) -> Sequence[int | None]:
    """The window of each run at which E reached 1/alpha, counted from 1; None if it never did."""
    random = np.random.default_rng(seed)
    limit = threshold(alpha)
    found: list[int | None] = []
    for _ in range(runs):
        logs = path(case, random)
        found.append(next((look + 1 for look, log in enumerate(logs) if log >= limit), None))
    return found


def simulate(case: Case, *, runs: int, seed: int, alpha: float = ALPHA) -> Result:
    found = [stop for stop in stops(case, runs=runs, seed=seed, alpha=alpha) if stop is not None]
    return Result(
        alarms=len(found) / runs,
        median=statistics.median(found) if found else None,
        late=float(np.percentile(found, 95)) if found else None,
    )


#: Steps of a usual run, four windows each.
_STEPS = (5,) * 4 + (20,) * 4 + (50,)

SAME = (
    *(
        Case(baseline=rate, candidate=rate, weights=weights)
        for rate in (0.001, 0.01, 0.05)
        for weights in ((5,), (50,), _STEPS)
    ),
    Case(baseline=0.01, candidate=0.01, requests=50),
    Case(baseline=0.05, candidate=0.04),
)
WORSE = (
    *(
        Case(baseline=0.01, candidate=worse, weights=weights)
        for weights in ((5,), (50,))
        for worse in (0.02, 0.03, 0.05, 0.1)
    ),
    Case(baseline=0.0, candidate=0.01),
    Case(baseline=0.01, candidate=0.1, requests=100),
    Case(baseline=0.001, candidate=0.01, requests=1000),
    Case(baseline=0.01, candidate=0.03, weights=_STEPS),
)


def table(*, runs: int, seed: int) -> str:
    """The published table, as Markdown."""
    lines = [
        "| bad requests | weight | requests a window | alarms in 60 windows | median window | 95 % within |",
        "|---|---|---|---|---|---|",
    ]
    for case in (*SAME, *WORSE):
        result = simulate(case, runs=runs, seed=seed)
        median = "-" if result.median is None else f"{result.median:g}"
        late = "-" if result.late is None else f"{result.late:g}"
        weights = list(dict.fromkeys(case.weights))
        title = case.title.split(" | ")
        title[1] = "/".join(str(weight) for weight in weights) + " %"
        lines.append(f"| {' | '.join(title)} | {result.alarms:.2%} | {median} | {late} |")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of 5, 20, 50 and 100 %: shares of errors and of slow requests of both sides, requests a look."""

    title: str
    errors: tuple[float, float]
    slow: tuple[float, float]
    requests: int = 1000


RUNS = (
    Run(title="equal", errors=(0.001, 0.001), slow=(0.01, 0.01)),
    Run(title="equal, little traffic", errors=(0.001, 0.001), slow=(0.01, 0.01), requests=300),
    Run(title="equal, 20 times the traffic", errors=(0.001, 0.001), slow=(0.01, 0.01), requests=20_000),
    Run(title="equal, both bad", errors=(0.05, 0.05), slow=(0.05, 0.05), requests=20_000),
    Run(title="errors 0.1 -> 1 %", errors=(0.001, 0.01), slow=(0.01, 0.01), requests=20_000),
    Run(title="errors 0.1 -> 5 %", errors=(0.001, 0.05), slow=(0.01, 0.01)),
    Run(title="slow 1 -> 3 %", errors=(0.001, 0.001), slow=(0.01, 0.03), requests=20_000),
    Run(title="slow 1 -> 10 %", errors=(0.001, 0.001), slow=(0.01, 0.1)),
    Run(title="errors 20 -> 0 % (a fix)", errors=(0.2, 0.0), slow=(0.01, 0.01)),
)
_RUN_STEPS = (5, 20, 50, 100)


def outcome(run: Run, random: np.random.Generator) -> tuple[Verdict, int]:
    """How one run ends (the verdict of its last step) and after how many looks."""
    ledger, total_looks = Ledger(), 0
    for weight in _RUN_STEPS:
        tally, looks = Tally(), 0
        seen = np.zeros((2, 3), dtype=np.int64)
        while tally.verdict() is Verdict.Running:
            looks, total_looks = looks + 1, total_looks + 1
            seen += _minute(run, weight, random)
            old, new = (
                Counts(requests=float(side[0]), errors=float(side[1]), slow=float(side[2])) for side in seen
            )
            sample = Sample(model="m", candidate=new, baseline=old if weight < 100 else None, sla=True)
            judgement = judge(Look(samples=[sample]), ledger)
            if closes(judgement, looks=looks):
                ledger, tally, looks = judgement.ledger, tally.add(judgement), 0
                seen[:] = 0
        if tally.verdict() is not Verdict.Passed:
            return tally.verdict(), total_looks
    return Verdict.Passed, total_looks


def _minute(run: Run, weight: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Requests, errors and slow ones of both sides between two looks."""
    new = int(random.binomial(run.requests, weight / 100))
    rows = [
        [total, random.binomial(total, run.errors[side]), random.binomial(total, run.slow[side])]
        for side, total in enumerate((run.requests - new, new))
    ]
    return np.array(rows, dtype=np.int64)


def run_table(*, runs: int, seed: int) -> str:
    """What becomes of whole runs, as Markdown."""
    lines = [
        "| candidate | requests a look | promoted | rolled back | waits for a person | median looks |",
        "|---|---|---|---|---|---|",
    ]
    for run in RUNS:
        random = np.random.default_rng(seed)
        ends = [outcome(run, random) for _ in range(runs)]
        shares = [
            sum(end is verdict for end, _ in ends) / runs
            for verdict in (Verdict.Passed, Verdict.Failed, Verdict.Inconclusive)
        ]
        median = statistics.median(looks for _, looks in ends)
        cells = [run.title, str(run.requests), *(f"{share:.1%}" for share in shares), f"{median:g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


#: Shown in the picture, the worse ones by the history whose end is in the middle.
SHOWN = (
    Case(baseline=0.01, candidate=0.01),
    Case(baseline=0.01, candidate=0.02),
    Case(baseline=0.01, candidate=0.03),
    Case(baseline=0.01, candidate=0.05),
    Case(baseline=0.01, candidate=0.1),
)


def picture(*, seed: int, equal: int = 40, worse: int = 101) -> str:
    """Histories of equal revisions, and a median one of each worse candidate until it fails, as SVG."""
    random = np.random.default_rng(seed)
    limit = threshold()
    lines = [Line(logs=path(SHOWN[0], random), style=0, width=0.7) for _ in range(equal)]
    for style, case in enumerate(SHOWN[1:], start=1):
        ends = [
            [log for number, log in enumerate(logs) if not any(past >= limit for past in logs[:number])]
            for logs in (path(case, random) for _ in range(worse))
        ]
        middle = sorted(ends, key=len)[worse // 2]
        label = f"{case.candidate:.0%}: window {len(middle)}"
        lines.append(Line(logs=middle, style=style, label=label, width=2))
    title = f"1 % of bad requests in the baseline, 5 % weight, {SHOWN[0].requests} requests a window"
    return svg(lines, title=title, limit=1 / ALPHA)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="False alarms and delay of the canary's judge.")
    parser.add_argument("--runs", type=int, default=5000, help="histories a row (default 5000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw how E grows, and nothing else")
    options = parser.parse_args(argv)
    if options.picture is not None:
        options.picture.write_text(picture(seed=options.seed), encoding="utf-8")
        return 0
    print(table(runs=options.runs, seed=options.seed))
    print()
    print(run_table(runs=options.runs, seed=options.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
