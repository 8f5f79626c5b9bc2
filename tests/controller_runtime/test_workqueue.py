import asyncio

import pytest

from controller_runtime._ratelimit import ExponentialRateLimiter
from controller_runtime._workqueue import LOW_PRIORITY, Ageing, Item, QueueShutDown, WorkQueue
from controller_runtime.testing.clock import FakeClock, settle


class Recorder:
    def __init__(self) -> None:
        self.depth: dict[int, int] = {}
        self.adds = 0
        self.retries = 0
        self.waited: list[float] = []
        self.worked: list[float] = []

    def added(self, priority: int) -> None:
        self.adds += 1
        self.depth[priority] = self.depth.get(priority, 0) + 1

    def moved(self, before: int, after: int) -> None:
        self.depth[before] -= 1
        self.depth[after] = self.depth.get(after, 0) + 1

    def taken(self, priority: int, waited: float) -> None:
        self.depth[priority] -= 1
        self.waited.append(waited)

    def done(self, worked: float) -> None:
        self.worked.append(worked)

    def retried(self) -> None:
        self.retries += 1

    def now(self) -> dict[int, int]:
        return {priority: count for priority, count in self.depth.items() if count}


async def take(queue: WorkQueue[str], count: int) -> list[str]:
    taken = []
    for _ in range(count):
        item = await asyncio.wait_for(queue.get(), 5.0)
        queue.done(item.key)
        taken.append(item.key)
    return taken


async def is_blocked(queue: WorkQueue[str]) -> bool:
    task = asyncio.create_task(queue.get())
    await settle()
    blocked = not task.done()
    task.cancel()
    await asyncio.wait([task])
    return blocked


async def test_keys_are_deduplicated_and_come_out_in_order() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abacb":
        queue.add(key)
    assert len(queue) == 3
    assert await take(queue, 3) == ["a", "b", "c"]
    assert await is_blocked(queue)


async def test_a_key_in_hand_is_held_back_and_not_lost() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert (await queue.get()).key == "a"
    for _ in range(1000):
        queue.add("a")
    assert len(queue) == 1
    assert await is_blocked(queue)
    queue.done("a")
    assert await take(queue, 1) == ["a"]
    assert await is_blocked(queue)


async def test_done_without_get_is_a_bug_that_shows() -> None:
    queue: WorkQueue[str] = WorkQueue()
    with pytest.raises(KeyError):
        queue.done("a")


async def test_priority_first_then_arrival_and_a_raised_key_goes_to_the_end_of_its_level() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("low1", "low2", "raised"):
        queue.add(key, priority=LOW_PRIORITY)
    queue.add("high")
    queue.add("raised")
    queue.add("high", priority=LOW_PRIORITY)  # a lower priority changes nothing
    assert await take(queue, 4) == ["high", "raised", "low1", "low2"]


async def test_a_key_keeps_the_earlier_time() -> None:
    clock = FakeClock(start=0.0)
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("a", after=10.0)
    queue.add("a", after=20.0)
    queue.add("b", after=30.0)
    queue.add("b", after=5.0)
    assert len(queue) == 0
    assert queue.statistics().waiting == 2
    await clock.advance(5.0)
    assert await take(queue, 1) == ["b"]
    await clock.advance(4.9)
    assert await is_blocked(queue)
    await clock.advance(0.2)
    assert await take(queue, 1) == ["a"]
    await clock.advance(100.0)
    assert await is_blocked(queue)


async def test_adding_without_delay_makes_a_waiting_key_ready_once() -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("a", after=10.0)
    queue.add("a")
    assert await take(queue, 1) == ["a"]
    await clock.advance(20.0)
    assert await is_blocked(queue)


async def test_a_delayed_add_of_a_ready_key_does_not_delay_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a", after=10.0)
    assert await take(queue, 1) == ["a"]


async def test_a_key_that_becomes_ready_while_in_hand_waits_for_done() -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("a")
    await queue.get()
    queue.add("a", after=1.0)
    await clock.advance(2.0)
    assert await is_blocked(queue)
    queue.done("a")
    assert await take(queue, 1) == ["a"]


async def test_rate_limited_adds_back_off_and_forget_resets() -> None:
    clock = FakeClock(start=0.0)
    queue: WorkQueue[str] = WorkQueue(clock=clock, limiter=ExponentialRateLimiter(base=1.0, maximum=100.0))
    times = []
    for expected in (1.0, 2.0, 4.0):
        started = clock.monotonic()
        queue.add("a", rate_limited=True)
        await clock.advance(expected - 0.01)
        assert await is_blocked(queue)
        await clock.advance(0.01)
        await take(queue, 1)
        times.append(clock.monotonic() - started)
    assert times == pytest.approx([1.0, 2.0, 4.0])
    assert queue.failures("a") == 3
    queue.forget("a")
    queue.add("a", rate_limited=True)
    await clock.advance(1.0)
    assert await take(queue, 1) == ["a"]


