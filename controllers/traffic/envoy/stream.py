"""What one router is to be sent next, and what it holds. Pure: no gRPC, no clock.

State of the world over one stream (ADS), with Envoy's order: clusters and their endpoints first, then
listeners and routes, and only then clusters that nothing points at any more are taken away. A change of
weights touches routes alone, so it is one message and its ACK.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .snapshot import EMPTY, Kind, Resource, Snapshot, version

Versions = dict[str, str]

#: Types whose every message is the whole set; of the others only what changed is sent.
WHOLE = frozenset({Kind.Cluster, Kind.Listener})


@dataclass(frozen=True, slots=True)
class Request:
    """What a router says: a first request (no nonce), an ACK, or a NACK with Envoy's `error`."""

    kind: Kind
    nonce: str
    names: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """To send: all of a type, or what changed of it."""

    kind: Kind
    nonce: str
    version: str
    resources: tuple[Resource, ...]


@dataclass(slots=True)
class _Type:
    """One type's state. sent, held: versions by name, as sent and as ACKed. open: not yet heard of.

    done: what was found to be sent in full, for these names. whole: what was found to be held, or not, when
    `held` had changed `age` times. Both save comparisons while nothing has changed.
    """

    started: bool = False
    names: frozenset[str] = frozenset()
    done: tuple[object, frozenset[str]] | None = None
    whole: tuple[object, int, bool] | None = None
    age: int = 0
    sent: Versions | None = None
    held: Versions = field(default_factory=dict)
    open: dict[str, Versions] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    last: str = ""


