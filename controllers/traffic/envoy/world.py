"""What is known of every service's split and endpoints, and the snapshots that follow. Never awaits.

Two sources tell of a split: the persisted status, through the cache, and `ask`, which is ahead of the cache
by a moment. The higher change wins, so neither can bring back what the other has replaced.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import controller_runtime as ctrl

from ..split import FIRST_PORT, LAST_PORT, Split
from .endpoints import endpoints
from .snapshot import EMPTY, Part, Snapshot, compose, part


@dataclass(slots=True)
class _Service:
    """uid: of the live object, "" while none was seen. removed: (uid, change) up to which it is forgotten."""

    uid: str = ""
    persisted: Split | None = None
    asked: Split | None = None
    removed: tuple[str, int] = ("", 0)
    slices: dict[str, Mapping[str, object]] = field(default_factory=dict)
    part: Part | None = None
    fresh: bool = False

    def split(self) -> Split | None:
        found = [item for item in (self.persisted, self.asked) if item is not None]
        if self.uid:
            found = [item for item in found if item.uid == self.uid]
        found = [item for item in found if item.uid != self.removed[0] or item.change > self.removed[1]]
        return max(found, key=lambda item: item.change, default=None)


class World:
    """Splits and endpoints by service. Methods that change something return the namespace to be served anew,
    or "" when nothing that matters changed.
    """

    def __init__(self, *, address: str = "0.0.0.0", ports: tuple[int, int] = (FIRST_PORT, LAST_PORT)) -> None:
        self._address = address
        self._ports = ports
        self._services: dict[ctrl.Key, _Service] = {}
        self._reserved: dict[str, dict[int, str]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._stale: set[str] = set()

    def live(self, service: ctrl.Key, uid: str, persisted: Split | None) -> str:
        """The object as the cache has it."""
        state = self._of(service)
        before = state.split()
        if state.uid and state.uid != uid:
            state.asked = None
            self._release(service.namespace, state.uid)
        state.uid, state.persisted = uid, persisted
        return self._changed(service, before)

    def gone(self, service: ctrl.Key) -> str:
        """The object was deleted."""
        state = self._services.get(service)
        if state is None:
            return ""
        before = state.split()
        self._release(service.namespace, state.uid)
        state.uid, state.persisted, state.asked = "", None, None
        return self._changed(service, before)

    def ask(self, split: Split) -> str:
        """A split that is persisted, or about to be seen as such. Raises ValueError if it contradicts one of
        the same change.
        """
        state = self._of(split.service)
        before = state.split()
        if state.uid and state.uid != split.uid:
            return ""
        if before is not None and before.uid == split.uid and before.change >= split.change:
            if before.change == split.change and before != split:
                raise ValueError(f"{split.service}: two different splits are called change {split.change}")
            return ""
        state.asked = split
        return self._changed(split.service, before)

    def remove(self, service: ctrl.Key, uid: str) -> str:
        state = self._services.get(service)
        before = state.split() if state is not None else None
        if state is None or before is None or before.uid != uid:
            return ""
        state.removed = (uid, before.change)
        return self._changed(service, before)

    def slice(self, service: ctrl.Key, name: str, raw: Mapping[str, object] | None) -> str:
        """An EndpointSlice of one of the service's revisions; None when it is gone."""
        state = self._of(service)
        if raw is None:
            state.slices.pop(name, None)
        else:
            state.slices[name] = raw
        state.fresh = False
        if state.split() is None:
            self._tidy(service)
            return ""
        self._stale.add(service.namespace)
        return service.namespace

    def split(self, service: ctrl.Key) -> Split | None:
        state = self._services.get(service)
        return state.split() if state is not None else None

    def namespaces(self) -> set[str]:
        """Those that need routers."""
        return {key.namespace for key, state in self._services.items() if state.split() is not None}

    def services(self, namespace: str) -> list[ctrl.Key]:
        """Those that have a split."""
        return [
            key
            for key, state in self._services.items()
            if key.namespace == namespace and state.split() is not None
        ]

    def snapshot(self, namespace: str) -> Snapshot:
        known = self._snapshots.get(namespace)
        if known is None or namespace in self._stale:
            known = compose(self._parts(namespace), known or EMPTY)
            self._stale.discard(namespace)
            self._snapshots[namespace] = known
        if not known.parts:
            del self._snapshots[namespace]
            return EMPTY
        return known

    def port(self, service: ctrl.Key, uid: str, known: int, taken: Iterable[int] = ()) -> int:
        """See Provider.port. What was given out stays reserved until the service is gone. taken: what is not
        free either, as long as this world does not know everything.
        """
        reserved = self._reserved.setdefault(service.namespace, {})
        others = {port for port, owner in reserved.items() if owner != uid} | {
            split.port
            for key in self.services(service.namespace)
            if key != service and (split := self.split(key)) is not None
        }
        others.update(taken)
        mine = [port for port, owner in reserved.items() if owner == uid]
        first, last = self._ports
        pairs = (last - first + 1) // 2
        start = zlib.crc32(uid.encode()) % pairs
        wanted = [known] if first <= known < last and known % 2 == 0 else []
        free = (first + 2 * ((start + step) % pairs) for step in range(pairs))
        for port in (*wanted, *mine, *free):
            if port not in others:
                for old in mine:
                    del reserved[old]
                reserved[port] = uid
                return port
        raise LookupError(f"all {pairs} pairs of listener ports are taken in namespace {service.namespace}")

    def _release(self, namespace: str, uid: str) -> None:
        """Give back the port of an object that is gone."""
        reserved = self._reserved.get(namespace, {})
        for port in [port for port, owner in reserved.items() if owner == uid]:
            del reserved[port]

    def _parts(self, namespace: str) -> Iterable[Part]:
        for key in self.services(namespace):
            state = self._services[key]
            split = state.split()
            assert split is not None
            if state.part is None or state.part.split != split or not state.fresh:
                state.part = part(split, endpoints(state.slices.values()), address=self._address)
                state.fresh = True
            yield state.part

    def _of(self, service: ctrl.Key) -> _Service:
        return self._services.setdefault(service, _Service())

    def _changed(self, service: ctrl.Key, before: Split | None) -> str:
        if self.split(service) == before:
            return ""
        self._stale.add(service.namespace)
        self._tidy(service)
        return service.namespace

    def _tidy(self, service: ctrl.Key) -> None:
        """Nothing is kept of a service that is gone."""
        state = self._services[service]
        if state.uid or state.slices or state.split() is not None:
            return
        del self._services[service]
        # Reservations of services that never came to a split go with the last of their namespace.
        if not any(key.namespace == service.namespace for key in self._services):
            self._reserved.pop(service.namespace, None)
