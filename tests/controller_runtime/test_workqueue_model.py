"""The queue against a model simple enough to be obviously right."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller_runtime._workqueue import WorkQueue
from controller_runtime.testing.clock import FakeClock

T = TypeVar("T")
KEYS = st.sampled_from("abcde")
PRIORITIES = st.sampled_from([-100, 0, 5])
DELAYS = st.sampled_from([0.0, 0.0, 1.0, 2.5, 10.0])


@dataclass
class Wanted:
    priority: int
    ready_at: float
    order: int


class QueueMachine(RuleBasedStateMachine):
    """Model: a dict of wanted keys and a set of keys in hand; the next key is a plain sort."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(start=0.0)
        self.queue: WorkQueue[str] = WorkQueue(clock=self.clock, ageing=None)
        self.wanted: dict[str, Wanted] = {}
        self.in_hand: set[str] = set()
        self.order = 0

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.loop.close()

    def eligible(self) -> list[str]:
        now = self.clock.monotonic()
        keys = [key for key, want in self.wanted.items() if want.ready_at <= now and key not in self.in_hand]
        return sorted(keys, key=lambda key: (-self.wanted[key].priority, self.wanted[key].order))

    @rule(key=KEYS, priority=PRIORITIES, after=DELAYS)
    def add(self, key: str, priority: int, after: float) -> None:
        self.queue.add(key, priority=priority, after=after)
        ready_at = self.clock.monotonic() + after
        self.order += 1
        want = self.wanted.get(key)
        if want is None:
            self.wanted[key] = Wanted(priority, ready_at, self.order)
            return
        if priority > want.priority:
            want.priority, want.order = priority, self.order
        want.ready_at = min(want.ready_at, ready_at)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @precondition(lambda self: self.eligible())
    @rule()
    def take(self) -> None:
        expected = self.eligible()[0]
        item = self.run(asyncio.wait_for(self.queue.get(), 5.0))
        assert item.key == expected
        assert item.priority == self.wanted.pop(expected).priority
        assert expected not in self.in_hand
        self.in_hand.add(expected)

    @precondition(lambda self: not self.eligible())
    @rule()
    def nothing_to_take(self) -> None:
        async def attempt() -> bool:
            task = asyncio.ensure_future(self.queue.get())
            for _ in range(3):
                await asyncio.sleep(0)
            blocked = not task.done()
            task.cancel()
            await asyncio.wait([task])
            return blocked

        assert self.run(attempt())

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.in_hand.remove(key)
        self.queue.done(key)

    @invariant()
    def counts_agree(self) -> None:
        now = self.clock.monotonic()
        statistics = self.queue.statistics()
        ready = sum(want.ready_at <= now for want in self.wanted.values())
        assert statistics.ready == ready == len(self.queue)
        assert statistics.waiting == len(self.wanted) - ready
        assert statistics.processing == len(self.in_hand)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
