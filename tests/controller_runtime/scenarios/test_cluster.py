"""Scenarios 13 to 16: conflicts, finalizers, missing kinds and rights, leaks."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import aiohttp
import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, HTTPFaultProxy, running

from ..fakes import until
from .mirror import OWNER, add_mirror, converged, eventually, owner, requests

pytestmark = pytest.mark.apiserver

WIDGET_CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %(plural)s.scenarios.example}
spec:
  group: scenarios.example
  scope: Namespaced
  names: {kind: %(kind)s, listKind: %(kind)sList, plural: %(plural)s, singular: %(singular)s}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def install(server: Envtest, folder: Path, name: str) -> ctrl.Kind:
    """A kind of the test's own."""
    singular, plural = name.lower(), f"{name.lower()}s"
    file = folder / "crd.yaml"
    file.write_text(WIDGET_CRD % {"kind": name, "plural": plural, "singular": singular})
    server.install_crds(file)
    return ctrl.Kind("scenarios.example", "v1", name, plural)


def custom(kind: ctrl.Kind, namespace: str, name: str, **metadata: object) -> dict[str, object]:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {},
    }


async def test_13_two_writers_lose_nothing(server: Envtest, space: str, tmp_path: Path) -> None:
    kind = install(server, tmp_path, "Counter")
    key = ctrl.Key(space, "c")
    async with server.client() as one, server.client(field_manager="other") as two:
        await one.create(custom(kind, space, "c"))

        async def count(client: ctrl.Client, field: str) -> None:
            for _ in range(20):

                async def attempt() -> None:
                    found = await client.get_live(kind, key)
                    assert found is not None
                    status = dict(found.raw.get("status") or {})
                    status[field] = status.get(field, 0) + 1
                    await client.update({**found.raw, "status": status}, subresource="status")

                await ctrl.retry_on_conflict(attempt, steps=50)

        await asyncio.gather(count(one, "a"), count(two, "b"))
        found = await one.get_live(kind, key)
        assert found is not None
        assert found.status == {"a": 20, "b": 20}

        def body(**data: str) -> dict[str, object]:
            metadata = {"name": "shared", "namespace": space}
            return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

        await one.apply(body(x="one", y="one"))
        with pytest.raises(ctrl.Conflict, match="envtest"):
            await two.apply(body(x="two"), force=False)
        await two.apply(body(x="two"))
        with pytest.raises(ctrl.Conflict, match="other"):
            await one.apply(body(x="one", y="one"), force=False)
        shared = await one.apply(body())
        assert shared.raw["data"] == {"x": "two"}, "ours went with our apply, the other's stayed"


class Cleaner:
    """Holds objects up until the outside world is clean, which fails twice."""

    NAME = "scenarios.example/ours"

    def __init__(self, client: ctrl.Client) -> None:
        self.client = client
        self.attempts = 0

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        obj = await self.client.get(ctrl.CONFIG_MAP, request)
        if obj is None:
            return ctrl.Result()
        if not obj.deleting:
            await ctrl.add_finalizer(self.client, obj, self.NAME)
        elif self.NAME in obj.finalizers:
            self.attempts += 1
            if self.attempts < 3:
                raise ConnectionError("the outside world is away")
            await ctrl.remove_finalizer(self.client, obj, self.NAME)
        return ctrl.Result()


def cleaning(server: Envtest, space: str) -> tuple[ctrl.Manager, Cleaner]:
    manager = ctrl.Manager(server.config, field_manager="cleaner", namespaces=[space])
    manager.cache.watch(ctrl.CONFIG_MAP, labels=OWNER)
    cleaner = Cleaner(manager.client)
    ctrl.controller(manager, "cleaner").manages(ctrl.CONFIG_MAP).complete(cleaner)
    return manager, cleaner


async def test_14_a_deletion_during_an_outage_is_cleaned_up_after_it(server: Envtest, space: str) -> None:
    key = ctrl.Key(space, "o")
    other = "scenarios.example/others"
    async with server.client() as client:
        await client.create(owner(space, "o"))

        async def finalizers() -> list[str]:
            found = await client.get_live(ctrl.CONFIG_MAP, key)
            return list(found.finalizers) if found is not None else []

        async def until_finalizers(wanted: list[str]) -> None:
            async def reached() -> bool:
                return await finalizers() == wanted

            await eventually(reached)

        manager, _ = cleaning(server, space)
        async with running(manager):
            await until_finalizers([Cleaner.NAME])
        await client.patch(ctrl.CONFIG_MAP, key, {"metadata": {"finalizers": [other, Cleaner.NAME]}})
        await client.delete(ctrl.CONFIG_MAP, key)
        assert await finalizers() == [other, Cleaner.NAME]

        manager, cleaner = cleaning(server, space)
        async with running(manager):
            await until_finalizers([other])
            assert cleaner.attempts == 3
        await client.patch(ctrl.CONFIG_MAP, key, {"metadata": {"finalizers": []}})
        assert await client.get_live(ctrl.CONFIG_MAP, key) is None


