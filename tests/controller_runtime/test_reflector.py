"""The list-and-watch state machine against scripted servers; time is a fake clock."""

from __future__ import annotations

import pytest

from controller_runtime._reflector_api import State
from controller_runtime.errors import TransportError

from .reflector_world import World, started
from .scripted import ScriptedStream, bookmark, error_event, event, failure, page, thing


async def test_first_list_takes_any_age_and_the_watch_starts_at_the_lists_version() -> None:
    world = World()
    started(world=world)
    async with world.running():
        assert world.source.lists == [{"resourceVersion": "0", "limit": "500"}]
        assert world.source.watches == [
            {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": "10",
                "timeoutSeconds": "300",
            }
        ]
        assert world.sink.held == {"a": "7"}
        assert world.reflector.state is State.WATCHING


@pytest.mark.parametrize(("random", "seconds"), [(0.0, "300"), (0.5, "450"), (0.999999, "599")])
async def test_watch_timeout_is_spread(random: float, seconds: str) -> None:
    world = World(random=random)
    started(world=world)
    async with world.running():
        assert world.source.watches[0]["timeoutSeconds"] == seconds


async def test_every_page_is_read() -> None:
    world = World()
    world.source.on_list(
        page(thing("a", 1), version=10, following="two"),
        page(thing("b", 2), version=11, following="three"),
        page(thing("c", 3), version=12),
    )
    async with world.running():
        assert world.source.lists[1:] == [
            {"limit": "500", "continue": "two"},
            {"limit": "500", "continue": "three"},
        ]
        assert world.sink.held == {"a": "1", "b": "2", "c": "3"}
        assert world.source.watches[0]["resourceVersion"] == "10"


async def test_expired_continue_falls_back_to_one_full_list() -> None:
    world = World()
    world.source.on_list(
        page(thing("a", 1), version=10, following="two"),
        failure(410, "Expired"),
        page(thing("b", 20), thing("c", 21), version=30),
    )
    async with world.running():
        assert world.source.lists[2] == {"resourceVersion": "0"}
        assert world.sink.held == {"b": "20", "c": "21"}
        assert world.source.watches[0]["resourceVersion"] == "30"


async def test_other_errors_of_a_page_fail_the_list() -> None:
    world = World()
    world.source.on_list(page(thing("a", 1), version=10, following="two"), failure(500))
    async with world.running():
        assert world.sink.replaced == 0
        assert world.sink.pauses == [0.8]


async def test_relist_is_not_older_than_what_was_seen_and_unpaged() -> None:
    world = World()
    started(event("ADDED", thing("b", 15)) + error_event(410, "Expired"), world=world)
    world.source.on_list(page(thing("b", 15), version=40))
    async with world.running():
        assert world.sink.held == {"a": "7", "b": "15"}, "what precedes the error counts"
        assert world.sink.ends == ["expired"]
        await world.clock.advance(0.8)
        assert world.source.lists[1] == {"resourceVersion": "15"}
        assert world.sink.held == {"b": "15"}


async def test_a_list_that_came_in_pages_goes_on_in_pages() -> None:
    world = World()
    world.source.on_list(page(version=10, following="x"), page(version=10), page(version=20))
    world.source.on_watch(ScriptedStream(error_event(410)))
    async with world.running():
        await world.clock.advance(1)
        assert world.source.lists[2] == {"resourceVersion": "10", "limit": "500"}


@pytest.mark.parametrize(
    "error",
    [
        failure(410, "Expired"),
        failure(504, "Timeout", "Too large resource version: 99, current: 1"),
        failure(504, "Timeout", "slow", causes=[{"reason": "ResourceVersionTooLarge"}]),
    ],
)
async def test_an_unavailable_version_lists_the_newest_at_once(error: Exception) -> None:
    world = World()
    started(error_event(410), world=world)
    world.source.on_list(error, page(thing("c", 50), version=60))
    world.source.on_watch(ScriptedStream(error_event(410)))
    async with world.running():
        await world.clock.advance(0.8)
        assert world.source.lists[1:] == [
            {"resourceVersion": "10"},
            {"resourceVersion": "", "limit": "500"},
        ]
        assert world.sink.held == {"c": "50"}
        await world.clock.advance(2)
        assert world.source.lists[3] == {"resourceVersion": "60"}, "the flag is cleared by success"


async def test_a_quorum_list_that_fails_is_paused() -> None:
    world = World()
    world.source.on_list(failure(410), failure(410))
    async with world.running():
        assert len(world.source.lists) == 2
        assert world.sink.pauses == [0.8]
        await world.clock.advance(0.8)
        assert world.source.lists[2] == {"resourceVersion": "", "limit": "500"}


