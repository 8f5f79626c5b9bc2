"""The order of messages, against a model of Envoy that refuses what would dangle."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.traffic.envoy.snapshot import EMPTY, Kind, Snapshot, compose, part
from controllers.traffic.envoy.stream import Request, Response, Stream
from tests.controllers.traffic.test_snapshot import ENDPOINTS, named_clusters, splits


@dataclass
class Envoy:
    """Holds what it was given, as Envoy would, and says which rule was broken."""

    clusters: dict[str, object] = field(default_factory=dict)
    warm: set[str] = field(default_factory=set)
    listeners: dict[str, object] = field(default_factory=dict)
    routes: dict[str, object] = field(default_factory=dict)
    said: list[Request] = field(default_factory=list)
    nonces: dict[Kind, str] = field(default_factory=dict)
    unanswered: str = ""

    def start(self) -> None:
        for kind in (Kind.Cluster, Kind.Listener):
            self.said.append(Request(kind, ""))

    def take(self, response: Response) -> None:
        bodies = {item.name: item.body for item in response.resources}
        self.nonces[response.kind] = response.nonce
        match response.kind:
            case Kind.Cluster:
                used = {name for body in self.routes.values() for name in named_clusters(body)}
                assert used <= set(bodies), "a cluster is taken away under a route"
                changed = {name for name, body in bodies.items() if self.clusters.get(name) != body}
                eds = {name for name in changed if bodies[name].get("type") == "EDS"}
                before = self.names(Kind.Endpoint)
                self.warm = (self.warm & set(bodies)) - eds
                self.clusters = dict(bodies)
                if self.names(Kind.Endpoint) != before:
                    self.ask(Kind.Endpoint)
                self.unanswered = response.nonce  # the ACK comes when all are warm
            case Kind.Endpoint:
                self.warm |= set(bodies)
                self.ask(Kind.Endpoint)
            case Kind.Listener:
                before = self.names(Kind.Route)
                self.listeners = dict(bodies)
                if self.names(Kind.Route) != before:
                    self.ask(Kind.Route)
                self.routes = {name: body for name, body in self.routes.items() if name in self.listeners}
                self.ask(Kind.Listener)
            case Kind.Route:
                for body in bodies.values():
                    missing = named_clusters(body) - set(self.clusters)
                    assert not missing, f"a route names {missing}"
                    cold = {name for name in named_clusters(body) if name in self.names(Kind.Endpoint)}
                    assert cold <= self.warm, "a route names a cluster without endpoints"
                self.routes |= bodies
                self.ask(Kind.Route)
        if self.unanswered and self.names(Kind.Endpoint) <= self.warm:
            self.said.append(Request(Kind.Cluster, self.unanswered))
            self.unanswered = ""

    def names(self, kind: Kind) -> set[str]:
        if kind is Kind.Route:
            return set(self.listeners)
        return {name for name, body in self.clusters.items() if body.get("type") == "EDS"}  # type: ignore[attr-defined]

    def ask(self, kind: Kind) -> None:
        self.said.append(Request(kind, self.nonces.get(kind, ""), tuple(sorted(self.names(kind)))))


def settle(stream: Stream, envoy: Envoy) -> None:
    for _ in range(60):
        responses = stream.due()
        for response in responses:
            envoy.take(response)
        said, envoy.said = envoy.said, []
        for request in said:
            stream.heard(request)
        if not responses and not said:
            return
    raise AssertionError("they talk for ever")


def agree(stream: Stream, envoy: Envoy, target: Snapshot) -> None:
    assert stream.complete()
    for kind, held in (
        (Kind.Cluster, envoy.clusters),
        (Kind.Listener, envoy.listeners),
        (Kind.Route, envoy.routes),
    ):
        assert held == {name: item.body for name, item in target.resources[kind].items()}
    assert all(stream.confirms(service) and not stream.complaint(service) for service in target.parts)


TARGETS = st.lists(
    st.lists(st.tuples(st.sampled_from(("a", "b")).flatmap(splits), ENDPOINTS), max_size=2).map(
        lambda found: compose({one.service.name: part(one, ends) for one, ends in found}.values())  # type: ignore[arg-type]
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40)
@given(TARGETS)
def test_envoy_ends_with_the_target_and_nothing_ever_dangles(targets: list[Snapshot]) -> None:
    stream, envoy = Stream(), Envoy()
    envoy.start()
    for target in targets:
        stream.target = target
        settle(stream, envoy)
        agree(stream, envoy, target)


@settings(max_examples=50)
@given(TARGETS, st.integers(0, 5))
def test_a_target_may_change_at_any_moment(targets: list[Snapshot], messages: int) -> None:
    stream, envoy = Stream(), Envoy()
    envoy.start()
    for target in targets:
        stream.target = target
        for _ in range(messages):
            for response in stream.due():
                envoy.take(response)
            if envoy.said:
                stream.heard(envoy.said.pop(0))
    settle(stream, envoy)
    agree(stream, envoy, targets[-1])


@settings(max_examples=25)
@given(TARGETS)
def test_a_next_leader_takes_over(targets: list[Snapshot]) -> None:
    """A router that has a configuration comes to a leader that knows nothing of it."""
    first, envoy = Stream(), Envoy()
    envoy.start()
    first.target = targets[0]
    settle(first, envoy)
    second = Stream()
    second.target = targets[0]
    envoy.nonces.clear()
    for kind in Kind:
        names = tuple(sorted(envoy.names(kind))) if kind in (Kind.Endpoint, Kind.Route) else ()
        second.heard(Request(kind, "", names))
    settle(second, envoy)
    agree(second, envoy, targets[0])


def held(target: Snapshot) -> tuple[Stream, Envoy]:
    stream, envoy = Stream(), Envoy()
    envoy.start()
    stream.target = target
    settle(stream, envoy)
    return stream, envoy


def test_what_is_refused_is_not_sent_again_and_is_told() -> None:
    from controllers.traffic.envoy.endpoints import endpoints
    from tests.controllers.traffic.proxy import endpoint_slice, split

    found = endpoints([endpoint_slice("aaaa", [1]), endpoint_slice("bbbb", [2])])
    stream, envoy = held(compose([part(split(1, 10, port=20000, candidate="bbbb"), found)]))
    stream.target = compose([part(split(2, 20, port=20000, candidate="bbbb"), found)])
    (response,) = stream.due()
    assert response.kind is Kind.Route
    stream.heard(Request(Kind.Route, response.nonce, tuple(sorted(envoy.routes)), error="no good"))
    assert stream.complaint("ocr") == "no good"
    assert not stream.confirms("ocr")
    assert stream.due() == []
    stream.target = compose([part(split(3, 30, port=20000, candidate="bbbb"), found)])
    assert stream.complaint("ocr") == ""
    settle(stream, envoy)
    assert stream.confirms("ocr")


def test_nothing_is_sent_before_it_is_asked_for() -> None:
    stream = Stream()
    stream.target = EMPTY
    assert stream.due() == []
    stream.heard(Request(Kind.Cluster, ""))
    assert [one.kind for one in stream.due()] == [Kind.Cluster]
    assert stream.due() == []
    stream.heard(Request(Kind.Cluster, "99"))  # an answer to nothing
    assert stream.due() == []