class Counting:
    def __init__(self) -> None:
        self.keys: list[ctrl.Key] = []

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        self.keys.append(request)
        return ctrl.Result()


async def test_15_a_kind_that_is_installed_later_is_found(
    server: Envtest, space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = ctrl.Kind("scenarios.example", "v1", "Late", "lates")
    manager = ctrl.Manager(
        server.config,
        field_manager="late",
        namespaces=[space],
        health_address="127.0.0.1:0",
        watch_options=ctrl.ReflectorOptions(missing_kind_retry=0.5),
    )
    reconciler = Counting()
    ctrl.controller(manager).manages(kind).complete(reconciler)

    async def ready(session: aiohttp.ClientSession) -> int:
        async with session.get(f"http://127.0.0.1:{manager.health_port}/readyz") as response:
            return response.status

    async with (
        aiohttp.ClientSession() as session,
        server.client() as client,
        running(manager, started=False) as task,
    ):
        said = ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return "Late is not installed; apply its CRD" in said

        await until(told)
        assert not task.done()
        assert not manager.started.is_set()
        assert await ready(session) == 500
        await asyncio.to_thread(install, server, tmp_path, "Late")
        await asyncio.wait_for(manager.started.wait(), 20.0)
        assert await ready(session) == 200
        await client.create(custom(kind, space, "one"))
        await until(lambda: reconciler.keys == [ctrl.Key(space, "one")])


async def test_15_missing_rights_are_named_at_once_and_end_the_manager(
    server: Envtest, space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = server.user("nobody")
    manager = ctrl.Manager(config, field_manager="poor", namespaces=[space], cache_sync_timeout=3.0)
    manager.cache.watch(ctrl.SECRET, labels=OWNER)
    ctrl.controller(manager).manages(ctrl.SECRET).complete(Counting())
    task = asyncio.create_task(manager.run(asyncio.Event()))
    said = ""

    def named() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "grant get, list, watch on secrets" in said

    await until(named, seconds=2.5)
    assert not task.done()
    assert "forbidden" in said.lower()
    with pytest.raises(ctrl.CacheSyncTimeout, match="grant get, list, watch on secrets"):
        await asyncio.wait_for(task, 20.0)


async def test_15_the_server_says_when_to_come_back(server: Envtest, space: str) -> None:
    async with HTTPFaultProxy(server.config, server.server_certificate) as proxy:
        proxy.answer(
            lambda method, path, query: method == "POST",
            429,
            reason="TooManyRequests",
            headers={"Retry-After": "1"},
        )
        async with ctrl.connect(proxy.config) as client:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await client.create(owner(space, "o"))
            assert loop.time() - began >= 1.0
        assert [seen.status for seen in proxy.seen if seen.method == "POST"] == [429, 201]


async def test_16_informers_and_handlers_that_come_and_go_leave_nothing(server: Envtest, space: str) -> None:
    class Deaf:
        def on_add(self, obj: ctrl.Object, in_initial_list: bool) -> None: ...
        def on_update(self, old: ctrl.Object, new: ctrl.Object) -> None: ...
        def on_delete(self, obj: ctrl.Object, state_unknown: bool) -> None: ...

    def sockets() -> int:
        return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket") for fd in _descriptors())

    async with server.client() as client:
        for number in range(20):
            await client.create(owner(space, f"o{number}"))
        transport = ctrl.Transport(server.config)

        async def once() -> None:
            cache = ctrl.Cache(transport, namespaces=[space])
            stop = asyncio.Event()
            task = asyncio.create_task(cache.run(stop))
            informer = cache.watch(ctrl.CONFIG_MAP, labels=OWNER)
            await cache.wait_synced(20.0)
            registration = informer.add_handler(Deaf())
            await registration.wait_synced(20.0)
            registration.remove()
            stop.set()
            await task

        for _ in range(5):
            await once()
        gc.collect()
        before = (len(asyncio.all_tasks()), sockets(), _resident())
        for _ in range(100):
            await once()
        gc.collect()
        after = (len(asyncio.all_tasks()), sockets(), _resident())
        await transport.close()
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 1
    assert after[2] <= before[2] + 4.0, "MiB"


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{name}"):
            found.append(name)
    return found


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_a_manager_without_work_writes_nothing(server: Envtest, space: str) -> None:
    manager = ctrl.Manager(server.config, field_manager="idle-mirror", namespaces=[space])
    add_mirror(manager)
    writes = ("create", "update", "patch", "delete")
    async with server.client() as client:
        async with running(manager):
            await client.create(owner(space, "o"))
            await converged(client, space)
        assert len(requests(server, "idle-mirror", writes, space)) == 1
        again = ctrl.Manager(server.config, field_manager="idle-mirror", namespaces=[space])
        mirror = add_mirror(again)
        async with running(again):
            await until(lambda: mirror.calls[ctrl.Key(space, "o")])
        assert len(requests(server, "idle-mirror", writes, space)) == 1
