"""Windows in a row: three passes, one failure, three doubts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.tally import Tally, Verdict, closes
from controllers.analysis.verdict import Judgement, Ledger, Limits, Outcome, Why

LETTERS = {
    "P": (Outcome.Pass, Why.Good),
    "F": (Outcome.Fail, Why.Worse),
    "u": (Outcome.Undecided, Why.AboveMargin),
    "n": (Outcome.Undecided, Why.NoData),
}


def judgement(letter: str) -> Judgement:
    outcome, why = LETTERS[letter]
    return Judgement(outcome=outcome, why=why, message="", ledger=Ledger())


def after(letters: str) -> Tally:
    tally = Tally()
    for letter in letters:
        tally = tally.add(judgement(letter))
    return tally


@pytest.mark.parametrize(
    ("letters", "verdict"),
    [
        ("", Verdict.Running),
        ("PP", Verdict.Running),
        ("PPP", Verdict.Passed),
        ("PPuPPnPPP", Verdict.Passed),
        ("PPF", Verdict.Failed),
        ("F", Verdict.Failed),
        ("uPu", Verdict.Running),
        ("uun", Verdict.Inconclusive),
        ("nnu", Verdict.Inconclusive),
        ("nnn", Verdict.Unavailable),
        ("PPu" * 20, Verdict.Inconclusive),
    ],
)
def test_the_verdict_of_a_step(letters: str, verdict: Verdict) -> None:
    assert after(letters).verdict() is verdict


@given(st.text(alphabet="PFun", max_size=12))
@settings(max_examples=100)
def test_a_step_passes_only_after_three_passes_in_a_row_and_without_a_failure(letters: str) -> None:
    tally = after(letters)
    if tally.verdict() is Verdict.Passed:
        assert letters.endswith("PPP")
        assert "F" not in letters
    assert Tally.from_wire(tally.to_wire()) == tally


def test_an_open_window_counts_only_if_it_failed() -> None:
    for letter in "Pun":
        assert Tally().add(judgement(letter), closed=False) == Tally()
    assert Tally().add(judgement("F"), closed=False).verdict() is Verdict.Failed


def test_a_window_grows_until_it_is_decided_or_was_looked_at_five_times() -> None:
    for letter in "PF":
        assert closes(judgement(letter), looks=1)
    for letter in "un":
        assert not closes(judgement(letter), looks=4)
        assert closes(judgement(letter), looks=5)


def test_more_or_fewer_passes_can_be_asked_for() -> None:
    assert after("P").verdict(Limits(passes=1)) is Verdict.Passed
    assert after("PPP").verdict(Limits(passes=4)) is Verdict.Running


@pytest.mark.parametrize("raw", [{}, {"windows": -1}, {**Tally().to_wire(), "failed": 0}])
def test_a_tally_that_cannot_be_read_is_not_an_empty_one(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="new attempt"):
        Tally.from_wire(raw)
