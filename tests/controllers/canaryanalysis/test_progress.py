"""How an analysis comes to its verdict: tables, and histories that Hypothesis makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.tally import Verdict
from controllers.analysis.verdict import Outcome
from controllers.canaryanalysis import progress as steps
from controllers.canaryanalysis.progress import Progress
from controllers.canaryanalysis.status import from_wire, to_wire

from .scenes import SPEC, Side, World, looked, spec

SICK = World(candidate=Side(errors=0.5))
IDLE = World(candidate=Side(qps=0))
BLIND = World(candidate=Side(pods=None), baseline=Side(pods=None))
#: Fewer than 50 requests in five looks.
SCARCE = World(candidate=Side(qps=0.15))


def run(*worlds: World, start: Progress | None = None) -> Progress:
    progress = start or steps.begin(SPEC, 1000.0)
    for world in worlds:
        assert progress.running
        progress = looked(progress, world).progress
    return progress


def test_the_first_look_is_an_interval_after_the_window_began() -> None:
    begun = steps.begin(SPEC, 1003.4)
    assert (begun.start, begun.next_look) == (1000, 1060)
    late = steps.begin(SPEC, 2000.0)
    assert (late.start, late.next_look) == (1000, 2000)  # overdue: one look, not seventeen
    assert len(looked(late).progress.closed) == 1


def test_three_good_windows_in_a_row_pass() -> None:
    two = run(World(), World())
    assert (two.verdict, two.tally.passes) == (Verdict.Running, 2)
    three = looked(two).progress
    assert (three.verdict, three.finished, three.next_look) == (Verdict.Passed, 1180, 0)
    assert [(window.start, window.end) for window in three.closed] == [
        (1000, 1060),
        (1060, 1120),
        (1120, 1180),
    ]
    assert three.ledger.processes["m/errors"].windows == 3


def test_a_soak_is_judged_until_its_time_is_over() -> None:
    """What goes bad late in the soak fails, however many windows passed; a doubt at its end is waited for."""
    soak = spec(minimum=300.0)

    def looks(*worlds: World) -> Progress:
        progress = steps.begin(soak, 1000.0)
        for world in worlds:
            assert progress.running
            progress = looked(progress, world, spec=soak).progress
        return progress

    good = [World()] * 4
    assert looks(*good).running
    assert looks(*good).tally.passes == 4
    assert (looks(*good, World()).verdict, looks(*good, World()).finished) == (Verdict.Passed, 1300)
    assert looks(*good, SICK).verdict is Verdict.Failed
    assert looks(*good, IDLE).running  # its window is still open
    assert looks(*good, IDLE, World()).verdict is Verdict.Passed


def test_a_long_soak_has_the_windows_for_it() -> None:
    soak = spec(minimum=7200.0)
    progress = steps.begin(soak, 1000.0)
    while progress.running:
        progress = looked(progress, spec=soak).progress
    assert (progress.verdict, progress.finished) == (Verdict.Passed, 8200)


def test_a_sick_candidate_fails_at_the_first_look() -> None:
    failed = run(SICK)
    assert (failed.verdict, failed.reason) == (Verdict.Failed, "Worse")
    assert failed.message.startswith("m: error rate 55 of 110 against 0 of 2090")


def test_a_candidate_is_judged_as_one_with_the_steps_before() -> None:
    """What one step only suspects adds up over a run."""
    doubt = World(candidate=Side(errors=0.02), baseline=Side(qps=38, errors=0.012))
    ledger = steps.begin(SPEC, 1000).ledger
    for _ in range(40):
        step = spec(ledger=ledger)
        progress = steps.begin(step, 1000.0)
        while progress.running:
            progress = looked(progress, doubt, spec=step).progress
        ledger = progress.ledger
        if progress.verdict is Verdict.Failed:
            break
    assert progress.verdict is Verdict.Failed
    assert len(progress.closed) < ledger.processes["m/errors"].windows


def test_an_undecided_window_stays_open_for_five_looks() -> None:
    progress = run(IDLE, IDLE, IDLE, IDLE)
    assert (progress.looks, progress.start, progress.tally.windows) == (4, 1000, 0)
    progress = looked(progress, IDLE).progress
    assert (progress.looks, progress.start, progress.tally.windows) == (0, 1300, 1)
    assert progress.closed[0].reason == "NoTraffic"


def test_three_undecided_windows_wait_for_a_person() -> None:
    progress = run(*[SCARCE] * 15)
    assert (progress.verdict, progress.reason) == (Verdict.Inconclusive, "TooFewSamples")
    assert progress.available is True


def test_three_windows_without_data_are_unavailable_and_never_a_pass() -> None:
    progress = run(*[BLIND] * 15)
    assert (progress.verdict, progress.reason) == (Verdict.Unavailable, "NoData")
    assert progress.available is True  # it answers, it just knows nothing
    assert not progress.waits_for_prometheus


def test_prometheus_that_does_not_answer_is_asked_every_ten_seconds_for_five_minutes() -> None:
    progress = run(World(), World())
    now, attempts = progress.next_look, 0
    while progress.running:
        progress = steps.unanswered(SPEC, progress, "gone", now)
        attempts, now = attempts + 1, progress.next_look
    assert attempts == 31
    assert progress.verdict is Verdict.Unavailable
    assert progress.waits_for_prometheus
    assert (progress.available, progress.message) == (False, "gone")
    assert progress.finished - progress.failing == 300
    assert progress.tally.passes == 2
    assert progress.start == 1120  # the open window was not closed
    back = steps.back(replace(progress, next_look=now))
    assert (back.available, back.next_look, back.verdict) == (True, 0, Verdict.Unavailable)


def test_one_answer_starts_the_patience_anew() -> None:
    progress = steps.begin(SPEC, 1000.0)
    for _ in range(20):
        progress = steps.unanswered(SPEC, progress, "gone", progress.next_look)
    progress = looked(progress).progress
    assert (progress.errors, progress.failing, progress.available) == (0, 0, True)
    assert len(progress.closed) == 1


def test_time_that_the_operator_was_away_is_not_time_that_prometheus_was() -> None:
    progress = steps.unanswered(SPEC, steps.begin(SPEC, 1000.0), "gone", 1060.0)
    progress = steps.unanswered(SPEC, progress, "gone", 9000.0)
    assert progress.running


def test_a_clock_that_was_set_back_opens_the_window_anew() -> None:
    progress = run(World())
    assert steps.rewound(SPEC, progress, 1090.0) == progress
    again = steps.rewound(SPEC, progress, 500.7)
    assert (again.start, again.looks, again.next_look) == (500, 0, 560.7)
    assert again.tally == progress.tally


def test_what_is_overtaken_or_cannot_be_judged_says_so() -> None:
    over = steps.overtaken(run(World()), "gone on", 2000.0)
    assert (over.running, over.superseded, over.finished) == (False, True, 2000)
    broken = steps.unjudgeable(run(World()), "no CEL", 2000.0)
    assert (broken.verdict, broken.reason, broken.message) == (Verdict.Inconclusive, "InvalidSpec", "no CEL")


@pytest.mark.parametrize("passes", [1, 3, 20])
def test_as_many_passes_as_are_asked_for(passes: int) -> None:
    asked = spec(passes=passes)
    progress = steps.begin(asked, 1000.0)
    count = 0
    while progress.running:
        progress, count = looked(progress, spec=asked).progress, count + 1
    assert (progress.verdict, count) == (Verdict.Passed, passes)
    assert len(progress.closed) <= steps.KEPT


sides = st.builds(
    Side,
    qps=st.sampled_from([0.0, 0.4, 2.0, 20.0]),
    errors=st.sampled_from([0.0, 0.01, 0.02, 0.3]),
    slow=st.sampled_from([0.0, 0.02, 0.5]),
    pods=st.sampled_from([None, 0.0, 1.0, 2.0]),
    scrape=st.sampled_from([5.0, 20.0]),
)
events = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "look", "error", "late", "back", "restart"]),
        st.builds(World, candidate=sides, baseline=st.one_of(st.none(), sides)),
    ),
    max_size=40,
)


@given(events)
@settings(max_examples=150)
def test_any_history_has_disjoint_windows_and_passes_only_by_good_ones(
    history: list[tuple[str, World]],
) -> None:
    progress, now, good, windows, end = steps.begin(SPEC, 1000.0), 1000.0, 0, 0, 1000.0
    for event, world in history:
        if not progress.running:
            break
        now = max(now, progress.next_look) + (500 if event == "late" else 0)
        if event == "restart":
            read = from_wire(to_wire(progress, generation=1, before={}, now=now))
            assert read is not None
            assert replace(read, models=(), metrics=(), message="") == replace(
                progress, models=(), metrics=(), message=""
            )
            progress = read
        elif event == "error":
            before = progress
            progress = steps.unanswered(SPEC, progress, "gone", now)
            assert (progress.tally, progress.ledger, progress.start) == (
                before.tally,
                before.ledger,
                before.start,
            )
        elif event == "back":
            now = progress.start - 300
            progress = steps.rewound(SPEC, progress, now)
            end = min(end, progress.start)
        else:
            count = progress.tally.windows
            step = looked(progress, world, now=now)
            progress = step.progress
            if progress.tally.windows > count:
                windows += 1
                window = progress.closed[-1]
                assert window.start >= end
                assert window.end > window.start
                end = window.end
                good = good + 1 if window.outcome is Outcome.Pass else 0
    assert progress.tally.windows == windows
    if progress.verdict is Verdict.Passed:
        assert good >= 3
