"""Informers on a real API server through proxies that break the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controller_runtime import (
    CONFIG_MAP,
    Cache,
    Client,
    Config,
    Key,
    Object,
    ReflectorOptions,
    Transport,
)
from controller_runtime.testing import Envtest, FaultProxy, HTTPFaultProxy

pytestmark = pytest.mark.apiserver


class Heard:
    """What a handler was told, by name."""

    def __init__(self) -> None:
        self.adds: list[str] = []
        self.deletes: list[tuple[str, bool]] = []
        self.uids: list[tuple[str, str]] = []

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        self.adds.append(obj.name)

    def on_update(self, old: Object, new: Object) -> None:
        self.uids.append((old.uid, new.uid))

    def on_delete(self, obj: Object, state_unknown: bool) -> None:
        self.deletes.append((obj.name, state_unknown))


class World:
    """A cache of one namespace's ConfigMaps behind a proxy, and a client with a link of its own."""

    def __init__(self, through: Config, direct: Config, namespace: str) -> None:
        self.transport = Transport(through)
        options = ReflectorOptions(page_size=2)
        self.cache = Cache(self.transport, namespaces=[namespace], options=options, random=lambda: 0.0)
        self.informer = self.cache.watch(CONFIG_MAP, labels="")
        self.heard = Heard()
        self.informer.add_handler(self.heard)
        self.direct = Client(Transport(direct), field_manager="tester")
        self.namespace = namespace

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.cache.run(stop))
        try:
            await self.cache.wait_synced(20)
            yield
            assert not task.done()
            stop.set()
            await asyncio.wait_for(task, 5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.direct.close()
            await self.transport.close()

    async def create(self, name: str) -> Object:
        metadata = {"name": name, "namespace": self.namespace}
        return await self.direct.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    async def delete(self, name: str) -> None:
        await self.direct.delete(CONFIG_MAP, Key(self.namespace, name))

    def names(self) -> list[str]:
        return sorted(obj.name for obj in self.informer.list())

    async def shows(self, *names: str) -> None:
        await until(lambda: self.names() == sorted(names), lambda: f"{self.names()}, not {names}")


async def until(condition: Callable[[], bool], told: Callable[[], str] = str, timeout: float = 20.0) -> None:
    try:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - the API server has no event to wait on
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(told() or "not in time") from None


def watches(method: str, path: str, query: dict[str, str]) -> bool:
    return "watch" in query


def lists(method: str, path: str, query: dict[str, str]) -> bool:
    return method == "GET" and path.endswith("/configmaps") and "watch" not in query


def relists(method: str, path: str, query: dict[str, str]) -> bool:
    return lists(method, path, query) and query.get("resourceVersion", "0") != "0"


@asynccontextmanager
async def behind_http(apiserver: Envtest, namespace: str) -> AsyncIterator[tuple[World, HTTPFaultProxy]]:
    async with HTTPFaultProxy(apiserver.config, apiserver.server_certificate) as proxy:
        yield World(proxy.config, apiserver.config, namespace), proxy


async def test_cut_watches_resume_without_a_list(apiserver: Envtest, namespace: str) -> None:
    async with behind_http(apiserver, namespace) as (_, counting), FaultProxy(counting.config) as link:
        world = World(link.config, apiserver.config, namespace)
        async with world.running():
            for number in range(8):
                await world.create(f"c{number}")
                await world.shows(*(f"c{earlier}" for earlier in range(number + 1)))
                link.cut()
                await world.create(f"d{number}")
                await world.delete(f"d{number}")
            await until(lambda: len(world.heard.deletes) == 8)
            assert world.heard.deletes == [(f"d{number}", False) for number in range(8)]
        assert len([one for one in counting.seen if one.is_list]) == 1
        assert len([one for one in counting.seen if one.is_watch]) == 9
        assert link.accepted >= 9


async def test_410_in_the_stream_is_a_relist_with_one_deletion_each(
    apiserver: Envtest, namespace: str
) -> None:
    async with behind_http(apiserver, namespace) as (world, proxy):
        await world.create("stays")
        await world.create("goes")
        proxy.end_watch(watches, 410, reason="Expired")
        proxy.answer(relists, 429, times=100)
        async with world.running():
            await until(lambda: any(one.is_watch for one in proxy.seen))
            await world.delete("goes")
            proxy.clear()
            await world.shows("stays")
            await until(lambda: world.heard.deletes == [("goes", True)])
            assert world.heard.adds == ["goes", "stays"]


async def test_410_on_the_watch_request_is_a_relist(apiserver: Envtest, namespace: str) -> None:
    async with behind_http(apiserver, namespace) as (world, proxy):
        await world.create("goes")
        proxy.answer(watches, 410, reason="Expired")
        proxy.answer(relists, 429, times=100)
        async with world.running():
            await until(lambda: any(one.is_watch for one in proxy.seen))
            await world.delete("goes")
            proxy.clear()
            await world.shows()
            await until(lambda: world.heard.deletes == [("goes", True)])
        assert len([one for one in proxy.seen if one.is_list and one.status == 200]) == 2


async def test_410_on_the_second_page_is_one_full_list(apiserver: Envtest, namespace: str) -> None:
    names = [f"c{number}" for number in range(5)]
    async with behind_http(apiserver, namespace) as (world, proxy):
        for name in names:
            await world.create(name)
        proxy.answer(lambda method, path, query: "continue" in query, 410, reason="Expired")
        async with world.running():
            await world.shows(*names)
            await until(lambda: sorted(world.heard.adds) == names)


async def test_real_expiry_after_a_compaction(apiserver: Envtest, namespace: str) -> None:
    async with FaultProxy(apiserver.config) as link:
        world = World(link.config, apiserver.config, namespace)
        await world.create("goes")
        async with world.running():
            link.refuse()
            link.cut()
            await world.delete("goes")
            first = await world.create("new")
            apiserver.compact()
            link.refuse(False)
            await world.shows("new")
            await until(lambda: [name for name, _ in world.heard.deletes] == ["goes"])
            assert first.resource_version <= world.informer.last_resource_version


async def test_a_recreated_object_is_told_by_its_uid(apiserver: Envtest, namespace: str) -> None:
    async with behind_http(apiserver, namespace) as (world, proxy):
        old = await world.create("same")
        proxy.end_watch(watches, 410, reason="Expired")
        proxy.answer(relists, 429, times=100)
        async with world.running():
            await until(lambda: any(one.is_watch for one in proxy.seen))
            await world.delete("same")
            new = await world.create("same")
            proxy.clear()
            await until(lambda: (old.uid, new.uid) in world.heard.uids)
            assert world.heard.deletes == []
            held = world.informer.get(Key(namespace, "same"))
            assert held is not None
            assert held.uid == new.uid


async def test_429_with_retry_after_is_waited_for(apiserver: Envtest, namespace: str) -> None:
    async with behind_http(apiserver, namespace) as (world, proxy):
        proxy.answer(lists, 429, reason="TooManyRequests", headers={"Retry-After": "0"}, times=3)
        proxy.answer(watches, 429, reason="TooManyRequests")
        async with world.running():
            await world.create("a")
            await world.shows("a")
        assert [one.status for one in proxy.seen if one.is_list] == [429, 429, 429, 200]
        assert [one.status for one in proxy.seen if one.is_watch] == [429, 200]


async def test_500_on_the_list_is_retried(apiserver: Envtest, namespace: str) -> None:
    async with behind_http(apiserver, namespace) as (world, proxy):
        proxy.answer(lists, 500, reason="InternalError")
        async with world.running():
            await world.create("a")
            await world.shows("a")


async def test_a_frozen_link_is_left_after_the_idle_time(apiserver: Envtest, namespace: str) -> None:
    async with FaultProxy(apiserver.config) as link:
        world = World(link.config, apiserver.config, namespace)
        part = world.cache.covering(CONFIG_MAP, Key(namespace, "a"), {})[0]
        part._reflector._bookmarks = True  # the server sends one a minute; this test does not wait for it
        part._reflector._options = ReflectorOptions(idle=0.5)
        async with world.running():
            await world.create("first")
            await world.shows("first")  # so the watch is open
            link.freeze()
            await world.create("a")
            before = link.accepted
            await until(lambda: link.accepted > before)
            link.thaw()
            await world.shows("a", "first")


async def test_a_slow_link_is_only_slow(apiserver: Envtest, namespace: str) -> None:
    async with FaultProxy(apiserver.config) as link:
        link.delay(0.02)
        world = World(link.config, apiserver.config, namespace)
        async with world.running():
            await world.create("a")
            await world.shows("a")


@pytest.mark.parametrize("streamed", [False, True])
async def test_streamed_and_paged_lists_bring_the_same(
    apiserver: Envtest, namespace: str, streamed: bool
) -> None:
    transport = Transport(apiserver.config)
    options = ReflectorOptions(watch_list=streamed, page_size=2)
    cache = Cache(transport, namespaces=[namespace], options=options)
    informer = cache.watch(CONFIG_MAP, labels="")
    client = Client(transport, field_manager="tester")
    for number in range(5):
        metadata = {"name": f"c{number}", "namespace": namespace}
        await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    stop = asyncio.Event()
    task = asyncio.create_task(cache.run(stop))
    await cache.wait_synced(20)
    assert sorted(obj.name for obj in informer.list()) == [f"c{number}" for number in range(5)]
    await client.delete(CONFIG_MAP, Key(namespace, "c0"))
    await until(lambda: len(informer.list()) == 4)
    stop.set()
    await task
    await transport.close()
