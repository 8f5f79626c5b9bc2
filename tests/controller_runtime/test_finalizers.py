"""Finalizers on a real API server, beside those of others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controller_runtime import CONFIG_MAP, Client, Conflict, Key, Object, add_finalizer, remove_finalizer
from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver

OURS = "example.org/ours"
THEIRS = "example.org/theirs"


@pytest.fixture
async def client(apiserver: Envtest) -> AsyncIterator[Client]:
    async with apiserver.client() as client:
        yield client


async def make(client: Client, namespace: str, *finalizers: str) -> Object:
    metadata = {"name": "a", "namespace": namespace, "finalizers": list(finalizers)}
    return await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


async def read(client: Client, namespace: str) -> Object:
    obj = await client.get_live(CONFIG_MAP, Key(namespace, "a"))
    assert obj is not None
    return obj


async def test_add_once(client: Client, namespace: str) -> None:
    obj = await make(client, namespace, THEIRS)
    assert await add_finalizer(client, obj, OURS)
    obj = await read(client, namespace)
    assert obj.finalizers == [THEIRS, OURS]
    assert not await add_finalizer(client, obj, OURS)


async def test_add_to_an_outdated_object_is_a_conflict(client: Client, namespace: str) -> None:
    obj = await make(client, namespace)
    await add_finalizer(client, obj, THEIRS)
    with pytest.raises(Conflict):
        await add_finalizer(client, obj, OURS)


async def test_nothing_is_added_to_a_dying_object(client: Client, namespace: str) -> None:
    obj = await make(client, namespace, THEIRS)
    await client.delete(CONFIG_MAP, obj.key)
    assert not await add_finalizer(client, await read(client, namespace), OURS)


async def test_remove_leaves_the_others(client: Client, namespace: str) -> None:
    obj = await make(client, namespace, OURS, THEIRS)
    await client.delete(CONFIG_MAP, obj.key)
    assert await remove_finalizer(client, obj, OURS)
    assert (await read(client, namespace)).finalizers == [THEIRS]
    assert not await remove_finalizer(client, await read(client, namespace), OURS)
    assert await remove_finalizer(client, obj, OURS) is False, "read before, gone since"
    assert await remove_finalizer(client, await read(client, namespace), THEIRS)
    assert await client.get_live(CONFIG_MAP, obj.key) is None
    assert not await remove_finalizer(client, obj, OURS), "the object is gone"


async def test_a_moved_entry_is_found(client: Client, namespace: str) -> None:
    seen = await make(client, namespace, THEIRS, OURS)
    await remove_finalizer(client, seen, THEIRS)
    assert await remove_finalizer(client, seen, OURS)
    assert (await read(client, namespace)).finalizers == []


async def test_an_object_of_the_same_name_is_another_object(client: Client, namespace: str) -> None:
    old = await make(client, namespace, OURS)
    await remove_finalizer(client, old, OURS)
    await client.delete(CONFIG_MAP, old.key)
    await make(client, namespace, OURS)
    assert not await remove_finalizer(client, old, OURS)
    assert (await read(client, namespace)).finalizers == [OURS]
