"""Scenarios 1 to 6: what happens to a watch must not be seen in the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, FaultProxy, HTTPFaultProxy, running

from ..fakes import until
from .mirror import add_mirror, converged, metric, owner, requests

pytestmark = pytest.mark.apiserver

AGENT = "mirror"
LISTS = "controller_runtime_py_lists_total"


def manager_for(config: ctrl.Config, namespace: str, **options: object) -> ctrl.Manager:
    settings: dict[str, object] = {"field_manager": AGENT, "namespaces": [namespace], **options}
    return ctrl.Manager(config, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objects", "every", "seconds"),
    [(60, 0.4, 4.0), pytest.param(500, 2.0, 60.0, marks=pytest.mark.slow)],
)
async def test_1_every_watch_is_cut_again_and_again(
    server: Envtest, space: str, objects: int, every: float, seconds: float
) -> None:
    async with FaultProxy(server.config) as proxy, server.client() as client:
        manager = manager_for(proxy.config, space)
        mirror = add_mirror(manager)

        async def cut() -> None:
            while True:
                await asyncio.sleep(every)
                proxy.cut()

        async def change() -> None:
            pause = seconds / (3 * objects)
            for number in range(objects):
                await client.create(owner(space, f"o{number}"))
                await asyncio.sleep(pause)
            for number in range(0, objects, 2):
                key = ctrl.Key(space, f"o{number}")
                await client.patch(ctrl.CONFIG_MAP, key, {"data": {"value": "2"}})
                await asyncio.sleep(pause)
            for number in range(0, objects, 3):
                await client.delete(ctrl.CONFIG_MAP, ctrl.Key(space, f"o{number}"))
                await asyncio.sleep(pause)

        async with running(manager):
            cutting = asyncio.create_task(cut())
            await change()
            cutting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cutting
            state = await converged(client, space)
        assert state == {f"o{number}": "1" if number % 2 else "2" for number in range(objects) if number % 3}
        assert mirror.breaches == []
        # Resumed by version each time: the first list was the only one.
        assert metric(manager, LISTS, kind="ConfigMap") == 1
        assert len(requests(server, AGENT, ["list"], space)) == 1


class Recorder:
    """What a handler heard: names by kind of event."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.updated: list[str] = []
        self.deleted: list[tuple[str, bool]] = []

    def on_add(self, obj: ctrl.Object, in_initial_list: bool) -> None:
        self.added.append(obj.name)

    def on_update(self, old: ctrl.Object, new: ctrl.Object) -> None:
        self.updated.append(new.name)

    def on_delete(self, obj: ctrl.Object, state_unknown: bool) -> None:
        self.deleted.append((obj.name, state_unknown))


@asynccontextmanager
async def cached(
    config: ctrl.Config, namespace: str, kind: ctrl.Kind = ctrl.CONFIG_MAP, **options: object
) -> AsyncIterator[Recorder]:
    """An informer of the namespace's owners, synced."""
    transport = ctrl.Transport(config, user_agent="recorder")
    settings = ctrl.ReflectorOptions(**options)  # type: ignore[arg-type]
    cache = ctrl.Cache(transport, namespaces=[namespace], options=settings)
    recorder = Recorder()
    cache.watch(kind, labels="role=owner").add_handler(recorder)
    stop = asyncio.Event()
    task = asyncio.create_task(cache.run(stop))
    try:
        await cache.wait_synced(20.0)
        yield recorder
    finally:
        stop.set()
        await task
        await transport.close()


def is_watch(method: str, path: str, query: dict[str, str]) -> bool:
    return "watch" in query and "configmaps" in path


def is_second_page(method: str, path: str, query: dict[str, str]) -> bool:
    return "continue" in query and "configmaps" in path


def expire_watch(proxy: HTTPFaultProxy) -> None:
    proxy.answer(is_watch, 410, reason="Expired")


def expire_second_page(proxy: HTTPFaultProxy) -> None:
    expire_watch(proxy)
    proxy.answer(is_second_page, 410, reason="Expired")


def expire_in_stream(proxy: HTTPFaultProxy) -> None:
    proxy.end_watch(is_watch, 410, reason="Expired")


@pytest.mark.parametrize("fault", [expire_in_stream, expire_watch, expire_second_page])
async def test_2_expired_versions_lead_to_a_new_list_and_one_deletion_of_unknown_state(
    server: Envtest, space: str, fault: Callable[[HTTPFaultProxy], None]
) -> None:
    async with (
        HTTPFaultProxy(server.config, server.server_certificate) as http,
        FaultProxy(http.config) as link,
        server.client() as client,
    ):
        for number in range(11):
            await client.create(owner(space, f"o{number}"))
        async with cached(link.config, space, page_size=5) as recorder:
            await client.create(owner(space, "o11"))
            await until(lambda: len(recorder.added) == 12)  # the watch is open
            link.freeze()
            await client.delete(ctrl.CONFIG_MAP, ctrl.Key(space, "o7"))
            await client.create(owner(space, "new"))
            fault(http)
            link.cut()
            link.thaw()
            await until(lambda: "new" in recorder.added and recorder.deleted, seconds=20.0)
            assert recorder.deleted == [("o7", True)]
            assert len(recorder.added) == 13
            await client.delete(ctrl.CONFIG_MAP, ctrl.Key(space, "o8"))
            await until(lambda: ("o8", False) in recorder.deleted)


