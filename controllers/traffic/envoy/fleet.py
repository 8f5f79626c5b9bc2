"""The routers of every namespace, what each holds, and whether a split is in force. Never awaits."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import controller_runtime as ctrl

from ..provider import Pending, Refused, Unreachable, Verification, Verified
from ..split import Split
from .metrics import Meters, NoMeters
from .snapshot import EMPTY, Kind, Snapshot
from .stream import Request, Stream

#: What routers confirm; endpoints come and go by themselves.
_CONFIRMED = (Kind.Cluster, Kind.Listener, Kind.Route)


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router pod as the cache has it."""

    namespace: str
    name: str
    uid: str
    ready: bool
    deleting: bool = False


@dataclass(slots=True)
class Session:
    """One open stream. wake: there may be something to send. closed: another stream took its place."""

    router: str
    namespace: str
    stream: Stream = field(default_factory=Stream)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False


class Fleet:
    """Targets, sessions and pods by namespace.

    `told` gets the key of a service whose verification may have changed, `settled` a namespace whose routers
    all hold its whole snapshot.
    """

    def __init__(
        self,
        told: Callable[[ctrl.Key], None],
        settled: Callable[[str], None],
        *,
        meters: Meters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = told
        self._settled = settled
        self._meters = meters or NoMeters()
        self._clock = clock
        self._since: dict[str, float] = {}
        self._targets: dict[str, Snapshot] = {}
        self._sessions: dict[str, dict[str, Session]] = {}
        self._pods: dict[str, dict[str, Router]] = {}

    def aim(self, namespace: str, snapshot: Snapshot) -> None:
        """Have every router of `namespace` hold `snapshot`."""
        before = self.target(namespace)
        if any(before.resources[kind] != snapshot.resources[kind] for kind in _CONFIRMED):
            self._since.setdefault(namespace, self._clock())
        self._targets[namespace] = snapshot
        for session in self._sessions.get(namespace, {}).values():
            session.stream.target = snapshot
            session.wake.set()

    def target(self, namespace: str) -> Snapshot:
        return self._targets.get(namespace, EMPTY)

    def pod(self, router: Router) -> None:
        """A router pod, new or changed."""
        pods = self._pods.setdefault(router.namespace, {})
        before = pods.get(router.name)
        pods[router.name] = router
        if before != router:
            self._tell_all(router.namespace)

    def no_pod(self, namespace: str, name: str) -> None:
        if self._pods.get(namespace, {}).pop(name, None) is not None:
            self._tell_all(namespace)

    def known(self, namespace: str, name: str, uid: str) -> bool:
        """Whether there is such a router pod: what a token must be bound to."""
        router = self._pods.get(namespace, {}).get(name)
        return router is not None and router.uid == uid

    def join(self, namespace: str, router: str) -> Session:
        """A stream of `router` has come up; an older one of it is closed."""
        sessions = self._sessions.setdefault(namespace, {})
        older = sessions.get(router)
        if older is not None:
            older.closed = True
            older.wake.set()
        session = Session(router=router, namespace=namespace)
        session.stream.target = self.target(namespace)
        sessions[router] = session
        self._meters.connected(namespace, len(sessions))
        return session

    def leave(self, session: Session) -> None:
        sessions = self._sessions.get(session.namespace, {})
        if sessions.get(session.router) is session:
            del sessions[session.router]
            self._meters.connected(session.namespace, len(sessions))
            self._tell_all(session.namespace)

    def heard(self, session: Session, request: Request) -> None:
        """Take in what a router says, and tell whom it concerns."""
        concerned = session.stream.concerns(request) if request.kind is not Kind.Endpoint else set()
        session.stream.heard(request)
        session.wake.set()
        if request.error is not None:
            self._meters.refused(session.namespace)
        for service in concerned:
            if session.stream.confirms(service) or session.stream.complaint(service):
                self._told(ctrl.Key(session.namespace, service))
        if request.nonce and request.kind is not Kind.Endpoint and self.complete(session.namespace):
            since = self._since.pop(session.namespace, None)
            if since is not None:
                self._meters.confirmed(self._clock() - since)
            self._settled(session.namespace)

    def connected(self, namespace: str) -> list[str]:
        """The routers that have a stream."""
        return sorted(self._sessions.get(namespace, {}))

    def complete(self, namespace: str) -> bool:
        """Every router that serves holds all of the target, and there is one."""
        streams = [session.stream for session in self._sessions.get(namespace, {}).values()]
        return bool(streams) and not self._absent(namespace) and all(one.complete() for one in streams)

    def verify(self, split: Split) -> Verification:
        """Whether `split` is in force on every router that gets requests, as far as is known now."""
        change, namespace, name = split.change, split.service.namespace, split.service.name
        one = self.target(namespace).part(name)
        if one is None or one.split.uid != split.uid or one.split.change < change:
            return Pending(change=change, reason="the routers have not been told yet")
        if one.split.change > change:
            return Pending(change=change, reason=f"change {one.split.change} has taken its place")
        sessions = self._sessions.get(namespace, {})
        if not any(router.ready for router in self._serving(namespace)):
            return Unreachable(change=change, reason=f"no router is ready in namespace {namespace}")
        for router, session in sorted(sessions.items()):
            if complaint := session.stream.complaint(name):
                return Refused(change=change, reason=f"router {router} refuses it: {complaint[:512]}")
        if absent := self._absent(namespace):
            return Pending(change=change, reason=f"router {absent[0]} is not connected")
        late = sorted(router for router, item in sessions.items() if not item.stream.confirms(name))
        if late:
            return Pending(change=change, reason=f"router {late[0]} has not confirmed it yet")
        if one.effective != split.weight:
            assert split.candidate is not None
            reason = f"revision {split.candidate.hash} has no ready endpoint, so it gets nothing"
            return Pending(change=change, reason=reason)
        return Verified(change=change, effective=float(one.effective), routers=len(sessions))

    def _serving(self, namespace: str) -> Iterable[Router]:
        return (router for router in self._pods.get(namespace, {}).values() if not router.deleting)

    def _absent(self, namespace: str) -> list[str]:
        """Routers that get requests and have no stream. One that is on its way out gets none."""
        sessions = self._sessions.get(namespace, {})
        return sorted(
            router.name for router in self._serving(namespace) if router.ready and router.name not in sessions
        )

    def _tell_all(self, namespace: str) -> None:
        for service in self.target(namespace).parts:
            self._told(ctrl.Key(namespace, service))
