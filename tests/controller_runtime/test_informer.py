"""Handlers: order, completeness, isolation; with a scripted server and a fake clock."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from controller_runtime import CacheSyncTimeout, Key, NotCached, Object
from controller_runtime._informer import SharedInformer, version_number
from controller_runtime._informers import MultiInformer
from controller_runtime.testing import FakeClock, settle

from .scripted import (
    THING,
    ScriptedSource,
    ScriptedStream,
    bookmark,
    error_event,
    event,
    failure,
    page,
    thing,
)


class Recorder:
    """A handler that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        self.heard.append(("add", obj.name, in_initial_list))

    def on_update(self, old: Object, new: Object) -> None:
        self.heard.append(("update", old.name, old.resource_version, new.resource_version))

    def on_delete(self, obj: Object, state_unknown: bool) -> None:
        self.heard.append(("delete", obj.name, obj.resource_version, state_unknown))


class CountingMetrics:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.kept = (0, 0)

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def listed(self) -> None:
        self._count("listed")

    def watch_ended(self, reason: str) -> None:
        self._count(reason)

    def malformed(self) -> None:
        self._count("malformed")

    def handler_failed(self) -> None:
        self._count("handler_failed")

    def objects(self, count: int, size: int) -> None:
        self.kept = (count, size)


class World:
    def __init__(self, *, namespace: str = "") -> None:
        self.clock = FakeClock()
        self.source = ScriptedSource()
        self.metrics = CountingMetrics()
        self.stream = ScriptedStream()
        self.informer = SharedInformer(
            THING,
            self.source,
            metrics=self.metrics,
            namespace=namespace,
            clock=self.clock,
            random=lambda: 0.5,
        )

    def script(self, *items: dict[str, object], version: int = 10) -> None:
        self.source.on_list(page(*items, version=version))
        self.source.on_watch(self.stream)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.informer.run())
        await self.clock.advance()
        try:
            yield
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def send(self, *lines: bytes) -> None:
        self.stream.send(b"".join(lines))
        await self.clock.advance()


async def test_handlers_hear_the_list_and_then_every_change() -> None:
    world, heard = World(), Recorder()
    registration = world.informer.add_handler(heard)
    world.script(thing("a", 1), thing("b", 2))
    assert not registration.has_synced()
    async with world.running():
        assert registration.has_synced()
        await world.send(
            event("MODIFIED", thing("a", 11)),
            event("DELETED", thing("b", 12)),
            event("ADDED", thing("c", 13)),
        )
        assert heard.heard == [
            ("add", "a", True),
            ("add", "b", True),
            ("update", "a", "1", "11"),
            ("delete", "b", "12", False),
            ("add", "c", False),
        ]
        assert world.informer.last_resource_version == "13"
        assert world.metrics.kept[0] == 2
        assert world.informer.kind is THING


async def test_what_vanished_while_away_is_one_delete_of_unknown_state() -> None:
    world, heard = World(), Recorder()
    world.informer.add_handler(heard)
    world.script(thing("a", 1), thing("gone", 2))
    world.source.on_list(page(thing("a", 1), thing("new", 20), version=30))
    async with world.running():
        heard.heard.clear()
        await world.send(error_event(410))
        await world.clock.advance(2)
        assert heard.heard == [
            ("delete", "gone", "2", True),
            ("update", "a", "1", "1"),
            ("add", "new", False),
        ]
        assert world.metrics.counts == {"listed": 2, "expired": 1}


async def test_recreated_under_the_same_name_is_an_update_of_another_uid() -> None:
    uids: list[tuple[str, str]] = []

    class Uids(Recorder):
        def on_update(self, old: Object, new: Object) -> None:
            uids.append((old.uid, new.uid))

    world = World()
    world.informer.add_handler(Uids())
    world.script(thing("a", 1))
    world.source.on_list(page(thing("a", 20, uid="second"), version=30))
    async with world.running():
        await world.send(error_event(410))
        await world.clock.advance(2)
        assert uids == [("uid-a", "second")]


