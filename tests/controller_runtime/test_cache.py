"""The cache on a real API server: options, reads, start and stop, causes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from controller_runtime import (
    CONFIG_MAP,
    DEPLOYMENT,
    JSON,
    SECRET,
    Cache,
    CacheSyncTimeout,
    Client,
    Config,
    Key,
    Kind,
    NotCached,
    Object,
    ReflectorOptions,
    Transport,
)
from controller_runtime._informers import MultiInformer
from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver


class World:
    """A cache and a client that reads from it."""

    def __init__(self, config: Config, **options: object) -> None:
        self.transport = Transport(config)
        self.cache = Cache(self.transport, **options)  # type: ignore[arg-type]
        self.client = Client(self.transport, field_manager="tester", cache=self.cache)
        self.stop = asyncio.Event()

    @asynccontextmanager
    async def running(self, *, synced: bool = True) -> AsyncIterator[None]:
        task = asyncio.create_task(self.cache.run(self.stop))
        try:
            if synced:
                await self.cache.wait_synced(20)
            yield
            self.stop.set()
            await asyncio.wait_for(task, 5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.transport.close()


def config_map(namespace: str, name: str, labels: dict[str, str] | None = None, **data: str) -> JSON:
    metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - the API server has no event to wait on
            await asyncio.sleep(0.01)


async def test_reads_come_from_the_cache_and_stay_inside_the_selector(
    apiserver: Envtest, namespace: str
) -> None:
    world = World(apiserver.config)
    world.cache.watch(
        CONFIG_MAP,
        labels={"seen": namespace},
        indexes={"color": lambda obj: [obj.raw["data"]["color"]] if "data" in obj.raw else []},
    )
    await world.client.create(config_map(namespace, "in", {"seen": namespace}, color="red"))
    await world.client.create(config_map(namespace, "out"))
    async with world.running():
        found = await world.client.get(CONFIG_MAP, Key(namespace, "in"))
        assert found is not None
        assert "managedFields" not in found.metadata
        assert found.raw["kind"] == "ConfigMap"
        assert await world.client.get(CONFIG_MAP, Key(namespace, "out")) is None
        assert await world.client.get_live(CONFIG_MAP, Key(namespace, "out")) is not None
        assert [obj.name for obj in await world.client.list(CONFIG_MAP)] == ["in"]
        red = await world.client.list(CONFIG_MAP, index=("color", "red"), namespace=namespace)
        assert [obj.name for obj in red] == ["in"]
        assert await world.client.list(CONFIG_MAP, index=("color", "blue")) == []
        found.raw["data"]["color"] = "mine"
        again = await world.client.get(CONFIG_MAP, Key(namespace, "in"))
        assert again is not None
        assert again.raw["data"] == {"color": "red"}
        # It leaves the selector: a deletion, as far as this cache can tell.
        await world.client.patch(CONFIG_MAP, found.key, {"metadata": {"labels": {"seen": "no"}}})
        await until(lambda: world.cache.informer(CONFIG_MAP).list() == [])


async def test_metadata_only_keeps_no_content(apiserver: Envtest, namespace: str) -> None:
    world = World(apiserver.config, namespaces=[namespace])
    world.cache.watch(SECRET, metadata_only=True)
    metadata = {"name": "s", "namespace": namespace, "annotations": {"a": "b"}}
    await world.client.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"k": "v"}}
    )
    async with world.running():
        kept = await world.cache.get(SECRET, Key(namespace, "s"), metadata_only=True)
        assert kept is not None
        assert (kept.annotations, kept.raw["kind"], "data" in kept.raw) == ({"a": "b"}, "Secret", False)
        full = await world.client.get(SECRET, Key(namespace, "s"))
        assert full is not None
        assert "data" in full.raw, "a metadata-only copy does not answer for the whole"
        listed = await world.cache.list(SECRET, metadata_only=True)
        assert [obj.name for obj in listed] == ["s"]
        with pytest.raises(NotCached, match="Secret: not in the cache"):
            await world.cache.get(SECRET, Key(namespace, "s"))
        with pytest.raises(NotCached, match=r"ConfigMap \(metadata only\)"):
            await world.cache.get(CONFIG_MAP, Key(namespace, "s"), metadata_only=True)


async def test_transform_and_fields_and_namespaces(apiserver: Envtest, namespace: str) -> None:
    second = apiserver.create_namespace("second")

    def drop_data(raw: JSON) -> JSON:
        return {**raw, "data": {}}

    world = World(apiserver.config)
    informer = world.cache.watch(
        CONFIG_MAP, fields="metadata.name=a", namespaces=[namespace, second], transform=drop_data
    )
    assert isinstance(informer, MultiInformer)
    for place in (namespace, second, "default"):
        await world.client.apply(config_map(place, "a", x="1"))
        await world.client.apply(config_map(place, "b"))
    async with world.running():
        found = await world.client.list(CONFIG_MAP)
        assert sorted(obj.namespace for obj in found) == sorted([namespace, second])
        assert [obj.raw["data"] for obj in found] == [{}, {}]
        assert await world.client.get(CONFIG_MAP, Key("default", "a")) is None
        (statistics,) = world.cache.statistics()
        assert (statistics.objects, statistics.synced, statistics.stale) == (2, True, False)
        assert statistics.size > 0


async def test_a_kind_watched_later_starts_at_once_and_reads_wait_for_it(
    apiserver: Envtest, namespace: str
) -> None:
    world = World(apiserver.config, namespaces=[namespace])
    async with world.running():
        await world.client.create(config_map(namespace, "a"))
        world.cache.watch(CONFIG_MAP, labels="")
        assert await world.client.get(CONFIG_MAP, Key(namespace, "a")) is not None
        assert world.cache.stale() == []


def test_options_are_given_once(apiserver: Envtest) -> None:
    cache = Cache(Transport(apiserver.config))
    informer = cache.watch(CONFIG_MAP, labels="a=b")
    assert cache.watch(CONFIG_MAP) is informer
    assert cache.watch(CONFIG_MAP, labels="a=b", indexes={"i": lambda obj: []}) is informer
    assert cache.informer(CONFIG_MAP) is informer
    assert informer.list(index=("i", "x")) == []
    with pytest.raises(ValueError, match=r"ConfigMap: is watched with other options already"):
        cache.watch(CONFIG_MAP, labels="c=d")


def test_all_of_a_built_in_kind_must_be_asked_for(apiserver: Envtest) -> None:
    cache = Cache(Transport(apiserver.config))
    with pytest.raises(ValueError, match=r'Deployment\.apps: watching all of a built-in kind; .*labels=""'):
        cache.informer(DEPLOYMENT)
    cache.watch(DEPLOYMENT, labels="")
    assert cache.holds(DEPLOYMENT)
    own = Kind("example.org", "v1", "Own", "owns")
    assert cache.informer(own).kind == own


async def test_missing_permission_and_missing_kind_are_named_at_once(
    apiserver: Envtest, namespace: str
) -> None:
    world = World(apiserver.user("restricted", ["nothing"]), namespaces=[namespace])
    missing = Kind("missing.example", "v1", "Missing", "missings")
    world.cache.watch(CONFIG_MAP, labels="a=b")
    world.cache.watch(missing)
    with capture_logs() as logs:
        async with world.running(synced=False):
            await until(lambda: len(logs) >= 2)
            with pytest.raises(CacheSyncTimeout) as raised:
                await world.cache.wait_synced(0.2)
            with pytest.raises(CacheSyncTimeout, match="grant get, list, watch on configmaps"):
                await world.cache.get(CONFIG_MAP, Key(namespace, "a"), timeout=0.1)
    text = str(raised.value)
    assert f"configmaps in namespace {namespace}: 403 Forbidden" in text
    assert 'grant get, list, watch on configmaps in group ""' in text
    assert "missings.missing.example in namespace" in text


async def test_a_kind_installed_later_is_found(apiserver: Envtest, tmp_path: object) -> None:
    kind = Kind("late.example", "v1", "Late", "lates", namespaced=False)
    world = World(apiserver.config, options=ReflectorOptions(missing_kind_retry=0.2))
    informer = world.cache.watch(kind)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Late", "plural": "lates", "singular": "late", "listKind": "LateList"}
    spec = {"group": "late.example", "scope": "Cluster", "names": names, "versions": [version]}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "lates.late.example"},
        "spec": spec,
    }
    async with world.running(synced=False):
        await until(lambda: "not installed" in informer.last_error or "forbidden" in informer.last_error)
        await world.client.apply(crd)
        await informer.wait_synced(30)
        assert informer.last_error == ""


async def test_an_informer_that_fails_ends_the_cache(
    apiserver: Envtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(apiserver.config)
    informer = world.cache.watch(CONFIG_MAP, labels="a=b")

    async def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(informer, "run", broken)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(world.cache.run(asyncio.Event()), 5)
    assert raised.group_contains(ZeroDivisionError)
    await world.transport.close()


async def test_an_informer_that_just_ends_is_an_error_too(
    apiserver: Envtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(apiserver.config)
    informer = world.cache.watch(CONFIG_MAP, labels="a=b")

    async def ends() -> None: ...

    monkeypatch.setattr(informer, "run", ends)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(world.cache.run(asyncio.Event()), 5)
    assert raised.group_contains(RuntimeError, match="configmaps in all namespaces ended")
    await world.transport.close()


async def test_covering_is_what_will_hear_of_a_write(apiserver: Envtest, namespace: str) -> None:
    world = World(apiserver.config)
    world.cache.watch(CONFIG_MAP, labels="a=b", namespaces=[namespace, "default"])
    world.cache.watch(SECRET, fields="metadata.name=x")
    key = Key(namespace, "x")
    (part,) = world.cache.covering(CONFIG_MAP, key, {"a": "b"})
    assert part.namespace == namespace
    assert world.cache.covering(CONFIG_MAP, key, {"a": "c"}) == []
    assert world.cache.covering(CONFIG_MAP, key, None) == []
    assert world.cache.covering(CONFIG_MAP, Key("other", "x"), {"a": "b"}) == []
    assert world.cache.covering(SECRET, key, {}) == [], "only the server can tell"
    assert world.cache.covering(DEPLOYMENT, key, {}) == []


async def test_stopping_leaves_no_task(apiserver: Envtest, namespace: str) -> None:
    before = len(asyncio.all_tasks())
    world = World(apiserver.config, namespaces=[namespace])
    world.cache.watch(CONFIG_MAP, labels="")
    async with world.running():
        assert len(asyncio.all_tasks()) > before
    assert len(asyncio.all_tasks()) == before


class Heard:
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        self.names.append(obj.name)

    def on_update(self, old: Object, new: Object) -> None: ...

    def on_delete(self, obj: Object, state_unknown: bool) -> None: ...


async def test_large_objects_do_not_break_the_watch(apiserver: Envtest, namespace: str) -> None:
    world = World(apiserver.config, namespaces=[namespace])
    informer = world.cache.watch(CONFIG_MAP, labels="")
    heard = Heard()
    informer.add_handler(heard)
    async with world.running():
        await world.client.create(config_map(namespace, "big", blob="x" * 900_000))
        await until(lambda: heard.names == ["big"])
        found = await world.client.get(CONFIG_MAP, Key(namespace, "big"))
        assert found is not None
        assert len(found.raw["data"]["blob"]) == 900_000
