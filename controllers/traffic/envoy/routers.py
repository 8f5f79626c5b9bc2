"""The controller of routers, one key a namespace.

Makes what a namespace with a split needs, and takes it away when it has needed none for a while.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import structlog

import controller_runtime as ctrl

from ...applied import ANNOTATION_APPLIED, stamped
from ...kinds import LABEL_ROLE
from ...resources import router
from ...resources.compare import is_part
from ...resources.meta import Rendered
from ...resources.wire import JSON, at
from ..split import FIRST_PORT, LAST_PORT, Split
from .admission import AUDIENCE
from .bootstrap import STATUS_PORT, Place, alone, asking, fallback, packed
from .fleet import Fleet
from .provider import EnvoyProvider
from .world import World

_log = structlog.get_logger("controllers.traffic")

#: Seconds that routers stay after the last split of their namespace.
IDLE: Final = 600.0
#: Seconds between looks at an object of somebody else's that has the name of one of ours.
CONFLICT: Final = 30.0
#: Seconds after which a confirmed snapshot is written down, so that one change of several is one write.
SETTLE: Final = 2.0
#: Bytes of a snapshot; a ConfigMap holds 1 MiB, a third more as text.
MOST: Final = 700_000

_KINDS: Final = (ctrl.CONFIG_MAP, ctrl.DEPLOYMENT, ctrl.PDB, ctrl.NETWORK_POLICY)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions:
    """ads: host:port of the leader's Service, name: what its certificate says. operator: its namespace."""

    image: str
    pull_policy: str
    ads: str
    name: str
    operator: str


def files(options: RouterOptions, trusted: str, *, listen: str = "0.0.0.0") -> dict[str, str]:
    """What a router starts with. @ADMIN@, @NODE@ and @NAMESPACE@ are filled in by its entrypoint."""
    place = Place(
        ads=options.ads,
        name=options.name,
        ca=f"{router.CONFIG_FOLDER}/ca.crt",
        secret=f"{router.RUN_FOLDER}/token/token.json",
        admin="@ADMIN@",
        address=listen,
    )
    where: JSON = {"host": options.ads.rpartition(":")[0], "port": int(options.ads.rpartition(":")[2])}
    bodies: Mapping[str, JSON] = {
        "asking.json": asking(place, node="@NODE@", namespace="@NAMESPACE@"),
        "alone.json": alone(place, node="@NODE@", namespace="@NAMESPACE@"),
        "ads.json": where | {"name": options.name},
    }
    texts = {name: json.dumps(body, sort_keys=True, separators=(",", ":")) for name, body in bodies.items()}
    return texts | {"ca.crt": trusted}


def wanted(namespace: str, options: RouterOptions, trusted: str) -> tuple[Rendered, ...]:
    """The routers of a namespace, in the order in which they are made."""
    told = files(options, trusted)
    return (
        router.config_map(namespace, told),
        router.network_policy(
            namespace,
            ports=(FIRST_PORT, LAST_PORT),
            status_port=STATUS_PORT,
            operator=options.operator,
            ads_port=int(options.ads.rpartition(":")[2]),
        ),
        router.disruption_budget(namespace),
        router.deployment(
            namespace,
            image=options.image,
            pull_policy=options.pull_policy,
            files=told,
            audience=AUDIENCE,
            status_port=STATUS_PORT,
        ),
    )


