"""The batcher against a simple model of it, over random histories with a clock of their own."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.batcher import Batcher, Dispatch, Entry, Options, Why

FAR = 1000.0


def cost(key: Hashable, rows: int) -> float:
    return 0.01 + 0.001 * rows


class Histories(RuleBasedStateMachine):
    """Requests are numbers; their rows of a buffer are a list that moves as the batcher says."""

    @initialize(
        rows=st.sampled_from([8, 4, 2, 1]), delay=st.sampled_from([0.0, 0.05]), depth=st.integers(1, 2)
    )
    def begin(self, rows: int, delay: float, depth: int) -> None:
        self.batcher: Batcher[int, list[int]] = Batcher(Options(max_rows=rows, max_delay=delay), cost)
        self.depth = depth
        self.now = 0.0
        self.next_item = 0
        self.waiting: dict[int, Entry[int, list[int]]] = {}
        self.running: list[Dispatch[int, list[int]]] = []
        self.given: dict[int, int] = {}
        self.order: dict[Hashable, list[int]] = {}
        self.retried: set[int] = set()

    @rule(
        key=st.sampled_from("aab"),
        several=st.lists(st.sampled_from([1, 1, 1, 2, 3, 10]), min_size=1, max_size=6),
        slack=st.sampled_from([FAR, 0.1, 0.02, 0.0]),
    )
    def arrive(self, key: str, several: list[int], slack: float) -> None:
        for rows in several:
            self._arrive(key, rows, slack)

    def _arrive(self, key: str, rows: int, slack: float) -> None:
        batcher = self.batcher
        limit = batcher.options.max_rows
        item = self.next_item
        self.next_item += 1
        if rows >= limit:
            group = batcher.open(key, rows, [-1] * rows, alone=True)
        else:
            found = batcher.room(key, rows)
            group = found if found is not None else batcher.open(key, limit, [-1] * limit)
        entry = batcher.admit(group, item, rows, now=self.now, deadline=self.now + slack)
        assert group.buffer[entry.start : entry.start + rows] == [-1] * rows, "rows nobody else has"
        group.buffer[entry.start : entry.start + rows] = [item] * rows
        self.waiting[item] = entry
        self.order.setdefault(key, []).append(item)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.waiting)))
        entry = self.waiting.pop(item)
        buffer = entry.group.buffer
        before = entry.group.end
        shift, gone = self.batcher.cancel(entry)
        if shift is not None:
            moved = buffer[shift.source : shift.source + shift.rows]
            buffer[shift.target : shift.target + shift.rows] = moved
        if not gone:
            buffer[entry.group.end : before] = [-1] * (before - entry.group.end)
        self._forget(item)

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.06]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.running) < self.depth)
    @rule()
    def offer(self) -> None:
        idle = not self.running
        chosen = self.batcher.next(self.now, idle=idle)
        limit = self.batcher.options.max_rows
        if chosen is None:
            if idle and self.waiting:
                assert self.batcher.options.max_delay > 0, "with no delay an idle worker gets what waits"
                due = self.batcher.wake(self.now)
                assert due is not None
                assert due > self.now
                oldest = min(entry.arrived for entry in self.waiting.values())
                assert oldest + self.batcher.options.max_delay > self.now, (
                    "nobody waits longer than the delay"
                )
            return
        rows = sum(entry.rows for entry in chosen.entries)
        assert rows <= limit or len(chosen.entries) == 1
        at = chosen.entries[0].start
        for entry in chosen.entries:
            item = entry.item
            assert self.waiting.pop(item) is entry
            assert not entry.waiting
            assert entry.start == at, "rows are neighbours"
            assert chosen.group.buffer[at : at + entry.rows] == [item] * entry.rows, "and its own"
            at += entry.rows
            self.given[item] = self.given.get(item, 0) + 1
            assert self.given[item] == 1 + (item in self.retried)
            if item not in self.retried:
                lane = self.order[chosen.group.key]
                assert lane.pop(0) == item, "in the order they came"
            else:
                assert len(chosen.entries) == 1
        if not idle:
            assert chosen.why is Why.AHEAD
        self.running.append(chosen)

    @precondition(lambda self: self.running)
    @rule(fails=st.booleans())
    def finish(self, fails: bool) -> None:
        done = self.running.pop(0)
        self.batcher.completed(len(done.entries))
        if fails:
            for entry in done.entries:
                if entry.item not in self.retried:
                    self.retried.add(entry.item)
                    self.batcher.again(entry)
                    self.waiting[entry.item] = entry

    def teardown(self) -> None:
        if not hasattr(self, "batcher"):
            return
        drained = [entry.item for group in self.batcher.drain() for entry in group.entries]
        assert sorted(drained) == sorted(self.waiting)

    def _forget(self, item: int) -> None:
        for lane in self.order.values():
            if item in lane:
                lane.remove(item)

    @invariant()
    def counts_are_true(self) -> None:
        if hasattr(self, "batcher"):
            assert self.batcher.queued == len(self.waiting)
            assert self.batcher.queued_rows == sum(entry.rows for entry in self.waiting.values())


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def full(batcher: Batcher[int, None], *rows: int, slack: float = FAR, now: float = 0.0) -> None:
    for item, count in enumerate(rows):
        group = batcher.room("k", count) or batcher.open("k", batcher.options.max_rows, None)
        batcher.admit(group, item, count, now=now, deadline=now + slack)


def test_rows_are_counted_not_requests() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8), cost)
    full(batcher, 3, 3, 3)
    first, second = batcher.next(0.0, idle=True), batcher.next(0.0, idle=True)
    assert first is not None
    assert second is not None
    assert ([e.item for e in first.entries], first.why) == ([0, 1], Why.FULL)
    assert ([e.item for e in second.entries], second.why) == ([2], Why.FREE)


def test_a_busy_worker_gets_a_second_batch_only_when_half_of_one_waits() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8), cost)
    full(batcher, 1, 1, 1)
    assert batcher.next(0.0, idle=False) is None
    full(batcher, 1)
    chosen = batcher.next(0.0, idle=False)
    assert chosen is not None
    assert (len(chosen.entries), chosen.why) == (4, Why.AHEAD)


def test_the_delay_ends_for_the_oldest() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8, max_delay=0.05), cost)
    full(batcher, 1)
    full(batcher, 1, now=0.03)
    assert batcher.next(0.04, idle=True) is None
    assert batcher.wake(0.04) == pytest.approx(0.05)
    chosen = batcher.next(0.05, idle=True)
    assert chosen is not None
    assert (len(chosen.entries), chosen.why) == (2, Why.DELAY)


def test_a_deadline_ends_the_delay_early() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8, max_delay=0.05), cost)
    full(batcher, 1, slack=0.06)
    due = batcher.wake(0.0)
    assert due == pytest.approx(0.06 - 2 * cost("k", 1))
    chosen = batcher.next(due + 1e-9, idle=True)
    assert chosen is not None
    assert chosen.why is Why.DEADLINE


def test_nobody_waits_for_clients_that_all_wait_themselves() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8, max_delay=10.0), cost)
    reasons = []
    now = 0.0
    for _ in range(30):
        full(batcher, 1, 1, now=now)
        chosen = batcher.next(now, idle=True) or batcher.next(now + 10.0, idle=True)
        assert chosen is not None
        reasons.append(chosen.why)
        batcher.completed(len(chosen.entries))
        now += 20.0
    assert reasons[0] is Why.DELAY
    assert reasons[-1] is Why.ALL


def test_a_batch_stops_growing_where_it_would_make_its_first_late() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=8), cost)
    full(batcher, *[1] * 8, slack=0.0125)
    chosen = batcher.next(0.0, idle=True)
    assert chosen is not None
    assert len(chosen.entries) == 2
    assert batcher.queued == 6


def test_the_tightest_deadline_goes_first_then_the_oldest() -> None:
    batcher: Batcher[str, None] = Batcher(Options(max_rows=2), cost)
    for name, now, slack in (("old", 0.0, FAR), ("young", 0.001, FAR), ("urgent", 0.002, 0.015)):
        batcher.admit(batcher.open(name, 2, None), name, 1, now=now, deadline=now + slack)
    order = []
    while (chosen := batcher.next(0.003, idle=True)) is not None:
        order.append(chosen.entries[0].item)
    assert order == ["urgent", "old", "young"]


def test_cancelling_twice_is_an_error() -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=2), cost)
    entry = batcher.admit(batcher.open("k", 2, None), 1, 1, now=0.0, deadline=1.0)
    assert batcher.cancel(entry) == (None, True)
    with pytest.raises(ValueError, match="does not wait"):
        batcher.cancel(entry)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40))
def test_everything_is_given_out_once(rows: list[int]) -> None:
    batcher: Batcher[int, None] = Batcher(Options(max_rows=6), cost)
    full(batcher, *rows)
    seen: list[int] = []
    while (chosen := batcher.next(0.0, idle=True)) is not None:
        seen += [entry.item for entry in chosen.entries]
    assert seen == list(range(len(rows)))
