"""What a reflector does with a link: silence, odd content, batches, streamed lists. Time is a fake clock."""

from __future__ import annotations

import sys

import pytest

from controller_runtime import ReflectorOptions
from controller_runtime.errors import TransportError

from .reflector_world import World, started
from .scripted import ScriptedStream, bookmark, error_event, event, failure, page, thing


async def test_a_silent_link_is_dropped_once_bookmarks_were_seen() -> None:
    world = World()
    stream = started(bookmark(20), world=world)
    second = ScriptedStream()
    world.source.on_watch(second)
    async with world.running():
        await world.clock.advance(149)
        assert not stream.aborted
        await world.clock.advance(2)
        assert stream.aborted
        assert world.sink.ends == ["idle"]
        assert world.source.watches[1]["resourceVersion"] == "20"
        await world.clock.advance(150)
        assert second.aborted, "the next link is watched from its start"


async def test_data_keeps_a_link_alive() -> None:
    world = World()
    stream = started(bookmark(20), world=world)
    async with world.running():
        for version in range(21, 23):
            await world.clock.advance(140)
            stream.send(bookmark(version))
            await world.clock.advance()
        assert not stream.aborted


async def test_without_bookmarks_only_the_servers_own_timeout_counts() -> None:
    world = World()
    stream = started(world=world)
    async with world.running():
        await world.clock.advance(304)
        assert not stream.aborted
        await world.clock.advance(1)
        assert stream.aborted
        assert world.sink.ends == ["deadline"]


async def test_malformed_items_and_events_are_skipped_and_counted() -> None:
    nameless = thing("", 3)
    world = World()
    world.source.on_list(page(nameless, thing("a", 1), {"metadata": {"labels": 3}}, version=10))
    world.source.on_watch(
        ScriptedStream(
            b"not json\n",
            event("ADDED", nameless),
            event("ADDED", thing("b", 12)),
            event("WHAT", thing("c", 13)),
        )
    )
    async with world.running():
        assert world.sink.held == {"a": "1", "b": "12"}
        assert world.sink.bad == 5


async def test_what_comes_in_one_read_is_one_batch() -> None:
    world = World()
    stream = started(world=world)
    async with world.running():
        whole = event("ADDED", thing("b", 15)) + event("DELETED", thing("a", 16)) + bookmark(17)
        stream.send(whole[:40], whole[40:])
        await world.clock.advance()
        assert world.sink.batches == [2]
        assert world.sink.held == {"b": "15"}
        assert world.sink.version == "17"


async def test_a_missing_kind_is_asked_for_every_ten_seconds() -> None:
    world = World()
    world.source.on_list(*(failure(404) for _ in range(5)))
    async with world.running():
        await world.clock.advance(40)
        assert world.sink.pauses == [10.0] * 5


async def test_an_answer_that_is_no_list_is_a_failure_not_a_crash() -> None:
    world = World()
    world.source.on_list(b"<html>", page(thing("a", 1), version=3))
    async with world.running():
        await world.clock.advance(0.8)
        assert world.sink.held == {"a": "1"}


async def test_the_page_is_not_kept_in_memory() -> None:
    body = page(*(thing(f"t{number}", number + 1) for number in range(50)), version=99)
    before = sys.getrefcount(body)
    world = World()
    world.source.on_list(body)
    async with world.running():
        assert len(world.sink.last) == 50
        assert sys.getrefcount(body) == before, "an entry holds on to the page it came from"


async def test_stale_when_nothing_was_heard_for_longer_than_a_watch_lasts() -> None:
    world = World()
    started(bookmark(20), world=world)
    async with world.running():
        assert not world.reflector.stale
        world.source.on_watch(*(TransportError("refused") for _ in range(20)))
        await world.clock.advance(200)
        assert not world.reflector.stale
        await world.clock.advance(20)
        assert world.reflector.stale
        world.source.on_list(page(version=30))


STREAMED = ReflectorOptions(watch_list=True)


async def test_streamed_list_is_published_at_its_closing_bookmark() -> None:
    world = World(STREAMED)
    stream = ScriptedStream(
        event("ADDED", thing("a", 5)),
        event("ADDED", thing("b", 6)) + event("DELETED", thing("b", 8)),
        bookmark(9),
    )
    world.source.on_watch(stream)
    async with world.running():
        first = world.source.watches[0]
        assert (first["sendInitialEvents"], first["resourceVersionMatch"]) == ("true", "NotOlderThan")
        assert world.sink.replaced == 0
        assert world.reflector.version == "", "initial events are in no order: nothing to resume from"
        stream.send(bookmark(10, end=True) + event("ADDED", thing("c", 11)))
        await world.clock.advance()
        assert world.sink.held == {"a": "5", "c": "11"}
        assert world.sink.version == "11"
        assert world.source.lists == []
        await world.clock.advance(100)
        assert not stream.aborted, "the deadline of the list does not end the watch"


@pytest.mark.parametrize("error", [failure(422, "Invalid"), failure(400, "BadRequest")])
async def test_a_server_that_cannot_stream_is_listed(error: Exception) -> None:
    world = World(STREAMED)
    world.source.on_watch(error, ScriptedStream())
    world.source.on_list(page(thing("a", 5), version=10))
    async with world.running():
        await world.clock.advance(0.8)
        assert world.sink.held == {"a": "5"}
        assert "sendInitialEvents" not in world.source.watches[1]


async def test_a_server_that_never_ends_the_initial_events_is_listed() -> None:
    world = World(STREAMED)
    world.source.on_watch(ScriptedStream(event("ADDED", thing("a", 5))))
    world.source.on_list(page(thing("b", 5), version=10))
    async with world.running():
        await world.clock.advance(61)
        assert world.sink.held == {"b": "5"}


async def test_an_expired_streamed_list_starts_over_at_the_newest() -> None:
    world = World(STREAMED)
    world.source.on_watch(ScriptedStream(bookmark(9, end=True), error_event(410)), failure(410))
    async with world.running():
        await world.clock.advance(0.8)
        await world.clock.advance(1.6)
        versions = [watch["resourceVersion"] for watch in world.source.watches]
        assert versions == ["", "9", ""]
        assert world.source.lists == []