class RouterReconciler:
    """Keys are (namespace, paddle-router). Safe with one worker."""

    rules: ClassVar[tuple[ctrl.Rule, ...]] = (
        ctrl.Rule("", ("pods",), ("get", "list", "watch")),
        ctrl.Rule("discovery.k8s.io", ("endpointslices",), ("get", "list", "watch")),
        ctrl.Rule("", ("configmaps",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule("apps", ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule("policy", ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule(
            "networking.k8s.io", ("networkpolicies",), ("get", "list", "watch", "create", "patch", "delete")
        ),
        ctrl.Rule("authentication.k8s.io", ("tokenreviews",), ("create",), cluster=True),
    )

    def __init__(
        self,
        client: ctrl.Client,
        world: World,
        fleet: Fleet,
        provider: EnvoyProvider,
        options: RouterOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._world = world
        self._fleet = fleet
        self._provider = provider
        self._options = options
        self._clock = clock
        self._trusted = ""
        self._idle: dict[str, float] = {}
        self._confirmed: dict[str, float] = {}
        self._kept: dict[str, tuple[Split, ...]] = {}

    def trust(self, bundle: str) -> bool:
        """What routers are to trust from now on; whether that is new."""
        new, self._trusted = bundle != self._trusted, bundle
        return new

    def settled(self, namespace: str) -> None:
        """Every router of `namespace` holds its whole snapshot."""
        self._confirmed.setdefault(namespace, self._clock())

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        namespace = request.namespace
        if not self._provider.opened or not self._trusted:
            return ctrl.Result()  # both come with a call of their own
        if namespace not in self._world.namespaces():
            return await self._unneeded(namespace)
        self._idle.pop(namespace, None)
        try:
            for one in wanted(namespace, self._options, self._trusted):
                await self._ensure(one)
        except _Foreign as error:
            self._provider.trouble(namespace, str(error))
            return ctrl.Result(requeue_after=CONFLICT)
        except ctrl.Forbidden as error:
            if error.namespace_terminating:
                return ctrl.Result()
            self._provider.trouble(namespace, f"routers cannot be made: {error.message}"[:512])
            raise
        self._provider.trouble(namespace, "")
        return await self._write_down(namespace)

    async def _write_down(self, namespace: str) -> ctrl.Result:
        """Keep the snapshot that all have confirmed, once nothing has changed for a moment."""
        since = self._confirmed.get(namespace)
        if since is None:
            return ctrl.Result()
        rest = SETTLE - (self._clock() - since)
        if rest > 0:
            return ctrl.Result(requeue_after=rest)
        del self._confirmed[namespace]
        snapshot = self._fleet.target(namespace)
        splits = tuple(one.split for one in snapshot.parts.values())
        if splits == self._kept.get(namespace) or not self._fleet.complete(namespace):
            return ctrl.Result()
        body = await asyncio.to_thread(lambda: packed(fallback(snapshot, namespace)))  # may take a second
        if len(body) > MOST:
            _log.warning("too many services to keep for routers that start without a leader", size=len(body))
        else:
            await self._ensure(router.snapshot(namespace, body))
        self._kept[namespace] = splits
        return ctrl.Result()

    async def _unneeded(self, namespace: str) -> ctrl.Result:
        now = self._clock()
        rest = IDLE - (now - self._idle.setdefault(namespace, now))
        names = {ctrl.CONFIG_MAP: (router.NAME, router.SNAPSHOT)}
        there = [
            found
            for kind in reversed(_KINDS)
            for name in names.get(kind, (router.NAME,))
            if (found := await self._client.get(kind, ctrl.Key(namespace, name))) is not None
            and found.labels.get(LABEL_ROLE) == router.ROLE_ROUTER
        ]
        if there and rest > 0:
            return ctrl.Result(requeue_after=rest)
        for found in there:
            await self._client.delete(found.kind, found.key, uid=found.uid)
        self._idle.pop(namespace, None)
        self._confirmed.pop(namespace, None)
        self._kept.pop(namespace, None)
        return ctrl.Result()

    async def _ensure(self, one: Rendered) -> None:
        body = stamped(one.body)
        there = await self._client.get(one.kind, one.key)
        if there is None:
            try:
                await self._client.create(body)
                return
            except ctrl.AlreadyExists:
                there = await self._client.get_live(one.kind, one.key)
                if there is None:
                    return
        if there.labels.get(LABEL_ROLE) != router.ROLE_ROUTER:
            raise _Foreign(f"{one.kind.kind} {one.key.name} is there and is not ours: delete or rename it")
        if not _same(one.kind, body, there):
            await self._client.apply(body)


class _Foreign(Exception):
    """An object of somebody else's has the name of one of ours."""


def _same(kind: ctrl.Kind, body: JSON, there: ctrl.Object) -> bool:
    """The cache keeps no data of ConfigMaps: of those the hash of what was applied must do."""
    if kind == ctrl.CONFIG_MAP:
        return at(body, "metadata", "annotations", ANNOTATION_APPLIED) == there.annotations.get(
            ANNOTATION_APPLIED
        )
    return is_part(body, there.raw)


def namespace_key(obj: ctrl.Object) -> list[ctrl.Key]:
    """The key to look at when one of a namespace's router objects changes."""
    if obj.labels.get(LABEL_ROLE) != router.ROLE_ROUTER:
        return []
    return [ctrl.Key(obj.namespace, router.NAME)]