async def test_the_store_is_whole_before_the_first_handler_hears() -> None:
    seen: list[list[str]] = []
    world = World()

    class Looks(Recorder):
        def on_add(self, obj: Object, in_initial_list: bool) -> None:
            seen.append(sorted(held.name for held in world.informer.list()))

    world.informer.add_handler(Looks())
    world.script(thing("a", 1), thing("b", 2), thing("c", 3))
    async with world.running():
        assert seen == [["a", "b", "c"]] * 3


async def test_a_late_handler_hears_what_is_there_and_syncs_by_itself() -> None:
    world = World()
    world.script(thing("a", 1))
    async with world.running():
        late = Recorder()
        registration = world.informer.add_handler(late)
        assert world.informer.synced
        assert not registration.has_synced(), "synced means delivered, not only listed"
        await registration.wait_synced(1)
        await world.send(event("MODIFIED", thing("a", 11)))
        assert late.heard == [("add", "a", True), ("update", "a", "1", "11")]


async def test_a_failing_handler_stops_nobody() -> None:
    class Fails(Recorder):
        def on_add(self, obj: Object, in_initial_list: bool) -> None:
            raise RuntimeError("bug")

    world, bad, good = World(), Fails(), Recorder()
    world.informer.add_handler(bad)
    world.informer.add_handler(good)
    world.script(thing("a", 1))
    with capture_logs() as logs:
        async with world.running():
            await world.send(event("DELETED", thing("a", 12)))
    assert bad.heard == [("delete", "a", "12", False)]
    assert len(good.heard) == 2
    assert world.metrics.counts["handler_failed"] == 1
    assert logs[0]["handler"] == "Fails"


async def test_a_removed_handler_hears_nothing_more_not_even_what_waits() -> None:
    world, heard = World(), Recorder()
    world.script(thing("a", 1))
    async with world.running():
        registration = world.informer.add_handler(heard)
        registration.remove()
        registration.remove()
        await world.send(event("ADDED", thing("b", 11)))
        assert heard.heard == []


async def test_adding_and_removing_handlers_leaves_nothing_behind() -> None:
    world = World()
    world.script(*(thing(f"t{number}", number + 1) for number in range(20)))
    async with world.running():
        tasks = len(asyncio.all_tasks())
        for _ in range(100):
            world.informer.add_handler(Recorder()).remove()
        await settle()
        gc.collect()
        assert len(asyncio.all_tasks()) == tasks
        assert [obj for obj in gc.get_objects() if isinstance(obj, Recorder)] == []


async def test_a_busy_handler_lets_the_loop_run() -> None:
    turns = 0
    done = asyncio.Event()

    class Slow(Recorder):
        def on_add(self, obj: Object, in_initial_list: bool) -> None:
            end = asyncio.get_running_loop().time() + 0.004
            while asyncio.get_running_loop().time() < end:
                pass
            self.heard.append((obj.name, turns))
            if len(self.heard) == 10:
                done.set()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    world, slow = World(), Slow()
    world.informer.add_handler(slow)
    world.script(*(thing(f"t{number}", number + 1) for number in range(10)))
    counting = asyncio.create_task(count())
    async with world.running():
        await asyncio.wait_for(counting, 10)
        assert [name for name, _ in slow.heard] == [f"t{number}" for number in range(10)]
        assert len({turn for _, turn in slow.heard}) >= 5, "at most two deliveries a turn"


async def test_resync_replays_the_store_without_the_server() -> None:
    world, heard = World(), Recorder()
    world.script(thing("a", 1))
    world.stream.send(bookmark(10))
    async with world.running():
        world.informer.add_handler(heard)
        await settle()
        heard.heard.clear()
        world.source.on_watch(*(ScriptedStream() for _ in range(400)))
        world.clock.jump(36_000)
        await world.clock.advance()
        assert heard.heard == [("update", "a", "1", "1")]
        assert len(world.source.lists) == 1


