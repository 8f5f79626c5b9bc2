"""What counts as getting on."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controllers.paddleservice.progress import Marks, follow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
marks = st.builds(
    Marks,
    revision=st.just("a"),
    pods=st.integers(0, 3),
    ready=st.integers(0, 3),
    stage=st.integers(0, 9),
    bytes=st.integers(0, 50),
)


@given(st.lists(marks, min_size=1, max_size=300))
def test_whatever_comes_and_goes_the_deadline_comes(history: list[Marks]) -> None:
    """Every mark is bounded, so progress is made a bounded number of times."""
    status: dict[str, object] = {}
    times = set()
    for turn, seen in enumerate(history):
        now = NOW + timedelta(seconds=turn)
        block = follow(status, seen, fresh=False, deadline=60.0, now=now)
        assert block.deadline == block.time + timedelta(seconds=60)
        times.add(block.time)
        status = {"progress": block.wire()}
    assert len(times) <= 1 + 3 + 3 + 9 + 50


def test_only_going_further_than_ever_counts() -> None:
    block = follow({}, Marks(revision="a", ready=1), fresh=False, deadline=60.0, now=NOW)
    later = NOW + timedelta(seconds=30)
    lost = follow({"progress": block.wire()}, Marks(revision="a"), fresh=False, deadline=60.0, now=later)
    assert lost == block
    back = follow(
        {"progress": lost.wire()}, Marks(revision="a", ready=1), fresh=False, deadline=60.0, now=later
    )
    assert back == block
    further = follow(
        {"progress": back.wire()}, Marks(revision="a", bytes=1), fresh=False, deadline=60.0, now=later
    )
    assert further.time == later
    assert further.marks.ready == 1


def test_another_revision_or_spec_starts_the_clock_again() -> None:
    before = {"progress": follow({}, Marks(revision="a", ready=2), fresh=False, deadline=60, now=NOW).wire()}
    later = NOW + timedelta(seconds=90)
    assert follow(before, Marks(revision="a"), fresh=False, deadline=60.0, now=later).overdue(later)
    other = follow(before, Marks(revision="b"), fresh=False, deadline=60.0, now=later)
    assert not other.overdue(later)
    assert other.marks.ready == 0
    assert not follow(before, Marks(revision="a"), fresh=True, deadline=60.0, now=later).overdue(later)


def test_a_broken_block_starts_anew() -> None:
    for broken in ({}, {"time": "yesterday"}, {"time": 5}):
        assert follow({"progress": broken}, Marks(), fresh=False, deadline=60.0, now=NOW).time == NOW
