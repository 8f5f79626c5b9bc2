"""Who is believed about a split, who gets which port, and when a split is in force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import controller_runtime as ctrl
from controllers.traffic import Refused, Unreachable, Verified
from controllers.traffic.envoy.fleet import Fleet, Router
from controllers.traffic.envoy.metrics import RouterMetrics
from controllers.traffic.envoy.provider import EnvoyProvider
from controllers.traffic.envoy.snapshot import Kind
from controllers.traffic.envoy.stream import Request
from controllers.traffic.envoy.world import World
from tests.controllers.traffic.proxy import NAMESPACE, SERVICE, endpoint_slice, split
from tests.controllers.traffic.test_stream import Envoy

UID = "uid-ocr"


class TestWorld:
    def test_the_higher_change_wins_wherever_it_comes_from(self) -> None:
        world = World()
        old, new = split(1, port=20000), split(2, port=20000)
        assert world.ask(new) == NAMESPACE
        assert world.live(SERVICE, UID, old) == ""
        assert world.split(SERVICE) == new
        assert world.ask(old) == ""
        assert world.live(SERVICE, UID, split(3, port=20000)) == NAMESPACE
        assert world.split(SERVICE) == split(3, port=20000)

    def test_the_same_change_twice_must_be_the_same(self) -> None:
        world = World()
        world.ask(split(1, port=20000))
        assert world.ask(split(1, port=20000)) == ""
        with pytest.raises(ValueError, match="change 1"):
            world.ask(split(1, 5, port=20000, candidate="bbbb"))

    def test_removed_is_removed_until_something_newer_comes(self) -> None:
        world = World()
        world.live(SERVICE, UID, split(1, port=20000))
        assert world.remove(SERVICE, "somebody else") == ""
        assert world.remove(SERVICE, UID) == NAMESPACE
        assert world.split(SERVICE) is None
        assert world.live(SERVICE, UID, split(1, port=20000)) == ""  # the cache lags
        assert world.ask(split(2, port=20000)) == NAMESPACE
        assert world.namespaces() == {NAMESPACE}

    def test_a_service_of_the_same_name_is_another_one(self) -> None:
        world = World()
        world.live(SERVICE, UID, split(9, port=20000))
        assert world.live(SERVICE, "another", None) == NAMESPACE
        assert world.split(SERVICE) is None
        assert world.ask(split(10, port=20000)) == ""
        world.gone(SERVICE)
        assert world.namespaces() == set()
        world.ask(split(11, port=20000))  # of one that was deleted before its cache entry was seen
        world.live(SERVICE, "another", None)
        assert world.split(SERVICE) is None

    def test_endpoints_make_a_new_snapshot_only_where_they_matter(self) -> None:
        world = World()
        one = endpoint_slice("aaaa", [8080])
        assert world.slice(SERVICE, "s", one) == ""
        world.ask(split(1, port=20000))
        before = world.snapshot(NAMESPACE)
        assert world.snapshot(NAMESPACE) is before
        assert world.slice(SERVICE, "s", endpoint_slice("aaaa", [8081])) == NAMESPACE
        after = world.snapshot(NAMESPACE)
        assert before.resources[Kind.Route] == after.resources[Kind.Route]
        assert before.resources[Kind.Endpoint] != after.resources[Kind.Endpoint]
        assert world.slice(SERVICE, "s", None) == NAMESPACE

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from((0, 20000, 20002, 25001, 99999))), max_size=40)
    )
    def test_no_port_is_given_twice(self, asked: list[tuple[int, int]]) -> None:
        world, given_ports = World(), {}
        for number, known in asked:
            key = ctrl.Key(NAMESPACE, f"s{number}")
            port = world.port(key, f"uid-{key.name}", known)
            assert port % 2 == 0
            assert 20000 <= port < 29999
            given_ports[number] = port
            assert len(set(given_ports.values())) == len(given_ports)
            assert world.port(key, f"uid-{key.name}", port) == port

    def test_when_all_ports_are_taken_it_says_so(self) -> None:
        world = World(ports=(20000, 20199))
        for number in range(100):
            world.port(ctrl.Key(NAMESPACE, f"s{number}"), f"u{number}", 0)
        with pytest.raises(LookupError, match="100 pairs"):
            world.port(SERVICE, "one more", 0)
        assert world.port(ctrl.Key("other", "s"), "u", 0)
        first = ctrl.Key(NAMESPACE, "s0")
        world.live(first, "u0", None)
        world.live(SERVICE, UID, None)
        world.gone(first)  # and its port is free
        assert world.port(SERVICE, "one more", 0)


def router(name: str = "r", *, ready: bool = True, deleting: bool = False) -> Router:
    return Router(namespace=NAMESPACE, name=name, uid=f"uid-{name}", ready=ready, deleting=deleting)


class Scene:
    """A provider with routers that are models."""

    def __init__(self) -> None:
        self.told: list[ctrl.Key] = []
        self.settled: list[str] = []
        self.world, self.fleet = World(), Fleet(self.told.append, self.settled.append)
        self.provider = EnvoyProvider(self.world, self.fleet, lambda namespace: None)
        self.provider.open()
        self.world.slice(SERVICE, "a", endpoint_slice("aaaa", [8080]))
        self.world.slice(SERVICE, "b", endpoint_slice("bbbb", [8080]))

    def connect(self, name: str = "r") -> None:
        envoy, session = Envoy(), self.fleet.join(NAMESPACE, name)
        envoy.start()
        while True:
            said, envoy.said = envoy.said, []
            for request in said:
                self.fleet.heard(session, request)
            responses = session.stream.due()
            for response in responses:
                envoy.take(response)
            if not responses and not envoy.said:
                return

    async def verdict(self, change: int, weight: int = 20) -> object:
        candidate = "bbbb" if weight else ""
        one = split(change, weight, port=20000, candidate=candidate)
        await self.provider.apply(one)
        return await self.provider.verify(one)


class TestVerify:
    async def test_every_router_that_gets_requests_must_have_confirmed(self) -> None:
        scene = Scene()
        assert isinstance(await scene.verdict(1), Unreachable)
        scene.fleet.pod(router("r"))
        scene.fleet.pod(router("s"))
        scene.fleet.pod(router("starts", ready=False))
        scene.fleet.pod(router("ends", deleting=True))
        assert "router r is not connected" in getattr(await scene.verdict(1), "reason", "")
        scene.connect("r")
        assert "router s is not connected" in getattr(await scene.verdict(1), "reason", "")
        scene.connect("s")
        assert await scene.verdict(1) == Verified(change=1, effective=20.0, routers=2)
        assert SERVICE in scene.told
        assert NAMESPACE in scene.settled

    async def test_a_router_that_is_late_or_gone(self) -> None:
        scene = Scene()
        scene.fleet.pod(router())
        await scene.verdict(1)
        session = scene.fleet.join(NAMESPACE, "r")
        assert "not confirmed" in getattr(await scene.verdict(1), "reason", "")
        scene.fleet.leave(session)
        scene.connect()
        assert isinstance(await scene.verdict(1), Verified)
        scene.fleet.no_pod(NAMESPACE, "r")
        assert isinstance(await scene.verdict(1), Unreachable)

    async def test_what_is_measured(self) -> None:
        registry, now = CollectorRegistry(), [5.0]
        scene = Scene()
        scene.fleet = Fleet(
            scene.told.append, scene.settled.append, meters=RouterMetrics(registry), clock=lambda: now[0]
        )
        scene.provider = EnvoyProvider(scene.world, scene.fleet, lambda namespace: None)
        scene.provider.open()
        scene.fleet.pod(router())
        await scene.verdict(1)
        now[0] = 5.02
        scene.connect()
        where = {"paddle_namespace": NAMESPACE}
        assert registry.get_sample_value("paddle_routers_connected", where) == 1
        assert registry.get_sample_value("paddle_router_confirm_seconds_sum") == pytest.approx(0.02)
        scene.fleet.leave(scene.fleet.join(NAMESPACE, "r"))
        assert registry.get_sample_value("paddle_routers_connected", where) is None
        session = scene.fleet.join(NAMESPACE, "r")
        scene.fleet.heard(session, Request(Kind.Route, "9", error="no"))
        assert registry.get_sample_value("paddle_router_refusals_total", where) == 1

    async def test_a_second_stream_of_a_router_closes_the_first(self) -> None:
        scene = Scene()
        first = scene.fleet.join(NAMESPACE, "r")
        second = scene.fleet.join(NAMESPACE, "r")
        assert first.closed
        assert not second.closed
        scene.fleet.leave(first)
        assert scene.fleet.connected(NAMESPACE) == ["r"]

    async def test_only_the_newest_change_counts(self) -> None:
        scene = Scene()
        scene.fleet.pod(router())
        scene.connect()
        await scene.verdict(2)
        assert "change 2 has taken its place" in getattr(await scene.verdict(1), "reason", "")

    async def test_a_candidate_without_endpoints_is_said(self) -> None:
        scene = Scene()
        scene.fleet.pod(router())
        scene.world.slice(SERVICE, "b", endpoint_slice("bbbb", []))
        await scene.verdict(1)
        scene.connect()
        assert "bbbb has no ready endpoint" in getattr(await scene.verdict(1), "reason", "")
        # That is what the routers do already: nothing is left to wait for.
        assert await scene.verdict(2, weight=0) == Verified(change=2, effective=0.0, routers=1)

    async def test_a_refusal_names_the_router_and_what_it_said(self) -> None:
        scene = Scene()
        scene.fleet.pod(router())
        await scene.verdict(1)
        session = scene.fleet.join(NAMESPACE, "r")
        scene.fleet.heard(session, Request(Kind.Cluster, ""))
        (response,) = session.stream.due()
        scene.fleet.heard(session, Request(Kind.Cluster, response.nonce, error="ocr/aaaa/http is bad"))
        assert await scene.verdict(1) == Refused(change=1, reason="router r refuses it: ocr/aaaa/http is bad")

    async def test_nothing_is_handed_over_before_the_caches_are_complete(self) -> None:
        scene = Scene()
        scene.provider.close()
        assert "only just begun" in getattr(await scene.verdict(1), "reason", "")
        assert not scene.fleet.target(NAMESPACE).parts
        scene.provider.open()
        assert scene.fleet.target(NAMESPACE).parts

    async def test_before_all_is_known_no_port_of_another_status_is_given(self) -> None:
        scene = Scene()
        other = ctrl.Key(NAMESPACE, "other")
        provider = EnvoyProvider(
            scene.world, scene.fleet, lambda namespace: None, persisted=lambda namespace: {other: 20000}
        )
        assert provider.port(SERVICE, UID, 20000) != 20000
        assert provider.port(other, "u", 20000) == 20000
        provider.open()
        assert provider.port(other, "u", 20000) == 20000

    async def test_trouble_with_the_routers_is_said(self) -> None:
        scene = Scene()
        scene.provider.trouble(NAMESPACE, "quota")
        assert await scene.verdict(1) == Unreachable(change=1, reason="quota")
        provider = EnvoyProvider(scene.world, scene.fleet, lambda namespace: None, unable="no image")
        assert await provider.verify(split(1, port=20000)) == Refused(change=1, reason="no image")
        await provider.apply(split(7, port=20000))
        assert scene.world.split(SERVICE) != split(7, port=20000)

    async def test_whose_port_is_taken_is_told(self) -> None:
        scene = Scene()
        await scene.verdict(1)
        late = split(1, port=20000, service=ctrl.Key(NAMESPACE, "zzz"))
        await scene.provider.apply(late)
        assert "listener port 20000" in getattr(await scene.provider.verify(late), "reason", "")

    async def test_removing_takes_the_listeners_away(self) -> None:
        scene = Scene()
        await scene.verdict(1)
        assert scene.provider.backend(split(1, port=20000)).http == 20000  # type: ignore[union-attr]
        await scene.provider.remove(SERVICE, UID)
        assert not scene.fleet.target(NAMESPACE).parts