async def test_waiting_for_a_version() -> None:
    world = World()
    world.script(thing("a", 1))
    async with world.running():
        await world.informer.wait_version(10)
        waiter = asyncio.create_task(world.informer.wait_version(15))
        other = asyncio.create_task(world.informer.wait_version(99))
        await settle()
        await world.send(event("ADDED", thing("b", 14)))
        assert not waiter.done()
        await world.send(bookmark(15))
        assert waiter.done()
        other.cancel()
        await settle()
        assert world.informer._waiting == []


async def test_the_cause_is_logged_at_once_and_told_when_time_is_up() -> None:
    world = World()
    message = 'things.example.org is forbidden: User "x" cannot list resource "things"'
    world.source.on_list(failure(403, "Forbidden", message))
    with capture_logs() as logs:
        async with world.running():
            waiting = asyncio.create_task(world.informer.wait_synced(5))
            await world.clock.advance(6)
            with pytest.raises(CacheSyncTimeout) as raised:
                await waiting
    expected = (
        f"things.example.org in all namespaces: 403 Forbidden: {message}; "
        "grant get, list, watch on things in group example.org"
    )
    assert str(raised.value) == f"not synced after 5 s: {expected}"
    assert (logs[0]["error"], logs[0]["log_level"]) == (expected, "warning")
    assert world.informer.last_error == expected


async def test_a_repeated_cause_is_logged_once_a_minute_and_recovery_once() -> None:
    world = World(namespace="ns")
    world.source.on_list(*(failure(404) for _ in range(8)), page(version=1))
    with capture_logs() as logs:
        async with world.running():
            await world.clock.advance(81)
            assert world.informer.synced
            assert world.informer.last_error == ""
    assert [line["event"] for line in logs] == ["watch failed", "watch failed", "watch works again"]
    assert "things.example.org in namespace ns: example.org/v1 Thing is not installed" in logs[0]["error"]


async def test_no_answer_at_all_is_a_cause_too() -> None:
    world = World()
    async with world.running():
        waiting = asyncio.create_task(world.informer.wait_synced(5))
        await world.clock.advance(6)
        with pytest.raises(CacheSyncTimeout, match="no answer from the API server yet"):
            await waiting
        assert not world.informer.stale


async def test_malformed_objects_do_not_hold_up_the_sync() -> None:
    world = World()
    world.script(thing("", 1), thing("a", 2))
    async with world.running():
        assert world.informer.synced
        assert world.metrics.counts["malformed"] == 1
        assert world.informer.get(Key("ns", "a")) is not None


async def test_several_namespaces_are_one_informer() -> None:
    worlds = {name: World(namespace=name) for name in ("one", "two")}
    for version, (name, world) in enumerate(worlds.items(), 10):
        world.script(thing("a", version, namespace=name, labels={"in": name}), version=version)
    both = MultiInformer([world.informer for world in worlds.values()])
    heard = Recorder()
    registration = both.add_handler(heard)
    assert not both.synced
    assert not registration.has_synced()
    assert both.last_resource_version == ""
    task = asyncio.create_task(both.run())
    try:
        await both.wait_synced(1)
        await registration.wait_synced(1)
        assert both.kind is THING
        assert registration.has_synced()
        assert both.last_resource_version == "10"
        assert both.last_error == ""
        assert [obj.namespace for obj in both.list()] == ["one", "two"]
        assert [obj.namespace for obj in both.list(namespace="two", labels={"in": "two"})] == ["two"]
        assert both.list(namespace="three") == []
        found = both.get(Key("two", "a"))
        assert found is not None
        assert found.resource_version == "11"
        assert both.get(Key("three", "a")) is None
        with pytest.raises(NotCached):
            both.list(index=("none", "x"))
        registration.remove()
        assert len(heard.heard) == 2
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_versions_are_numbers_or_nothing() -> None:
    assert version_number("12") == 12
    assert version_number("") == version_number("abc") == -1
