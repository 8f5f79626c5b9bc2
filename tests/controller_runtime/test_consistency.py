"""A key waits for its own writes to come back, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller_runtime import CONFIG_MAP, DEPLOYMENT, JSON, Cache, CacheBarrier, Client, Key, Transport
from controller_runtime._consistency import current_log
from controller_runtime._informer import SharedInformer
from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver


class World:
    def __init__(self, transport: Transport, namespace: str) -> None:
        self.cache = Cache(transport, namespaces=[namespace])
        self.client = Client(transport, field_manager="tester", cache=self.cache)
        self.barrier = CacheBarrier(self.cache, timeout=5.0)
        self.namespace = namespace
        informer = self.cache.watch(CONFIG_MAP, labels="kept=yes")
        assert isinstance(informer, SharedInformer)
        self.informer = informer

    def config_map(self, name: str, *, kept: str = "yes", **data: str) -> JSON:
        metadata = {"name": name, "namespace": self.namespace, "labels": {"kept": kept}}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    async def settle(self) -> bool:
        pending = self.barrier.pending()
        return True if pending is None else await pending


@pytest.fixture
async def world(apiserver: Envtest, namespace: str) -> AsyncIterator[World]:
    transport = Transport(apiserver.config)
    world = World(transport, namespace)
    stop = asyncio.Event()
    task = asyncio.create_task(world.cache.run(stop))
    await world.cache.wait_synced(20)
    yield world
    stop.set()
    await task
    await transport.close()


async def test_every_write_is_read_back(world: World) -> None:
    for number in range(20):
        world.barrier.begin()
        await world.client.apply(world.config_map("a", n=str(number)))
        assert await world.settle()
        found = await world.client.get(CONFIG_MAP, world.key("a"))
        assert found is not None
        assert found.raw["data"] == {"n": str(number)}


async def test_a_deletion_is_read_back_whatever_the_reply_was(world: World) -> None:
    finalized = world.config_map("held")
    finalized["metadata"]["finalizers"] = ["example.org/x"]
    for raw in (world.config_map("gone"), finalized):
        name = raw["metadata"]["name"]
        world.barrier.begin()
        await world.client.create(raw)
        assert await world.settle()
        world.barrier.begin()
        assert await world.client.delete(CONFIG_MAP, world.key(name))
        assert await world.settle()
        found = await world.client.get(CONFIG_MAP, world.key(name))
        assert found is None or found.deleting


async def test_a_deletion_that_comes_later_is_waited_for(world: World) -> None:
    world.barrier.begin()
    await world.client.create(world.config_map("a"))
    await world.settle()
    world.barrier.begin()
    log = current_log()
    assert log is not None
    held = world.informer.store.header_version(world.key("a"))
    assert held is not None
    log.deleted(CONFIG_MAP, world.key("a"), held[0])
    pending = world.barrier.pending()
    assert pending is not None
    waiting = asyncio.ensure_future(pending)
    await asyncio.sleep(0)
    assert not waiting.done()
    await world.client.delete(CONFIG_MAP, world.key("a"))
    assert await waiting
    assert world.informer._registrations == []


async def test_nothing_is_waited_for_that_no_watch_will_bring(world: World) -> None:
    world.barrier.begin()
    await world.client.create(world.config_map("other", kept="no"))
    assert world.barrier.pending() is None
    await world.client.delete(CONFIG_MAP, world.key("other"))
    assert world.barrier.pending() is None
    await world.client.request("GET", "/version")
    assert world.barrier.pending() is None


async def test_an_unchanged_apply_is_no_wait(world: World) -> None:
    world.barrier.begin()
    await world.client.apply(world.config_map("a"))
    await world.settle()
    world.barrier.begin()
    await world.client.apply(world.config_map("a"))
    assert world.barrier.pending() is None


async def test_the_wait_is_bounded(world: World) -> None:
    world.barrier = CacheBarrier(world.cache, timeout=0.05)
    world.barrier.begin()
    made = await world.client.apply(world.config_map("a"))
    log = current_log()
    assert log is not None
    made.raw["metadata"]["resourceVersion"] = "99999999999"
    log.wrote(CONFIG_MAP, made)
    assert not await world.settle()
    made.raw["metadata"]["resourceVersion"] = "not-a-number"
    before = list(log)
    log.wrote(CONFIG_MAP, made)
    assert list(log) == before


async def test_writes_of_child_tasks_count_and_those_of_others_do_not(world: World) -> None:
    async def other() -> None:
        world.barrier.begin()
        await world.client.apply(world.config_map("theirs"))

    world.barrier.begin()
    log = current_log()
    assert log is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(world.client.apply(world.config_map("child")))
        group.create_task(other())
    assert [write.key.name for write in log] == ["child"]
    assert len(log) == 1


async def test_without_begin_nothing_is_collected(world: World) -> None:
    assert world.barrier.pending() is None
    await world.client.apply(world.config_map("a"))
    assert current_log() is None
    assert world.cache.covering(DEPLOYMENT, world.key("a"), {}) == []
