"""The quick form of the simulation: seeded, a few seconds. The published one has more runs and cases."""

from collections import Counter

import numpy as np
import pytest

from controllers.analysis import simulate as module
from controllers.analysis.eprocess import ALPHA
from controllers.analysis.simulate import Case, main, outcome, simulate
from controllers.analysis.tally import Verdict

A_A = [
    Case(baseline=0.01, candidate=0.01),
    Case(baseline=0.05, candidate=0.05, weights=(50,)),
    Case(baseline=0.01, candidate=0.01, weights=(5, 5, 20, 20, 50)),
]


@pytest.mark.no_cover  # a million of looks: counting lines doubles its time
@pytest.mark.parametrize("case", A_A, ids=lambda case: case.title)
def test_false_alarms_stay_below_alpha_over_sixty_looks(case: Case) -> None:
    assert simulate(case, runs=1000, seed=1).alarms <= ALPHA


@pytest.mark.parametrize(
    ("case", "median"),
    [
        (Case(baseline=0.01, candidate=0.1), 2),
        (Case(baseline=0.01, candidate=0.05), 5),
        (Case(baseline=0.01, candidate=0.03, weights=(50,)), 3),
    ],
)
def test_a_worse_candidate_is_seen_soon(case: Case, median: int) -> None:
    result = simulate(case, runs=200, seed=1)
    assert result.alarms >= 0.99
    assert result.median is not None
    assert result.median <= median


def test_a_better_candidate_raises_no_alarm() -> None:
    assert simulate(Case(baseline=0.05, candidate=0.03), runs=200, seed=1).alarms == 0


def test_whole_runs_end_as_they_should() -> None:
    ends: dict[str, Counter[Verdict]] = {}
    for run in module.RUNS:
        random = np.random.default_rng(1)
        ends[run.title] = Counter(outcome(run, random)[0] for _ in range(60))
    assert ends["equal, 20 times the traffic"][Verdict.Passed] >= 59
    assert ends["errors 20 -> 0 % (a fix)"][Verdict.Passed] >= 50
    for title in ("errors 0.1 -> 5 %", "slow 1 -> 10 %", "slow 1 -> 3 %"):
        assert ends[title][Verdict.Passed] == 0


def test_the_same_seed_prints_the_same_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAME", module.SAME[:1])
    monkeypatch.setattr(module, "WORSE", module.WORSE[:1])
    monkeypatch.setattr(module, "RUNS", module.RUNS[:1])
    assert main(["--runs", "20"]) == 0
    first = capsys.readouterr().out
    assert main(["--runs", "20"]) == 0
    assert capsys.readouterr().out == first
    assert "| 0.1% -> 0.1% | 5 % | 1000 |" in first