class Stream:
    """The conversation with one router. `heard` takes what it says, `due` gives what is to be sent.

    Guarantees: no route is sent before the clusters it names were ACKed, and no cluster is taken away before
    the routes that named it were replaced. What was refused is not sent again until it changes.
    """

    def __init__(self) -> None:
        self._types: dict[Kind, _Type] = {kind: _Type() for kind in Kind}
        self._clusters: Mapping[str, Resource] = {}
        self._nonce = 0
        self.target: Snapshot = EMPTY

    def heard(self, request: Request) -> None:
        """Take in what the router says. An answer to something older than the last message still counts for
        what it answers.
        """
        state = self._types[request.kind]
        if not request.nonce:
            state.started = True
            state.names = frozenset(request.names)
            return
        answered = state.open.pop(request.nonce, None)
        if request.nonce == state.last and state.names != frozenset(request.names):
            state.names = frozenset(request.names)
        if answered is None:
            return
        state.age += 1
        if request.error is None:
            if request.kind in WHOLE:
                state.held = dict(answered)
            else:
                state.held.update(answered)
            for name in answered:
                state.refused.pop(name, None)
            return
        # Envoy keeps what it had of those it names, and takes the others: at least it says so of clusters and
        # listeners. If it names none, none of it is believed.
        blamed = [name for name in answered if name in request.error] or list(answered)
        for name, sent in answered.items():
            if name in blamed:
                if state.held.get(name) != sent:
                    state.refused[name] = (sent, request.error)
            else:
                state.held[name] = sent

    def concerns(self, request: Request) -> set[str]:
        """The services that an ACK or NACK, not yet heard, is about."""
        answered = self._types[request.kind].open.get(request.nonce, {})
        return {name.partition("/")[0] for name in answered}

    def due(self) -> list[Response]:
        """What to send now; empty until the router has answered, or the target changes."""
        responses = self._clusters_due(self._routed())
        # Envoy ACKs clusters only when all have their endpoints, so these do not wait for it.
        responses += self._named_due(Kind.Endpoint)
        if not self._arrived(Kind.Cluster) or not self._arrived(Kind.Endpoint):
            return responses
        responses += self._whole_due(Kind.Listener, self.target.resources[Kind.Listener])
        bad = frozenset(resource.service for resource in self._refused(Kind.Cluster))
        responses += self._named_due(Kind.Route, bad)
        return responses

    def confirms(self, service: str) -> bool:
        """The router holds everything of `service` as the target has it. Endpoints do not count: they come
        and go by themselves.
        """
        one = self.target.part(service)
        return one is not None and all(
            self._types[kind].held.get(name) == self.target.resources[kind][name].version
            for kind in (Kind.Cluster, Kind.Listener, Kind.Route)
            for name in one.resources[kind]
        )

    def complaint(self, service: str) -> str:
        """What Envoy said against something of `service` that is in the target, or ""."""
        for kind in Kind:
            for resource in self._refused(kind):
                if resource.service == service:
                    return self._types[kind].refused[resource.name][1]
        return ""

    def complete(self) -> bool:
        """The router holds the whole target, and nothing else."""
        return self._routed() and set(self._types[Kind.Cluster].held) == set(
            self.target.resources[Kind.Cluster]
        )

    def _routed(self) -> bool:
        """Listeners and routes are the target's, so that no older cluster is pointed at."""
        listeners, wanted = self._types[Kind.Listener], self.target.resources[Kind.Listener]
        # Every listener that is held is wanted, and the other way round.
        return len(listeners.held) == len(wanted) and self._holds(Kind.Listener) and self._holds(Kind.Route)

    def _holds(self, kind: Kind) -> bool:
        """Everything of the target is held."""
        state, wanted = self._types[kind], self.target.resources[kind]
        if state.whole is None or state.whole[0] is not wanted or state.whole[1] != state.age:
            found = all(state.held.get(name) == item.version for name, item in wanted.items())
            state.whole = (wanted, state.age, found)
        return state.whole[2]

    def _clusters_due(self, routed: bool) -> list[Response]:
        wanted = self.target.resources[Kind.Cluster]
        state = self._types[Kind.Cluster]
        if self._clusters is wanted:
            return []
        if not routed:
            # Only what was ACKed can have a route; the rest would wait for endpoints that nobody sends.
            stays = {
                name: item
                for name, item in self._clusters.items()
                if name not in wanted and name in state.held
            }
            if stays:
                wanted = stays | dict(wanted)
        before = state.sent or {}
        changed = [name for name, item in wanted.items() if before.get(name) != item.version]
        responses = self._whole_due(Kind.Cluster, wanted)
        if state.started:
            self._clusters = wanted
        if responses:
            # A cluster that is new or changed waits for its endpoints, even where they are the same.
            self._again(Kind.Endpoint, changed)
        return responses

    def _again(self, kind: Kind, names: Iterable[str]) -> None:
        state = self._types[kind]
        state.done = None
        state.age += 1
        for name in names:
            (state.sent or {}).pop(name, None)
            state.held.pop(name, None)

    def _whole_due(self, kind: Kind, wanted: Mapping[str, Resource]) -> list[Response]:
        state = self._types[kind]
        if not state.started or (state.done is not None and state.done[0] is wanted):
            return []
        versions = {name: item.version for name, item in wanted.items()}
        state.done = (wanted, state.names)
        if state.sent == versions:
            return []
        if kind is Kind.Listener:
            before = state.sent or {}
            new = [name for name, item in versions.items() if before.get(name) != item]
            self._again(Kind.Route, new)  # a listener that is new or changed asks for its routes
        state.sent = versions
        state.refused = {name: item for name, item in state.refused.items() if versions.get(name) == item[0]}
        return [self._response(kind, wanted.values())]

    def _named_due(self, kind: Kind, without: frozenset[str] = frozenset()) -> list[Response]:
        """What has changed of what the router asked for; nothing of the services in `without`."""
        state, mapping = self._types[kind], self.target.resources[kind]
        if not state.started:
            return []
        if state.done is not None and state.done[0] is mapping and state.done[1] is state.names:
            return []
        state.done = None if without else (mapping, state.names)
        wanted = [item for item in mapping.values() if item.service not in without]
        sent = state.sent = state.sent or {}
        for name in [name for name in sent if name not in state.names]:
            del sent[name]  # it let go of it; if it asks again it has nothing
            state.held.pop(name, None)
            state.age += 1
        new = [item for item in wanted if item.name in state.names and sent.get(item.name) != item.version]
        if not new:
            return []
        sent.update({item.name: item.version for item in new})
        return [self._response(kind, new)]

    def _response(self, kind: Kind, resources: Iterable[Resource]) -> Response:
        state, listed = self._types[kind], tuple(sorted(resources, key=lambda item: item.name))
        self._nonce += 1
        state.last = str(self._nonce)
        versions = {item.name: item.version for item in listed}
        state.open[state.last] = versions
        return Response(kind, state.last, version(versions), listed)

    def _arrived(self, kind: Kind) -> bool:
        """Everything of the target is held, or was refused and will not be."""
        if self._holds(kind):
            return True
        state = self._types[kind]
        return bool(state.refused) and all(
            state.held.get(name) == item.version or state.refused.get(name, ("",))[0] == item.version
            for name, item in self.target.resources[kind].items()
        )

    def _refused(self, kind: Kind) -> list[Resource]:
        state, wanted = self._types[kind], self.target.resources[kind]
        return [
            wanted[name]
            for name, (sent, _) in state.refused.items()
            if name in wanted and wanted[name].version == sent
        ]
