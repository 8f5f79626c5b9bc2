"""The whole line on a real API server: manager, caches, queue, reconciler, writes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from controller_runtime import (
    CONFIG_MAP,
    EVENT,
    LEASE,
    Client,
    Key,
    NotLeader,
    Object,
    Result,
    owner_reference,
)
from controller_runtime._builder import controller
from controller_runtime._leaderelection import LeaderElection
from controller_runtime._manager import Manager
from controller_runtime._predicates import has_labels
from controller_runtime.testing import Envtest, running

from .fakes import until

pytestmark = pytest.mark.apiserver

OWNER = {"role": "owner"}


class ChildReconciler:
    """Every owner ConfigMap gets a child ConfigMap with the owner's data."""

    def __init__(self, manager: Manager) -> None:
        self.client = manager.client
        self.events = manager.events("child-controller")
        self.running: set[Key] = set()
        self.calls = 0
        self.applies = 0

    async def reconcile(self, request: Key) -> Result:
        assert request not in self.running, f"{request} in two workers"
        self.running.add(request)
        self.calls += 1
        try:
            owner = await self.client.get(CONFIG_MAP, request)
            if owner is None or owner.labels.get("role") != "owner":
                return Result()
            name = f"{request.name}-child"
            child = await self.client.get(CONFIG_MAP, Key(request.namespace, name))
            wanted = owner.raw.get("data")
            if child is None or child.raw.get("data") != wanted:
                self.applies += 1
                await self.client.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {
                            "name": name,
                            "namespace": request.namespace,
                            "labels": {"role": "child"},
                            "ownerReferences": [owner_reference(owner)],
                        },
                        "data": wanted,
                    }
                )
                self.events.normal(owner, "Applied", "child applied")
            return Result()
        finally:
            self.running.remove(request)


def make_manager(env: Envtest, namespace: str, **options: object) -> Manager:
    settings = {"field_manager": "child-controller", "namespaces": [namespace], **options}
    return Manager(env.config, **settings)  # type: ignore[arg-type]


def add_controller(manager: Manager, *, workers: int = 10) -> ChildReconciler:
    manager.cache.watch(CONFIG_MAP, labels="role in (owner,child)")
    reconciler = ChildReconciler(manager)
    controller(manager, "child").manages(CONFIG_MAP, when=has_labels(OWNER)).owns(CONFIG_MAP).complete(
        reconciler, workers=workers
    )
    return reconciler


def owner(namespace: str, name: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace, "labels": OWNER}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": name}}


async def children(client: Client, namespace: str) -> dict[str, Object]:
    found = await client.list_live(CONFIG_MAP, namespace=namespace, labels={"role": "child"})
    return {child.name: child for child in found}


async def test_two_hundred_owners_get_their_child_once_and_a_deleted_child_comes_back(
    apiserver: Envtest, namespace: str
) -> None:
    async with apiserver.client() as client:
        for number in range(100):
            await client.create(owner(namespace, f"early-{number}"))
        manager = make_manager(
            apiserver, namespace, health_address="127.0.0.1:0", metrics_address="127.0.0.1:0"
        )
        reconciler = add_controller(manager)
        async with running(manager):
            for number in range(100):
                await client.create(owner(namespace, f"live-{number}"))
            await until(lambda: reconciler.applies >= 200 and not reconciler.running, seconds=30.0)
            assert len(await children(client, namespace)) == 200
            # Own writes were awaited, so no reconcile ever saw a cache without its own child.
            assert reconciler.applies == 200

            victim = (await children(client, namespace))["live-7-child"]
            assert victim.raw["data"] == {"value": "live-7"}
            await client.delete(CONFIG_MAP, victim.key, uid=victim.uid)
            await until(lambda: reconciler.applies == 201)

            await client.patch(CONFIG_MAP, Key(namespace, "live-8"), {"data": {"value": "new"}})
            await until(lambda: reconciler.applies == 202)
            changed = (await children(client, namespace))["live-8-child"]
            assert changed.raw["data"] == {"value": "new"}

            await check_http(manager)
        events = await client.list_live(EVENT, namespace=namespace)
        applied = [event for event in events if event.raw["reason"] == "Applied"]
        assert len(applied) == 200
        assert {event.raw["reportingController"] for event in applied} == {"child-controller"}
        repeated = [event.raw["series"]["count"] for event in applied if event.raw.get("series")]
        assert repeated == [2, 2]


async def check_http(manager: Manager) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("healthz", "livez", "readyz", "readyz/caches", "healthz/loop"):
            async with session.get(f"http://127.0.0.1:{manager.health_port}/{path}") as response:
                assert (response.status, await response.text()) == (200, "ok"), path
        async with session.get(f"http://127.0.0.1:{manager.metrics_port}/metrics") as response:
            text = await response.text()
    assert 'controller_runtime_reconcile_total{controller="child",result="success"}' in text
    assert 'rest_client_requests_total{code="200",' in text
    assert 'controller_runtime_py_cache_objects{kind="ConfigMap"} 400.0' in text


async def test_the_second_replica_waits_and_takes_over_at_once_when_the_first_stops(
    apiserver: Envtest, namespace: str
) -> None:
    def replica(identity: str) -> tuple[Manager, ChildReconciler]:
        election = LeaderElection(name="lock", namespace=namespace, identity=identity, retry_period=0.2)
        manager = make_manager(apiserver, namespace, leader_election=election)
        return manager, add_controller(manager)

    async with apiserver.client() as client, AsyncExitStack() as stack:
        first, one = replica("first")
        second, two = replica("second")
        async with running(first):
            await until(lambda: first.leading)
            await stack.enter_async_context(running(second))
            await client.create(owner(namespace, "a"))
            await until(lambda: one.applies == 1)
            assert two.calls == 0
            assert not second.elected.is_set()
            with pytest.raises(NotLeader):
                await second.client.create(owner(namespace, "forbidden"))
        await until(lambda: second.leading)
        await client.create(owner(namespace, "b"))
        await until(lambda: two.applies == 1)
        lease = await client.get_live(LEASE, Key(namespace, "lock"))
        assert lease is not None
        assert lease.spec["holderIdentity"] == "second"
        assert lease.spec["leaseTransitions"] == 1
        await stack.aclose()
        lease = await client.get_live(LEASE, Key(namespace, "lock"))
        assert lease is not None
        assert lease.spec["holderIdentity"] == ""
