"""The resolver: never in the way, never twice, never silent."""

import asyncio

import pytest

import controller_runtime as ctrl
from artifacts import ArtifactError, Manifest, parse_uri
from artifacts import Reason as ArtifactReason
from controllers.reasons import Reason
from controllers.resolver import Pending, Rejected, Resolved, Resolver

KEY = ctrl.Key("default", "m")
MANIFEST = Manifest.of(parse_uri("s3://models/x"), [])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Queue:
    """Stands for the channel: remembers who was enqueued and lets a test wait for it."""

    def __init__(self) -> None:
        self.keys: asyncio.Queue[ctrl.Key] = asyncio.Queue()

    def enqueue(self, key: ctrl.Key) -> None:
        self.keys.put_nowait(key)

    async def next(self) -> ctrl.Key:
        return await asyncio.wait_for(self.keys.get(), 5)


def build(clock: Clock, queue: Queue, *, timeout: float = 5.0, concurrency: int = 2) -> Resolver:
    return Resolver(
        channel=queue,  # type: ignore[arg-type]
        timeout=timeout,
        concurrency=concurrency,
        now=clock,
        jitter=lambda: 1.0,
    )


async def answer() -> Manifest:
    return MANIFEST


async def test_asks_once_and_enqueues_the_answer() -> None:
    queue, asked = Queue(), 0

    async def question() -> Manifest:
        nonlocal asked
        asked += 1
        return MANIFEST

    resolver = build(Clock(), queue)
    for _ in range(3):
        outcome, _ = resolver.ask(KEY, "u", "f", question, refresh=600)
        assert isinstance(outcome, Pending)
    assert await queue.next() == KEY
    outcome, wait = resolver.ask(KEY, "u", "f", question, refresh=600)
    assert outcome == Resolved(MANIFEST, 0.0)
    assert wait == 600
    assert asked == 1


async def test_failures_back_off_and_heal() -> None:
    clock, queue, calls = Clock(), Queue(), 0

    async def question() -> Manifest:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ArtifactError(ArtifactReason.BUCKET_NOT_FOUND, "no such bucket")
        return MANIFEST

    resolver = build(clock, queue)
    waits = []
    for _ in range(2):
        resolver.ask(KEY, "u", "f", question, refresh=600)
        await queue.next()
        outcome, wait = resolver.ask(KEY, "u", "f", question, refresh=600)
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.BucketNotFound
        waits.append(wait)
        clock.now += wait
    assert waits == [2.0, 4.0]
    resolver.ask(KEY, "u", "f", question, refresh=600)
    await queue.next()
    assert isinstance(resolver.ask(KEY, "u", "f", question, refresh=600)[0], Resolved)


async def test_a_store_that_never_answers_is_cut() -> None:
    queue = Queue()

    async def hang() -> Manifest:
        await asyncio.Event().wait()
        raise AssertionError

    resolver = build(Clock(), queue, timeout=0.01)
    resolver.ask(KEY, "u", "f", hang, refresh=600)
    await queue.next()
    outcome, _ = resolver.ask(KEY, "u", "f", hang, refresh=600)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.EndpointUnreachable


async def test_a_surprise_is_told_and_retried() -> None:
    queue = Queue()

    async def broken() -> Manifest:
        raise ZeroDivisionError("surprise")

    resolver = build(Clock(), queue)
    resolver.ask(KEY, "u", "f", broken, refresh=600)
    await queue.next()
    outcome, wait = resolver.ask(KEY, "u", "f", broken, refresh=600)
    assert isinstance(outcome, Rejected)
    assert "ZeroDivisionError" in outcome.message
    assert wait > 0


async def test_a_changed_question_cancels_the_old_one() -> None:
    queue, cancelled = Queue(), asyncio.Event()

    async def old() -> Manifest:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    resolver = build(Clock(), queue)
    resolver.ask(KEY, "u", "old", old, refresh=600)
    await asyncio.sleep(0)
    resolver.ask(KEY, "u", "new", answer, refresh=600)
    await asyncio.wait_for(cancelled.wait(), 5)
    await queue.next()
    assert isinstance(resolver.ask(KEY, "u", "new", answer, refresh=600)[0], Resolved)


async def test_concurrency_is_bounded() -> None:
    queue, running, peak = Queue(), 0, 0
    gate = asyncio.Event()

    async def question() -> Manifest:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return MANIFEST

    resolver = build(Clock(), queue, concurrency=2)
    for number in range(6):
        resolver.ask(KEY, f"u{number}", "f", question, refresh=600)
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    for _ in range(6):
        await queue.next()
    assert peak == 2


async def test_pinned_models_are_not_asked_for_at_once() -> None:
    clock, queue = Clock(), Queue()
    resolver = build(clock, queue)
    outcome, wait = resolver.ask(KEY, "u", "f", answer, refresh=600, delay=600)
    assert isinstance(outcome, Pending)
    assert wait == pytest.approx(600)
    assert queue.keys.empty()
    clock.now = 601
    resolver.ask(KEY, "u", "f", answer, refresh=600, delay=600)
    await queue.next()


async def test_forget_and_close_cancel() -> None:
    queue, started = Queue(), asyncio.Event()

    async def hang() -> Manifest:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    resolver = build(Clock(), queue)
    resolver.ask(KEY, "u", "f", hang, refresh=600)
    await asyncio.wait_for(started.wait(), 5)
    resolver.close()
    assert queue.keys.empty()
    resolver.ask(KEY, "u", "f", answer, refresh=600)
    await queue.next()
