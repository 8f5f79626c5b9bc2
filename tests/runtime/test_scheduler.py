"""The scheduler of models over random histories with a clock of their own."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.scheduler import LONGEST_WAIT, Run, Scheduler, Share

FAR = 1e9


@dataclass(slots=True, kw_only=True)
class Asks:
    """A model that wants to run: its runs take `cost` x one of `noise` seconds; it rests `think` seconds
    after each, and its requests have `slack` seconds.
    """

    weight: float = 100
    need: int = 1
    cost: float = 0.01
    workers: int = 1
    noise: Sequence[float] = (1.0,)
    think: float = 0.0
    slack: float = FAR


@dataclass
class World:
    """Models on a machine: asks the scheduler as dispatchers do, and checks its promises at every step."""

    slots: int
    models: Sequence[Asks]
    now: float = 0.0
    longest: float = 0.0
    waits: list[float] = field(default_factory=list)
    events: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.slots)
        self.shares = [self.scheduler.join(model.weight, model.need) for model in self.models]
        self.waits = [0.0] * len(self.models)
        self.longest = max(model.cost * max(model.noise) for model in self.models)
        self._resting: list[list[float]] = [[0.0] * model.workers for model in self.models]
        self._ends: list[tuple[float, int, int, Run]] = []
        self._asked: dict[int, float] = {}
        self._noise = [0] * len(self.models)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self._begin()
            assert self.scheduler.used <= self.slots
            assert self.scheduler.used == sum(run.slots for *_, run in self._ends)
            assert self._ends or not self.scheduler.waiting, "an idle machine never waits"
            rested = [at for rests in self._resting for at in rests if at > self.now]
            ends = [self._ends[0][0]] if self._ends else []
            self.now = min([*rested, *ends])
            while self._ends and self._ends[0][0] <= self.now:
                _, _, index, run = heapq.heappop(self._ends)
                self.scheduler.end(run, self.now)
                self._resting[index].append(self.now + self.models[index].think)
                self._kick(index)  # a dispatcher asks again before anybody else is told

    def _begin(self) -> None:
        while (share := self.scheduler.next(self.now)) is not None:
            self._kick(self.shares.index(share))
        for index in range(len(self.models)):
            self._kick(index)
        while (share := self.scheduler.next(self.now)) is not None:
            self._kick(self.shares.index(share))

    def _kick(self, index: int) -> None:
        while self._offer(index):
            pass

    def _offer(self, index: int) -> bool:
        model, share, scheduler = self.models[index], self.shares[index], self.scheduler
        rested = next((at for at in self._resting[index] if at <= self.now), None)
        if rested is None:
            return False
        asked = self._asked.setdefault(index, self.now)
        assert self.now - asked <= LONGEST_WAIT + len(self.models) * self.longest, "nobody starves"
        due = asked + model.slack
        may = scheduler.fits(share)
        if not may and not scheduler.admits(share, self.now, due=due, cost=model.cost):
            self._excused(share)
            return False
        self._resting[index].remove(rested)
        self.waits[index] = max(self.waits[index], self.now - self._asked.pop(index))
        noise = model.noise[self._noise[index] % len(model.noise)]
        self._noise[index] += 1
        run = scheduler.begin(share, self.now, model.cost)
        assert run.slots == min(model.need, self.slots), "a run has all the slots that it needs"
        self.events += 1
        heapq.heappush(self._ends, (self.now + model.cost * noise, self.events, index, run))
        return True

    def _excused(self, share: Share) -> None:
        """Slots that would be enough for this one are free only for somebody who needs more than are free, or
        whose turn it is first.
        """
        chosen = self.scheduler.next(self.now)
        if chosen is not None:
            return
        free = self.slots - self.scheduler.used
        if min(share.need, self.slots) <= free:
            assert any(min(other.need, self.slots) > free for other in self.scheduler.waiting)

    def used(self) -> list[float]:
        """Slots that each model had, on average."""
        return [share.slot_seconds / self.now for share in self.shares]


@st.composite
def asking(draw: st.DrawFn) -> Asks:
    return Asks(
        weight=draw(st.sampled_from([1, 10, 100, 100, 300, 1000])),
        need=draw(st.integers(1, 5)),
        cost=draw(st.sampled_from([0.0, 0.001, 0.01, 0.1, 1.0])),
        workers=draw(st.integers(1, 4)),
        noise=draw(st.sampled_from([(1.0,), (0.5, 1.5), (1.0, 1.0, 1.0, 4.0)])),
        think=draw(st.sampled_from([0.0, 0.0, 0.02, 0.5])),
        slack=draw(st.sampled_from([FAR, FAR, 0.2, 0.02, 0.0])),
    )


def busy(model: Asks) -> Asks:
    """A run of no time at all would stop the clock."""
    model.cost = model.cost or 0.005
    return model


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.lists(asking().map(busy), min_size=1, max_size=5), st.sampled_from([0.2, 2.0]))
def test_whatever_is_asked_the_budget_holds_and_nobody_starves(
    slots: int, models: list[Asks], seconds: float
) -> None:
    World(slots, models).run(seconds)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([50, 100, 200, 300]), min_size=2, max_size=4),
    st.lists(st.sampled_from([0.004, 0.01, 0.03]), min_size=4, max_size=4),
    st.integers(1, 3),
)
def test_slot_seconds_follow_the_weights(weights: list[float], costs: list[float], slots: int) -> None:
    """Of models that always want to run, whatever their runs take, and with guesses that are wrong."""
    models = [
        Asks(weight=weight, cost=cost, workers=slots, noise=(0.5, 1.0, 1.6))
        for weight, cost in zip(weights, costs, strict=False)
    ]
    world = World(slots, models)
    world.run(5.0)
    for weight, used in zip(weights, world.used(), strict=True):
        fair = slots * weight / sum(weights)
        assert used == pytest.approx(fair, rel=0.1)


def test_equal_weights_are_equal_shares_of_the_machine_and_not_of_the_runs() -> None:
    world = World(1, [Asks(cost=0.05), Asks(cost=0.005), Asks(cost=0.02)])
    world.run(20.0)
    assert world.used() == pytest.approx([1 / 3] * 3, rel=0.05)


def test_a_large_model_gets_its_slots_and_the_small_ones_the_others() -> None:
    large = Asks(need=3, cost=0.1)
    alone = World(16, [large, Asks(cost=0.01, workers=16)])
    alone.run(20.0)
    assert alone.used() == pytest.approx([3.0, 13.0], rel=0.05), "3 of 16, and the other 13"
    tight = World(4, [large, Asks(cost=0.01, workers=4), Asks(cost=0.03, workers=4)])
    tight.run(20.0)
    assert tight.used() == pytest.approx([4 / 3] * 3, rel=0.1), (
        "although three slots rarely come free at once"
    )
    assert sum(tight.used()) > 3.6, "and few wait for it empty"


def test_a_low_priority_has_its_turn_within_the_longest_wait() -> None:
    world = World(1, [Asks(weight=1000, cost=0.02), Asks(weight=1, cost=1.0)])
    world.run(60.0)
    assert world.waits[1] <= LONGEST_WAIT + 0.02
    assert world.used()[1] == pytest.approx(1 / 11, rel=0.2)


def test_who_would_be_late_goes_first_but_not_for_ever() -> None:
    """A rare request with an SLA passes two saturated models; one that floods gets its share only."""
    rare = World(1, [Asks(cost=0.01), Asks(cost=0.01), Asks(cost=0.01, think=0.1, slack=0.02)])
    rare.run(10.0)
    assert rare.waits[2] <= 0.011, "it waits for the run that is on"
    flood = World(1, [Asks(cost=0.01), Asks(cost=0.01), Asks(cost=0.01, slack=0.02, workers=4)])
    flood.run(60.0)
    assert flood.used() == pytest.approx([1 / 3] * 3, rel=0.1)


def test_idle_time_is_no_claim() -> None:
    """Who was away gets what is fair from now on, and at most a second more."""
    world = World(1, [Asks(cost=0.01), Asks(cost=0.01)])
    world._resting[1] = [100.0]
    world.run(100.0)
    before = [share.slot_seconds for share in world.shares]
    world.run(20.0)
    gained = [share.slot_seconds - was for share, was in zip(world.shares, before, strict=True)]
    assert gained[1] - gained[0] <= 2.2


def test_who_leaves_holds_nothing_any_more() -> None:
    scheduler = Scheduler(2)
    stays, leaves = scheduler.join(100, 2), scheduler.join(100, 2)
    run = scheduler.begin(leaves, 0.0, 1.0)
    assert not scheduler.admits(stays, 0.1, due=FAR, cost=1.0)
    assert not scheduler.admits(leaves, 0.1, due=FAR, cost=1.0)
    scheduler.leave(leaves, 0.2)
    assert (scheduler.used, scheduler.waiting) == (0, [stays])
    assert scheduler.next(0.2) is stays
    scheduler.end(run, 0.3)
    assert scheduler.used == 0
    assert leaves.slot_seconds == pytest.approx(0.4)


def test_a_second_batch_in_the_same_worker_keeps_the_slots_and_is_charged() -> None:
    scheduler = Scheduler(1)
    share = scheduler.join(100, 1)
    run = scheduler.begin(share, 0.0, 0.1)
    scheduler.follow(run, 0.2, 0.1)
    assert scheduler.used == 1
    scheduler.end(run, 0.5)
    assert share.slot_seconds == pytest.approx(0.5)
    assert share.passed == pytest.approx(0.005)


def test_fewer_slots_let_what_runs_end_first() -> None:
    scheduler = Scheduler(3)
    share = scheduler.join(100, 1)
    runs = [scheduler.begin(share, 0.0, 1.0) for _ in range(3)]
    scheduler.slots = 1
    for run in runs:
        assert not scheduler.admits(share, 0.5, due=FAR, cost=1.0)
        scheduler.end(run, 1.0)
    assert scheduler.admits(share, 1.0, due=FAR, cost=1.0)
