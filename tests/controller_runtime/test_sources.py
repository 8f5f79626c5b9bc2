import asyncio
import threading

import pytest

from controller_runtime import POD, Key, Object
from controller_runtime._handlers import EnqueueForObject, EnqueueMapped
from controller_runtime._predicates import Predicate
from controller_runtime._sources import Channel, KindSource, TimerSource
from controller_runtime._workqueue import LOW_PRIORITY, WorkQueue
from controller_runtime.errors import CacheSyncTimeout
from controller_runtime.testing.clock import FakeClock, settle

from .fakes import FakeInformer, until


def pod(name: str) -> Object:
    return Object({"metadata": {"name": name, "namespace": "ns", "resourceVersion": "1"}})


async def drain(queue: WorkQueue[Key]) -> list[tuple[str, int]]:
    taken = []
    while len(queue):
        item = await queue.get()
        queue.done(item.key)
        taken.append((item.key.name, item.priority))
    return taken


async def test_kind_source_feeds_until_stopped() -> None:
    queue: WorkQueue[Key] = WorkQueue()
    informer = FakeInformer(POD)
    source = KindSource(informer, EnqueueForObject(), priority=3)
    await source.wait_synced(0.0)  # not started: nothing to wait for
    source.start(queue)
    informer.sync(pod("a"))
    await source.wait_synced(1.0)
    informer.handlers[0].on_add(pod("b"), False)
    assert await drain(queue) == [("b", 3), ("a", LOW_PRIORITY)]
    source.stop()
    source.stop()
    assert informer.handlers == []


async def test_kind_source_is_synced_only_when_its_own_handler_has_the_list() -> None:
    informer = FakeInformer(POD)
    source = KindSource(informer, EnqueueForObject())
    source.start(WorkQueue())
    informer.is_synced.set()
    waiting = asyncio.create_task(source.wait_synced(10.0))
    await settle()
    assert not waiting.done()
    informer.delivered.set()
    await waiting


async def test_kind_source_says_why_the_list_does_not_come() -> None:
    informer = FakeInformer(POD)
    informer.last_error = "pods is forbidden"
    source = KindSource(informer, EnqueueForObject())
    source.start(WorkQueue())
    with pytest.raises(CacheSyncTimeout, match="forbidden"):
        await source.wait_synced(0.001)


async def test_channel_keeps_what_comes_early_and_feeds_every_controller() -> None:
    channel = Channel()
    channel.enqueue(Key("ns", "early"))
    channel.enqueue(Key("ns", "early"))
    channel.publish(pod("published"))
    first: WorkQueue[Key] = WorkQueue()
    second: WorkQueue[Key] = WorkQueue()
    one, two = channel.source(priority=2), channel.source()
    one.start(first)
    await one.wait_synced(0.0)
    two.start(second)
    channel.enqueue(Key("ns", "late"))
    channel.enqueue(Key("ns", "urgent"), priority=9)
    assert await drain(first) == [("urgent", 9), ("early", 2), ("published", 2), ("late", 2)]
    assert await drain(second) == [("urgent", 9), ("late", 0)]
    one.stop()
    channel.enqueue(Key("ns", "more"))
    assert await drain(first) == []
    assert await drain(second) == [("more", 0)]
    two.stop()
    channel.enqueue(Key("ns", "kept"))
    three = channel.source()
    three.start(first)
    assert await drain(first) == [("kept", 0)]


async def test_channel_maps_and_filters_what_is_published() -> None:
    channel = Channel()
    queue: WorkQueue[Key] = WorkQueue()
    source = channel.source(
        EnqueueMapped(lambda obj: [Key("ns", f"owner-of-{obj.name}")]),
        Predicate(generic=lambda obj: obj.name != "ignored"),
    )
    source.start(queue)
    channel.publish(pod("ignored"))
    channel.publish(pod("a"))
    assert await drain(queue) == [("owner-of-a", 0)]


async def test_channel_is_safe_from_other_threads() -> None:
    channel = Channel()
    queue: WorkQueue[Key] = WorkQueue()
    channel.source().start(queue)

    def produce(thread: int) -> None:
        for number in range(50):
            channel.enqueue(Key("ns", f"{thread}-{number}"))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await until(lambda: len(queue) == 200)
    for thread in threads:
        thread.join()


def test_channel_outlives_its_loop() -> None:
    channel = Channel()

    async def start() -> None:
        channel.source().start(WorkQueue())

    asyncio.run(start())
    worker = threading.Thread(target=channel.enqueue, args=(Key("ns", "a"),))
    worker.start()
    worker.join()


async def test_timer_ticks_until_stopped_and_survives_its_callback() -> None:
    clock = FakeClock(start=0.0)
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    ticks: list[float] = []

    def keys() -> list[Key]:
        ticks.append(clock.monotonic())
        if len(ticks) == 2:
            raise RuntimeError("once")
        return [Key("ns", str(len(ticks)))]

    source = TimerSource(5.0, keys, priority=-1, clock=clock)
    source.start(queue)
    await source.wait_synced(0.0)
    await clock.advance(16.0)
    assert ticks == [5.0, 10.0, 15.0]
    assert await drain(queue) == [("1", -1), ("3", -1)]
    source.stop()
    source.stop()
    await clock.advance(50.0)
    assert len(ticks) == 3
    with pytest.raises(ValueError, match="interval"):
        TimerSource(0.0, keys)