@pytest.mark.parametrize("end", ["finish", "cut"])
async def test_a_watch_that_ends_resumes_at_the_last_version_without_a_list(end: str) -> None:
    world = World()
    stream = started(event("ADDED", thing("b", 15)), world=world)
    world.source.on_watch(ScriptedStream())
    async with world.running():
        getattr(stream, end)()
        await world.clock.advance()
        assert len(world.source.lists) == 1
        assert world.source.watches[1]["resourceVersion"] == "15"
        assert world.sink.ends == ["eof" if end == "finish" else "cut"]
        assert world.sink.pauses == []


async def test_a_bookmark_moves_the_resume_point() -> None:
    world = World()
    stream = started(event("ADDED", thing("b", 15)), bookmark(99), world=world)
    world.source.on_watch(ScriptedStream())
    async with world.running():
        assert world.sink.version == "99"
        stream.cut()
        await world.clock.advance()
        assert world.source.watches[1]["resourceVersion"] == "99"


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (TransportError("refused"), 0.8),
        (failure(429, "TooManyRequests"), 0.8),
        (failure(429, "TooManyRequests", retryAfterSeconds=7), 7.0),
    ],
)
async def test_a_watch_that_cannot_start_is_tried_again_from_the_same_version(
    error: Exception, pause: float
) -> None:
    world = World()
    world.source.on_list(page(version=10))
    world.source.on_watch(error, ScriptedStream())
    async with world.running():
        assert world.sink.pauses == [pause]
        await world.clock.advance(pause)
        assert len(world.source.lists) == 1
        assert [watch["resourceVersion"] for watch in world.source.watches] == ["10", "10"]


@pytest.mark.parametrize("error", [failure(410, "Expired"), failure(500, "InternalError"), failure(403)])
async def test_a_watch_refused_otherwise_is_a_relist(error: Exception) -> None:
    world = World()
    world.source.on_list(page(version=10), page(version=11))
    world.source.on_watch(error)
    async with world.running():
        await world.clock.advance(0.8)
        assert len(world.source.lists) == 2


async def test_an_internal_error_in_the_stream_is_a_relist_and_a_429_is_not() -> None:
    world = World()
    started(error_event(429, "TooManyRequests"), world=world)
    world.source.on_watch(ScriptedStream(error_event(500, "InternalError")))
    async with world.running():
        await world.clock.advance(0.8)
        assert (len(world.source.lists), len(world.source.watches)) == (1, 2)
        await world.clock.advance(1.6)
        assert (len(world.source.lists), len(world.source.watches)) == (2, 2)
        assert world.sink.ends == ["error", "error"]


async def test_a_watch_that_ends_at_once_is_paused() -> None:
    world = World()
    world.source.on_list(page(version=10))
    world.source.on_watch(*(ScriptedStream().finish() for _ in range(3)))
    async with world.running():
        assert world.sink.ends == ["short"]
        await world.clock.advance(0.8)
        await world.clock.advance(1.6)
        assert world.sink.pauses == [0.8, 1.6, 3.2]
        assert len(world.source.lists) == 1


async def test_pauses_grow_to_the_cap_with_jitter_and_are_forgotten_after_quiet() -> None:
    world = World(random=0.5)
    world.source.on_list(*(failure(500) for _ in range(8)), page(version=10))
    async with world.running():
        for _ in range(8):
            await world.clock.advance(60)
        assert world.sink.pauses == [1.2, 2.4, 4.8, 9.6, 19.2, 38.4, 45.0, 45.0]
        world.source.on_watch(failure(500))
        assert world.reflector.state is State.WATCHING


async def test_quiet_time_resets_the_pause() -> None:
    world = World()
    stream = started(world=world)
    world.source.on_watch(failure(429), failure(429), ScriptedStream())
    async with world.running():
        await world.clock.advance(5)
        stream.cut()
        await world.clock.advance(0.8)
        assert world.sink.pauses == [0.8, 1.6]
        await world.clock.advance(1.6)
        await world.clock.advance(121)
        world.source.on_watch(failure(429))
        await world.clock.advance(300)
        assert world.sink.pauses == [0.8, 1.6, 0.8]


async def test_one_reflectors_failures_do_not_slow_another() -> None:
    bad, good = World(), World()
    bad.source.on_list(*(failure(500) for _ in range(10)))
    good.source.on_list(failure(500), page(version=1))
    async with bad.running(), good.running():
        for _ in range(6):
            await bad.clock.advance(30)
        assert bad.sink.pauses[-1] == 30.0
        assert good.sink.pauses == [0.8]
