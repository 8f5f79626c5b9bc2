"""What the leader runs: it watches what splits depend on, and serves ADS once a namespace needs routers."""

import asyncio
from collections.abc import Callable
from typing import Final

import controller_runtime as ctrl

from ...kinds import LABEL_ROLE, PADDLE_SERVICE
from ...resources.router import ROLE_ROUTER
from ...resources.wire import at, mapping, maps
from ..split import Split, from_wire
from .address import Address
from .admission import Admission
from .endpoints import service_of
from .fleet import Fleet, Router
from .provider import EnvoyProvider
from .world import World

SYNC: Final = 120.0


class Leader:
    """A runnable for as long as this process leads. Ends with it: a next leader takes the routers over."""

    name = "traffic-leader"

    def __init__(
        self,
        *,
        client: ctrl.Client,
        cache: ctrl.Cache,
        world: World,
        fleet: Fleet,
        provider: EnvoyProvider,
        admission: Admission,
        address: Address,
        trusted: Callable[[str], None],
    ) -> None:
        """trusted: hears what routers are to trust, as PEM, at the start and at each change."""
        self._client = client
        self._cache = cache
        self._world = world
        self._fleet = fleet
        self._provider = provider
        self._admission = admission
        self._address = address
        self._trusted = trusted
        self._needed = asyncio.Event()
        self._slices: dict[ctrl.Key, str] = {}

    def need(self) -> None:
        """A namespace needs routers: serve, if not yet."""
        self._needed.set()

    async def run(self) -> None:
        registrations = [
            self._cache.informer(kind).add_handler(_Handler(take))
            for kind, take in (
                (PADDLE_SERVICE, self._service),
                (ctrl.ENDPOINT_SLICE, self._slice),
                (ctrl.POD, self._pod),
            )
        ]
        try:
            for registration in registrations:
                await registration.wait_synced(SYNC)
            self._provider.open()
            await self._needed.wait()
            from .serving import Serving  # late: gRPC, Envoy's types and cryptography come with it

            await Serving(
                client=self._client,
                fleet=self._fleet,
                admission=self._admission,
                address=self._address,
                trusted=self._trusted,
            ).run()
        finally:
            self._provider.close()
            for registration in registrations:
                registration.remove()

    def _service(self, key: ctrl.Key, obj: ctrl.Object | None) -> None:
        if obj is None or obj.deleting:
            self._provider.publish(self._world.gone(key))
        else:
            self._provider.publish(self._world.live(key, obj.uid, persisted(obj)))

    def _slice(self, key: ctrl.Key, obj: ctrl.Object | None) -> None:
        if obj is None:
            service = self._slices.pop(key, "")
            if service:
                namespace = self._world.slice(ctrl.Key(key.namespace, service), key.name, None)
                self._provider.publish(namespace)
            return
        service = service_of(obj.raw)
        if service:
            self._slices[key] = service
            namespace = self._world.slice(ctrl.Key(key.namespace, service), key.name, obj.raw)
            self._provider.publish(namespace)

    def _pod(self, key: ctrl.Key, obj: ctrl.Object | None) -> None:
        if obj is None:
            self._fleet.no_pod(key.namespace, key.name)
        elif obj.labels.get(LABEL_ROLE) == ROLE_ROUTER:
            self._fleet.pod(router_of(obj))


def persisted(service: ctrl.Object) -> Split | None:
    """The split in a PaddleService's status, if it is Envoy's."""
    raw = mapping(service.status.get("traffic"))
    if raw.get("provider", "Envoy") != "Envoy":
        return None
    return from_wire(service.key, service.uid, raw)


def router_of(pod: ctrl.Object) -> Router:
    ready = any(
        item.get("type") == "Ready" and item.get("status") == "True"
        for item in maps(at(pod.raw, "status", "conditions"))
    )
    return Router(namespace=pod.namespace, name=pod.name, uid=pod.uid, ready=ready, deleting=pod.deleting)


class _Handler:
    """Informer events as (key, object or None)."""

    def __init__(self, take: Callable[[ctrl.Key, ctrl.Object | None], None]) -> None:
        self._take = take

    def on_add(self, obj: ctrl.Object, in_initial_list: bool) -> None:
        self._take(obj.key, obj)

    def on_update(self, old: ctrl.Object, new: ctrl.Object) -> None:
        self._take(new.key, new)

    def on_delete(self, obj: ctrl.Object, state_unknown: bool) -> None:
        self._take(obj.key, None)
