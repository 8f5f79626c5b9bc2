"""The prober against real sockets, and the store it fills."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import controller_runtime as ctrl
from controllers.probe import (
    MAX_ANSWER,
    ModelProgress,
    Observation,
    ObservedStore,
    Prober,
    Target,
    parse,
    pod_url,
)

KEY = ctrl.Key("ns", "svc")
POD = Target(uid="u1", ip="10.0.0.1")


class Enqueued(ctrl.Channel):
    def __init__(self) -> None:
        super().__init__()
        self.keys: list[ctrl.Key] = []

    def enqueue(self, key: ctrl.Key, *, priority: int | None = None) -> None:
        self.keys.append(key)


class Pods:
    """Answers /<uid>/progress; counts how many are asked at once."""

    def __init__(self) -> None:
        self.answers: dict[str, web.Response] = {}
        self.wait: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.now = self.most = 0
        self.base = ""
        self.thrice = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        uid = request.match_info["uid"]
        self.asked.append(uid)
        if len(self.asked) == 3:
            self.thrice.set()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if uid in self.wait:
                await self.wait[uid].wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.now -= 1
        return self.answers.get(uid) or web.json_response({"stage": "Loading", "models": [{"name": uid}]})

    def url(self, target: Target) -> str:
        return f"{self.base}/{target.uid}/progress"


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = Pods()
    app = web.Application()
    app.router.add_get("/{uid}/progress", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    for event in made.wait.values():
        event.set()
    await runner.cleanup()


async def one_round(prober: Prober) -> None:
    async with aiohttp.ClientSession() as session:
        await prober.round(session)


async def test_news_is_kept_and_enqueued_once(pods: Pods) -> None:
    store, channel = ObservedStore(), Enqueued()
    prober = Prober(store, channel, url=pods.url)
    store.watch(KEY, [POD])
    await one_round(prober)
    assert store.get("u1") == Observation(stage="Loading", models=(ModelProgress(name="u1"),))
    assert channel.keys == [KEY]
    await one_round(prober)
    assert channel.keys == [KEY], "the same answer is no news"
    pods.answers["u1"] = web.json_response({"stage": "Ready"})
    await one_round(prober)
    assert channel.keys == [KEY, KEY]


async def test_a_bad_answer_is_no_answer(pods: Pods) -> None:
    store, channel = ObservedStore(), Enqueued()
    prober = Prober(store, channel, url=pods.url)
    store.watch(KEY, [POD])
    bad = [
        web.Response(text="not json"),
        web.Response(status=503, text="{}"),
        web.Response(status=302, headers={"Location": f"{pods.base}/other/progress"}),
        web.Response(text="[" * 20_000),
        web.Response(body=b'{"stage": "' + b"x" * MAX_ANSWER + b'"}'),
    ]
    for answer in bad:
        pods.answers["u1"] = answer
        await one_round(prober)
    assert store.get("u1") is None
    assert channel.keys == []
    assert "other" not in pods.asked, "a redirect is not followed"


async def test_nobody_there_is_no_answer() -> None:
    store, channel = ObservedStore(), Enqueued()
    store.watch(KEY, [POD])
    prober = Prober(store, channel, url=lambda target: "http://127.0.0.1:1/progress")
    await one_round(prober)
    assert store.get("u1") is None


async def test_a_pod_that_hangs_holds_nobody_up_for_long(pods: Pods) -> None:
    store, channel = ObservedStore(), Enqueued()
    targets = [Target(uid=f"u{n}", ip="x") for n in range(5)]
    store.watch(KEY, targets)
    pods.wait["u0"] = asyncio.Event()
    prober = Prober(store, channel, url=pods.url, deadline=0.3)
    async with asyncio.timeout(5):
        await one_round(prober)
    assert store.get("u0") is None
    assert all(store.get(f"u{n}") for n in range(1, 5))


async def test_at_most_so_many_at_once(pods: Pods) -> None:
    store = ObservedStore()
    store.watch(KEY, [Target(uid=f"u{n}", ip="x") for n in range(20)])
    await one_round(Prober(store, Enqueued(), url=pods.url, concurrency=3))
    assert len(pods.asked) == 20
    assert pods.most <= 3


async def test_it_runs_until_stopped(pods: Pods) -> None:
    store, channel, stop = ObservedStore(), Enqueued(), asyncio.Event()
    store.watch(KEY, [POD])
    task = asyncio.create_task(Prober(store, channel, url=pods.url, interval=0.01).run(stop))
    async with asyncio.timeout(5):
        await pods.thrice.wait()
        stop.set()
        await task


def test_only_the_pods_looked_at_are_remembered() -> None:
    store = ObservedStore()
    store.watch(KEY, [POD])
    assert store.put(KEY, POD, Observation(stage="Loading"))
    other = Target(uid="u2", ip="10.0.0.2")
    store.watch(KEY, [other])
    assert store.get("u1") is None
    assert not store.put(KEY, POD, Observation(stage="Ready")), "an answer that came too late"
    assert store.targets() == [(KEY, other)]
    store.watch(KEY, ())
    assert store.targets() == []


def test_addresses() -> None:
    assert pod_url(POD, 8081) == "http://10.0.0.1:8081/progress"
    assert pod_url(Target(uid="u", ip="fd00::1"), 8081) == "http://[fd00::1]:8081/progress"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
fields = st.sampled_from(
    ["name", "state", "bytesDone", "bytesTotal", "bytesPerSecond", "etaSeconds", "reason"]
)


@given(
    json_values
    | st.fixed_dictionaries({"stage": json_values, "models": st.lists(st.dictionaries(fields, json_values))})
)
def test_no_answer_breaks_it(answer: object) -> None:
    seen = parse(answer)
    assert len(seen.models) <= 16
    for model in seen.models:
        assert model.bytes_done >= 0
        assert model.eta >= 0.0
    assert seen.rank in (-1, 0, 1, 2, 3)
