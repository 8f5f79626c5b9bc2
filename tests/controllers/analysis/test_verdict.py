"""One look at a window: what fails at once, what passes, and that missing data never does."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.eprocess import Evidence, threshold
from controllers.analysis.verdict import (
    Counts,
    Judgement,
    Ledger,
    Limits,
    Look,
    Metric,
    Outcome,
    Sample,
    Why,
    judge,
)

GOOD = Sample(
    model="m",
    candidate=Counts(requests=100, errors=0, slow=1),
    baseline=Counts(requests=1900, errors=2, slow=30),
    sla=True,
)


def look(sample: Sample = GOOD, **changes: object) -> Look:
    return replace(Look(samples=[sample], ready=2, scraped=2), **changes)  # type: ignore[arg-type]


def found(look: Look, ledger: Ledger | None = None) -> tuple[Outcome, Why]:
    judgement = judge(look, ledger or Ledger())
    return judgement.outcome, judgement.why


def test_a_good_window_passes_and_its_evidence_is_kept() -> None:
    judgement = judge(look(), Ledger())
    assert (judgement.outcome, judgement.why) == (Outcome.Pass, Why.Good)
    assert set(judgement.ledger.processes) == {"m/errors", "m/slow"}
    assert judgement.ledger.processes["m/slow"].candidate_bad == 1


def candidate(**changes: float | None) -> Sample:
    return replace(GOOD, candidate=replace(GOOD.candidate, **changes))


def told(sample: Sample = GOOD, **changes: bool | None) -> Sample:
    """With conditions that say this."""
    return replace(sample, **changes)  # type: ignore[arg-type]


def baseline(**changes: float | None) -> Sample:
    assert GOOD.baseline is not None
    return replace(GOOD, baseline=replace(GOOD.baseline, **changes))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (look(candidate(errors=30)), (Outcome.Fail, Why.Worse)),
        (look(candidate(slow=40)), (Outcome.Fail, Why.Worse)),
        (look(told(condition=False)), (Outcome.Fail, Why.ConditionFalse)),
        (look(told(failed=True)), (Outcome.Fail, Why.ConditionFalse)),
        (look(candidate(errors=2)), (Outcome.Undecided, Why.AboveMargin)),
        (look(candidate(slow=4)), (Outcome.Undecided, Why.AboveMargin)),
        (look(told(condition=None)), (Outcome.Undecided, Why.ConditionUnknown)),
        (look(told(failed=None)), (Outcome.Undecided, Why.ConditionUnknown)),
        (look(closed=False), (Outcome.Undecided, Why.Open)),
        (look(candidate(requests=0, errors=0, slow=0)), (Outcome.Undecided, Why.NoTraffic)),
        (look(candidate(requests=49, slow=0)), (Outcome.Undecided, Why.TooFewSamples)),
        (look(baseline(requests=99)), (Outcome.Undecided, Why.TooFewSamples)),
        (look(scraped=0), (Outcome.Undecided, Why.NoData)),
        (look(ready=0, scraped=0), (Outcome.Undecided, Why.NoData)),
        (Look(samples=[]), (Outcome.Undecided, Why.NoData)),
        # too few samples to fail by a condition
        (look(told(candidate(requests=49, slow=0), condition=False)), (Outcome.Undecided, Why.TooFewSamples)),
    ],
)
def test_the_rules(case: Look, expected: tuple[Outcome, Why]) -> None:
    assert found(case) == expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("field", ["requests", "errors", "slow"])
def test_missing_data_never_passes_and_leaves_no_evidence(value: float | None, field: str) -> None:
    for sample in (candidate(**{field: value}), baseline(**{field: value})):
        judgement = judge(look(sample), Ledger())
        assert (judgement.outcome, judgement.why) == (Outcome.Undecided, Why.NoData)
        assert "no data for the" in judgement.message
        broken = "m/slow" if field == "slow" else "m/errors"
        assert judgement.ledger.processes[broken] == Evidence()


def test_a_counter_that_was_reset_is_no_data() -> None:
    assert found(look(candidate(requests=100, errors=-3))) == (Outcome.Undecided, Why.NoData)


def test_rounding_between_two_queries_is_no_error() -> None:
    assert found(look(candidate(requests=100, slow=100.0000001)))[1] is Why.Worse


def test_one_broken_model_of_two_keeps_the_window_from_passing() -> None:
    other = replace(candidate(requests=None), model="other")
    assert found(Look(samples=[GOOD, other])) == (Outcome.Undecided, Why.NoData)
    assert found(Look(samples=[GOOD, replace(GOOD, model="other")]))[0] is Outcome.Pass


def test_a_model_with_enough_requests_fails_though_another_has_none() -> None:
    idle = replace(candidate(requests=0, errors=0, slow=0), model="idle")
    failed = judge(Look(samples=[idle, told(condition=False)]), Ledger())
    assert (failed.outcome, failed.message, failed.metric) == (
        Outcome.Fail,
        "m: successCondition is false",
        "condition",
    )
    slow = Metric(name="latencyP95", model="m", value=300, max=200, critical=True)
    assert found(Look(samples=[idle, GOOD], metrics=[slow])) == (Outcome.Fail, Why.CriticalLimit)
    own = replace(slow, model="")  # of no model: all must have been asked enough
    assert found(Look(samples=[idle, GOOD], metrics=[own])) == (Outcome.Undecided, Why.NoTraffic)


def test_a_note_says_why_a_value_is_missing() -> None:
    sample = replace(candidate(requests=None), note="3 scrapes, 4 are needed")
    assert judge(look(sample), Ledger()).message.endswith(": 3 scrapes, 4 are needed")
    metric = Metric(name="own", value=None, note="2 series instead of one")
    judgement = judge(look(metrics=[metric]), Ledger())
    assert judgement.message == "no data for the metric own: 2 series instead of one"


def test_without_an_sla_slow_requests_are_not_asked_for() -> None:
    counts = Counts(requests=100, errors=0)
    sample = Sample(model="m", candidate=counts, baseline=replace(counts, requests=500.0))
    judgement = judge(look(sample), Ledger())
    assert judgement.outcome is Outcome.Pass
    assert set(judgement.ledger.processes) == {"m/errors"}


def test_a_critical_limit_needs_no_baseline() -> None:
    sample = replace(candidate(errors=21), baseline=None)
    assert found(look(sample)) == (Outcome.Fail, Why.CriticalLimit)
    assert (
        found(look(replace(candidate(requests=40, errors=40, slow=0), baseline=None)))[1] is Why.TooFewSamples
    )


def test_without_a_baseline_the_run_so_far_stands_in_then_the_absolute_limit() -> None:
    alone = replace(candidate(errors=3), baseline=None)
    assert found(look(alone))[0] is Outcome.Pass
    ledger = judge(look(), Ledger()).ledger
    assert found(look(alone), ledger) == (Outcome.Undecided, Why.AboveMargin)
    assert found(look(replace(candidate(errors=6), baseline=None))) == (Outcome.Undecided, Why.AboveMargin)


def test_evidence_adds_up_over_windows_that_each_fail_nothing() -> None:
    ledger, outcomes = Ledger(), []
    for _ in range(12):
        judgement = judge(look(candidate(errors=2)), ledger)
        ledger = judgement.ledger
        outcomes.append(judgement.outcome)
    assert outcomes[0] is Outcome.Undecided
    assert outcomes[-1] is Outcome.Fail
    assert "m: error rate" in judgement.message


def test_an_open_window_can_fail_but_is_not_kept() -> None:
    judgement = judge(look(candidate(errors=30), closed=False), Ledger())
    assert judgement.outcome is Outcome.Fail
    assert judgement.ledger.log_e == 0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric(name="q", value=3, max=5, min=1), (Outcome.Pass, Why.Good)),
        (Metric(name="q", value=6, max=5), (Outcome.Undecided, Why.OutsideLimit)),
        (Metric(name="q", value=0, min=1), (Outcome.Undecided, Why.OutsideLimit)),
        (Metric(name="q", value=6, max=5, critical=True), (Outcome.Fail, Why.CriticalLimit)),
        (Metric(name="q", value=None, max=5, critical=True), (Outcome.Undecided, Why.NoData)),
        (Metric(name="q", value=math.nan, max=5), (Outcome.Undecided, Why.NoData)),
        (Metric(name="q", value=3, baseline=2, max_ratio=1.2), (Outcome.Undecided, Why.OutsideLimit)),
        (Metric(name="q", value=2, baseline=2, max_ratio=1.2), (Outcome.Pass, Why.Good)),
        (Metric(name="q", value=2, max_ratio=1.2), (Outcome.Undecided, Why.NoData)),
    ],
)
def test_metrics_of_the_users_own(metric: Metric, expected: tuple[Outcome, Why]) -> None:
    assert found(look(metrics=[metric])) == expected


number = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 5000).map(float))
counts = st.builds(Counts, requests=number, errors=number, slow=number)
looks = st.builds(
    Look,
    samples=st.lists(
        st.builds(
            Sample,
            model=st.sampled_from(["a", "b"]),
            candidate=counts,
            baseline=st.one_of(st.none(), counts),
            sla=st.booleans(),
            condition=st.sampled_from([True, False, None]),
            failed=st.sampled_from([True, False, None]),
        ),
        max_size=2,
        unique_by=lambda sample: sample.model,
    ),
    closed=st.booleans(),
    ready=st.integers(0, 3),
    scraped=st.integers(0, 3),
)


def _complete(look: Look, judgement: Judgement) -> bool:
    limits = Limits()
    for sample in look.samples:
        sides = [sample.candidate] if sample.baseline is None else [sample.candidate, sample.baseline]
        for side in sides:
            for value in (side.requests, *(side.of(rate) for rate in sample.rates)):
                if value is None or not math.isfinite(value) or value < 0:
                    return False
        if (sample.candidate.requests or 0) < limits.samples:
            return False
    return bool(look.samples) and look.closed and judgement.ledger.log_e < threshold()


@given(looks)
@settings(max_examples=300)
def test_whatever_comes_only_complete_and_closed_windows_pass(look: Look) -> None:
    judgement = judge(look, Ledger())
    assert "\n" not in judgement.message
    assert judgement.message
    if judgement.outcome is Outcome.Pass:
        assert _complete(look, judgement)
        assert all(sample.condition is True and sample.failed is False for sample in look.samples)
    assert Ledger.from_wire(judgement.ledger.to_wire()) == judgement.ledger


def test_a_ledger_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="new attempt"):
        Ledger.from_wire({"m/errors": None})