async def test_3_history_is_compacted_while_the_watch_is_away(server: Envtest, space: str) -> None:
    def secret(name: str) -> dict[str, object]:
        return {**owner(space, name), "kind": "Secret", "data": {}}

    async with FaultProxy(server.config) as link, server.client() as client:
        for number in range(3):
            await client.create(secret(f"o{number}"))
        async with cached(link.config, space, ctrl.SECRET) as recorder:
            await client.create(secret("o3"))
            await until(lambda: "o3" in recorder.added)  # the watch is open
            link.freeze()
            await client.delete(ctrl.SECRET, ctrl.Key(space, "o1"))
            await client.create(secret("new"))
            server.compact()
            link.cut()
            link.thaw()
            await until(lambda: recorder.deleted and "new" in recorder.added, seconds=60.0)
            assert recorder.deleted == [("o1", True)]


async def test_4_after_a_cut_the_watch_resumes_from_the_last_bookmark(server: Envtest, space: str) -> None:
    async with (
        HTTPFaultProxy(server.config, server.server_certificate) as proxy,
        server.client() as client,
    ):
        last = await client.create(owner(space, "o"))
        # The server sends a bookmark 2 s before it ends a watch by itself.
        async with cached(proxy.config, space, watch_min=3.0, watch_max=3.9, page_size=5):
            other = owner(space, "not-watched")
            other["metadata"] = {"name": "not-watched", "namespace": space}
            await until(lambda: any(seen.is_watch for seen in proxy.seen))
            noise = await client.create(other)

            def resumed() -> int:
                watches = [seen for seen in proxy.seen if seen.is_watch and "configmaps" in seen.path]
                return max((int(seen.query["resourceVersion"]) for seen in watches[1:]), default=0)

            # No watched object has come as far: only a bookmark can have brought this version.
            await until(lambda: resumed() >= int(noise.resource_version), seconds=30.0)
            assert int(noise.resource_version) > int(last.resource_version)
            assert sum(seen.is_list and "configmaps" in seen.path for seen in proxy.seen) == 1


@pytest.mark.parametrize("seconds", [1.0, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_5_the_api_server_is_killed_and_comes_back(server: Envtest, space: str, seconds: float) -> None:
    async with server.client() as client:
        election = ctrl.LeaderElection(name="lock", namespace=space)
        manager = manager_for(server.config, space, leader_election=election)
        mirror = add_mirror(manager)
        lost = False
        try:
            async with running(manager) as task:
                await until(lambda: manager.leading)
                await client.create(owner(space, "before"))
                await converged(client, space)
                server.stop_apiserver(kill=True)
                with pytest.raises(ctrl.TransportError):
                    await client.create(owner(space, "refused"))
                await asyncio.sleep(seconds)
                await asyncio.to_thread(server.start_apiserver)
                if not task.done():
                    await client.create(owner(space, "after"))
                    state = await converged(client, space, seconds=90.0)
                    assert sorted(state) == ["after", "before"], "what was stored stays"
                    assert manager.leading
        except ctrl.LeaderLost:
            lost = True
        assert lost == (seconds > election.lease_duration), "kept through a short outage, lost in a long one"
        assert mirror.breaches == []
        assert len(requests(server, AGENT, ["list"], space)) < 5


class Asking:
    """Asks the server at every reconcile, and again soon."""

    def __init__(self, client: ctrl.Client) -> None:
        self.answers = 0
        self._client = client

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        await self._client.get_live(ctrl.CONFIG_MAP, request)
        self.answers += 1
        return ctrl.Result(requeue_after=0.2)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_5_an_outage_is_no_reason_for_a_storm(server: Envtest, space: str, seconds: float) -> None:
    keys, workers = 50, 10
    async with FaultProxy(server.config) as link, server.client() as client:
        for number in range(keys):
            await client.create(owner(space, f"o{number}"))
        manager = manager_for(link.config, space)
        manager.cache.watch(ctrl.CONFIG_MAP, labels="role=owner")
        asking = Asking(manager.client)
        ctrl.controller(manager).manages(ctrl.CONFIG_MAP).complete(asking, workers=workers)
        async with running(manager):
            await until(lambda: asking.answers >= 2 * keys)
            link.refuse()
            link.cut()
            before = link.accepted
            await asyncio.sleep(seconds)
            attempts = link.accepted - before
            link.refuse(False)
            answered = asking.answers
            await until(lambda: asking.answers >= answered + 2 * keys, seconds=90.0)
        print(f"{attempts} attempts in {seconds:g} s, {attempts / seconds:.1f} a second")
        assert attempts > workers, "it did try"
        # Every worker pauses longer and longer between its tries: 20 ms, 40 ms, ... 1 s.
        assert attempts <= workers * (8 + 2 * seconds)
        assert len(requests(server, AGENT, ["list"], space)) == 1


async def test_6_a_name_that_was_deleted_and_made_again_while_cut_is_another_object(
    server: Envtest, space: str
) -> None:
    async with FaultProxy(server.config) as link, server.client() as client:
        manager = manager_for(link.config, space)
        mirror = add_mirror(manager)
        key = ctrl.Key(space, "o")
        async with running(manager):
            first = await client.create(owner(space, "o"))
            await converged(client, space)
            link.refuse()
            link.cut()
            await client.delete(ctrl.CONFIG_MAP, key)
            second = await client.create(owner(space, "o"))
            link.refuse(False)
            # `converged` compares the owner in the child: the first one's must not have been kept.
            await converged(client, space)
            assert first.uid != second.uid
            assert mirror.uids[key] == second.uid
            assert mirror.breaches == []
