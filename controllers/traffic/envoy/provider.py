"""The Envoy provider: what the PaddleService controller talks to."""

from collections.abc import Callable, Mapping

import controller_runtime as ctrl

from ...resources import router
from ..provider import Backend, Pending, Refused, Unreachable, Verification
from ..split import Split, refusal
from .fleet import Fleet
from .world import World


class EnvoyProvider:
    """Answers from memory; the routers' streams are somebody else's.

    Nothing is handed to routers before `open`: a snapshot made of half a cache would take listeners away.
    `published` hears of each namespace whose snapshot was handed over.
    """

    def __init__(
        self,
        world: World,
        fleet: Fleet,
        published: Callable[[str], None],
        *,
        unable: str = "",
        problem: Callable[[], str] = lambda: "",
        persisted: Callable[[str], Mapping[ctrl.Key, int]] = lambda namespace: {},
    ) -> None:
        """unable: why this operator cannot run routers, or "". problem: why no router gets in, or "".
        persisted: the ports in the statuses of a namespace, for as long as the caches have not told all.
        """
        self._problem = problem
        self._persisted = persisted
        self._world = world
        self._fleet = fleet
        self._published = published
        self._unable = unable
        self._open = False
        self._trouble: dict[str, str] = {}

    @property
    def opened(self) -> bool:
        return self._open

    def open(self) -> None:
        """The caches are complete: hand over what is known, and from now on each change."""
        self._open = True
        for namespace in sorted(self._world.namespaces()):
            self.publish(namespace)

    def close(self) -> None:
        self._open = False

    def publish(self, namespace: str) -> None:
        """Hand over the namespace's snapshot; "" is nobody's."""
        if namespace and self._open:
            self._fleet.aim(namespace, self._world.snapshot(namespace))
            self._published(namespace)

    def trouble(self, namespace: str, reason: str) -> None:
        """Why the routers of `namespace` cannot be made; "" when they can."""
        if reason:
            self._trouble[namespace] = reason
        else:
            self._trouble.pop(namespace, None)

    async def apply(self, split: Split) -> None:
        """See Provider. Raises ValueError when two different splits have the same change."""
        if not self._unable and not refusal(split.rules):
            self.publish(self._world.ask(split))

    async def verify(self, split: Split) -> Verification:
        if why := self._unable or refusal(split.rules):
            return Refused(change=split.change, reason=why)
        if not self._open:
            return Pending(change=split.change, reason="the operator has only just begun to lead")
        found = self._fleet.verify(split)
        why = self._trouble.get(split.service.namespace, "") or self._problem()
        if why and isinstance(found, Pending | Unreachable):
            return Unreachable(change=split.change, reason=why)
        target = self._fleet.target(split.service.namespace)
        if split == self._world.split(split.service) and target.part(split.service.name) is None:
            return Pending(change=split.change, reason=f"another service has listener port {split.port}")
        return found

    async def remove(self, service: ctrl.Key, uid: str) -> None:
        self.publish(self._world.remove(service, uid))

    def backend(self, split: Split) -> Backend | None:
        return Backend(selector=router.selector(), http=split.port, grpc=split.port + 1)

    def port(self, service: ctrl.Key, uid: str, known: int) -> int:
        there = {} if self._open else self._persisted(service.namespace)
        taken = [port for key, port in there.items() if key != service]
        return self._world.port(service, uid, known, taken)
