"""The persisted state: what cannot be read is refused, never taken for a service without a canary."""

import json

import pytest

from controllers.analysis.eprocess import Window
from controllers.analysis.verdict import Ledger
from controllers.rollout.canary import Canary, Ending, Finished, Pause, Phase, Traffic, from_wire, to_wire

FULL = Canary(
    phase=Phase.Paused,
    stable="ab12cd34",
    candidate="ef56gh78",
    run=12,
    step=19,
    attempt=3,
    steps=tuple(range(1, 21)),
    peak=20,
    traffic=Traffic(weights=(("ab12cd34", 80), ("ef56gh78", 20)), change=99, asked_at=1e9).verified(
        1e9 + 2.5
    ),
    started=1e9,
    since=1e9 + 0.000001,
    until=2e9,
    pause=Pause.Inconclusive,
    reason="r" * 300,
    token="t" * 64,
    answer="promote: done",
    rejected=tuple(f"rejected{i}" for i in range(5)),
    history=tuple(
        Finished(
            run=run,
            attempt=1,
            candidate="ef56gh78",
            ending=Ending.AnalysisFailed,
            step=3,
            reason="r" * 300,
            started=1e9,
            finished=1e9 + 60,
        )
        for run in range(1, 6)
    ),
    ledger=Ledger().add(
        {
            f"model-{index}/{rate}": Window(candidate=1e9, candidate_bad=1e8, baseline=1e9, baseline_bad=1e6)
            for index in range(16)
            for rate in ("errors", "slow")
        }
    ),
)


def test_it_comes_back_as_it_was_and_fits_into_a_status() -> None:
    text = json.dumps(to_wire(FULL))
    assert from_wire(json.loads(text)) == FULL
    assert len(text) < 12 * 1024


def test_a_service_that_never_had_a_canary() -> None:
    assert from_wire({}) == Canary()
    assert from_wire(to_wire(Canary())) == Canary()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phase", "Dancing"),
        ("phase", None),
        ("stable", 3),
        ("run", -1),
        ("run", True),
        ("step", "1"),
        ("steps", [5, "50"]),
        ("since", "yesterday"),
        ("pause", "Tea"),
        ("ending", "Happy"),
        ("rejected", "all"),
        ("history", [3]),
        ("history", [{"ending": "Happy"}]),
        ("traffic", {"weights": [{"revision": 3, "weight": 5}]}),
        ("traffic", {"weights": [{"revision": "a", "weight": "5"}]}),
        ("evidence", {"m/errors": {}}),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"^(status\.canary|evidence)[^\n]*$"):
        from_wire({**to_wire(FULL), name: value})


def test_a_phase_is_never_guessed() -> None:
    with pytest.raises(ValueError, match=r"status\.canary\.phase"):
        from_wire({"stable": "a"})