async def test_the_shorter_of_two_delays_holds() -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock, limiter=ExponentialRateLimiter(base=8.0, maximum=100.0))
    queue.add("a", rate_limited=True, after=2.0)
    await clock.advance(2.0)
    assert await take(queue, 1) == ["a"]
    assert queue.failures("a") == 1


async def test_shutdown_wakes_workers_at_once_and_hands_out_nothing_queued() -> None:
    """controller-runtime#3540, #3239: a shutdown with keys queued, delayed and in hand must not hang."""
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("in-hand")
    await queue.get()
    waiters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.add("in-hand")
    queue.add("delayed", after=5.0)
    queue.add("ready")
    queue.shutdown()
    results = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 5.0)
    assert all(isinstance(result, QueueShutDown) for result in results)
    with pytest.raises(QueueShutDown):
        await queue.get()
    queue.done("in-hand")
    queue.add("ignored")
    assert queue.failures("ignored") == 0
    assert queue.is_shut_down
    assert clock.pending == 0
    queue.shutdown()


async def test_waiting_workers_get_the_highest_priority_of_one_turn() -> None:
    """controller-runtime#3363: workers woken by the first of several keys must still see the best one."""
    queue: WorkQueue[str] = WorkQueue()
    got: list[str] = []

    async def work() -> None:
        got.append((await queue.get()).key)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(work())
        await settle()
        queue.add("low", priority=LOW_PRIORITY)
        queue.add("middle")
        queue.add("high", priority=5)
    assert got == ["high", "middle"]
    assert await take(queue, 1) == ["low"]


async def test_cancelling_a_woken_worker_passes_its_turn_on() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 5.0) == Item("a", 0)
    assert first.cancelled()


async def test_cancelling_a_waiting_worker_leaves_nothing_behind() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        assert await is_blocked(queue)
    assert not queue._getters


async def test_get_gives_other_tasks_a_turn_even_when_keys_abound() -> None:
    queue: WorkQueue[int] = WorkQueue()
    for key in range(100):
        queue.add(key)
    turns: list[int] = []

    async def other() -> None:
        for turn in range(10):
            turns.append(turn)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(20):
        queue.done((await queue.get()).key)
    assert len(turns) == 10
    await task


async def test_ageing_bounds_starvation_both_ways() -> None:
    """controller-runtime#3496: a steady stream of urgent keys must not starve the initial list."""
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock, ageing=Ageing(after=10.0, share=4))
    for number in range(10):
        queue.add(f"low{number}", priority=LOW_PRIORITY)
    taken: list[str] = []
    for number in range(40):
        if number == 20:
            clock.jump(10.0)
        queue.add(f"urgent{number}")
        taken += await take(queue, 1)
    lows = [index for index, key in enumerate(taken) if key.startswith("low")]
    assert [taken[index] for index in lows] == [f"low{number}" for number in range(5)]
    assert lows == [23, 27, 31, 35, 39]


async def test_without_ageing_priority_is_strict() -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock, ageing=None)
    queue.add("low", priority=LOW_PRIORITY)
    clock.jump(10_000.0)
    for number in range(50):
        queue.add(str(number))
        assert await take(queue, 1) == [str(number)]
    assert await take(queue, 1) == ["low"]


async def test_metrics_count_ready_keys_only() -> None:
    clock = FakeClock(start=0.0)
    recorder = Recorder()
    queue: WorkQueue[str] = WorkQueue(clock=clock, metrics=recorder)
    queue.add("delayed", after=3.0)
    assert (recorder.adds, recorder.now(), recorder.retries) == (0, {}, 1)
    queue.add("delayed", priority=2, after=5.0)
    assert recorder.now() == {}
    await clock.advance(3.0)
    queue.add("low", priority=LOW_PRIORITY)
    assert recorder.now() == {2: 1, LOW_PRIORITY: 1}
    queue.add("low", priority=7)
    assert recorder.now() == {2: 1, 7: 1}
    clock.jump(4.0)
    assert (await queue.get()).key == "low"
    queue.add("low", priority=1)
    queue.add("low", priority=3)
    assert recorder.now() == {2: 1, 3: 1}
    clock.jump(1.5)
    assert queue.unfinished_seconds() == 1.5
    assert queue.longest_running_seconds() == 1.5
    queue.done("low")
    assert await take(queue, 2) == ["low", "delayed"]
    assert recorder.now() == {}
    assert recorder.waited == [4.0, 1.5, 5.5]
    assert recorder.worked == [1.5, 0.0, 0.0]
    assert queue.longest_running_seconds() == 0.0


async def test_stale_heap_items_are_swept() -> None:
    """A key that asks to be seen in an hour, and is woken every second, must not grow the heaps."""
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add("starved", priority=LOW_PRIORITY)
    for _ in range(2000):
        queue.add("a", after=3600.0)
        queue.add("a", priority=-1)
        queue.add("a", priority=0)
        assert await take(queue, 1) == ["a"]
    assert len(queue._waiting) < 200
    assert len(queue._ready) < 200
    assert len(queue._oldest) < 200
    assert clock.pending <= 1
