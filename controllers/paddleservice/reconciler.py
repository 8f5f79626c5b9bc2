"""The PaddleService controller: observe, decide, act.

Everything it knows comes from the cache and from the observed store; everything it decides is in `decide`.
The status is written before the effects, under the resourceVersion it was decided on, so two decisions
never run from the same state; a crash between any two writes leaves something that the next pass takes up.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import controller_runtime as ctrl

from ..conditions import Type, find
from ..kinds import CANARY_ANALYSIS, LABEL_REVISION, LABEL_SERVICE, PADDLE_MODEL, PADDLE_SERVICE
from ..options import Options
from ..probe import ObservedStore
from ..reasons import Reason
from ..resources.desired import Desired, Model, Settings, decode, pin, pinned_by, requests, settings
from ..resources.meta import Owner, child_name, labels
from ..resources.wire import at, mapping, maps, text
from ..rollout.canary import Phase, analysis_name
from .canary import remembered
from .decide import Decision, decide
from .effects import REFUSED, ForeignObject, Refused, Unroute, act, foreign
from .metrics import CanaryMetrics
from .notes import Note
from .observed import (
    Child,
    Foreign,
    Observed,
    Pod,
    Refusal,
    Revision,
    Waiting,
    Watched,
    pod_of,
    relabelled,
    revision_of,
)
from .rollout import wanted
from .watcher import Surroundings, Watcher

#: Index of Pods, Deployments, Services and ConfigMaps by the service they belong to.
BY_SERVICE = "paddle-service"

_CHILD_KINDS = (ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY)


def by_service(obj: ctrl.Object) -> list[str]:
    name = obj.labels.get(LABEL_SERVICE)
    return [f"{obj.namespace}/{name}"] if name else []


class PaddleServiceReconciler:
    """Brings one PaddleService in line with its spec. Safe with several workers, one key at a time each."""

    rules: ClassVar[tuple[ctrl.Rule, ...]] = (
        ctrl.Rule(
            PADDLE_SERVICE.group, (PADDLE_SERVICE.plural, PADDLE_MODEL.plural), ("get", "list", "watch")
        ),
        ctrl.Rule(PADDLE_SERVICE.group, (f"{PADDLE_SERVICE.plural}/status",), ("patch",)),
        # To block a foreground deletion of the owner, where the server enforces it.
        ctrl.Rule(PADDLE_SERVICE.group, (f"{PADDLE_SERVICE.plural}/finalizers",), ("update",)),
        # To tell a pod which release it may take in place.
        ctrl.Rule("", ("pods",), ("get", "list", "watch", "patch")),
        ctrl.Rule("apps", ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule("apps", ("deployments/scale",), ("patch",)),
        ctrl.Rule("", ("services",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule("", ("configmaps",), ("get", "list", "watch", "create", "patch", "delete")),
        ctrl.Rule(CANARY_ANALYSIS.group, (CANARY_ANALYSIS.plural,), ("get", "list", "watch", "create")),
        ctrl.Rule("discovery.k8s.io", ("endpointslices",), ("get", "list", "watch")),
        ctrl.Rule("policy", ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch")),
        ctrl.Rule("networking.k8s.io", ("networkpolicies",), ("get", "list", "watch", "create", "patch")),
        ctrl.Rule("events.k8s.io", ("events",), ("create", "patch")),
    )

    def __init__(
        self,
        client: ctrl.Client,
        store: ObservedStore,
        events: ctrl.EventRecorder,
        options: Options,
        *,
        around: Surroundings | None = None,
        metrics: CanaryMetrics | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._store = store
        self._events = events
        self._options = options
        self._clock = clock
        self._around = around or Surroundings()
        self._watcher = Watcher(client, self._around)
        self._metrics = metrics
        self._written: dict[ctrl.Key, datetime] = {}

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        try:
            return await self._reconcile(request)
        except ctrl.Forbidden as refusal:
            if refusal.namespace_terminating:
                return ctrl.Result()  # the service goes with its namespace
            raise

    async def _reconcile(self, request: ctrl.Request) -> ctrl.Result:
        service = await self._client.get(PADDLE_SERVICE, request)
        if service is None or service.deleting:
            # Children carry our owner reference: the garbage collector takes them.
            self._store.watch(request, ())
            self._written.pop(request, None)
            self._watcher.quiet(request)
            if self._metrics is not None:
                self._metrics.forget(request)
            if service is not None:
                self._watcher.forget(service.uid)
            return ctrl.Result()
        found: tuple[Foreign, ...] = ()
        refusal, heard = _refusal_in(service), False
        for _ in range(6):  # each turn finds one more thing in our way, if any
            now = self._clock()
            observed = replace(await self._observe(service, found, now), refusal=refusal)
            decision = decide(observed, now)
            self._store.watch(request, decision.targets)
            try:
                written = await self._write(service, decision)
                if written is None:
                    return ctrl.Result(requeue_after=0.1)
                service = written
                if not heard and not await self._act(service, observed.owner, decision):
                    return ctrl.Result(requeue_after=0.1)
            except ForeignObject as there:
                found = (*found, there.found)
                continue
            except Refused as said:
                heard = True
                if said.refusal != refusal:
                    refusal = said.refusal
                    continue
            if refusal is not None and not heard:
                refusal = None  # what was refused before is let in now
                continue
            return ctrl.Result(requeue_after=decision.requeue_after)
        return ctrl.Result(requeue_after=1.0)

    async def _write(self, service: ctrl.Object, decision: Decision) -> ctrl.Object | None:
        """Write the status if it changed, then announce. None: it changed or went meanwhile, start over."""
        if decision.status is not None:
            try:
                service = await self._client.apply_status(
                    PADDLE_SERVICE,
                    service.key,
                    decision.status,
                    resource_version=service.resource_version,
                    uid=service.uid,
                )
            except (ctrl.Conflict, ctrl.NotFound):
                return None
            self._written[service.key] = self._clock()
            self._tell(service, (note for note in decision.notes if note.effect is None))
            if self._metrics is not None and decision.run is not None:
                self._metrics.moved(service.key, decision.run)
        return service

    async def _act(self, service: ctrl.Object, owner: Owner, decision: Decision) -> bool:
        """False: somebody was faster, look again."""
        for effect in decision.effects:
            try:
                await act(self._client, owner, (effect,), self._around.providers)
            except ctrl.Conflict:
                return False  # the object is not the one that this was decided on
            if isinstance(effect, Unroute):
                self._watcher.removed(owner.uid, effect.change)
            self._tell(service, (note for note in decision.notes if note.effect is effect))
        return True

    def _tell(self, service: ctrl.Object, notes: Iterable[Note]) -> None:
        for note in notes:
            tell = self._events.warning if note.warning else self._events.normal
            tell(service, note.reason, note.message, action=note.action)

    async def _observe(self, service: ctrl.Object, found: tuple[Foreign, ...], now: datetime) -> Observed:
        owner = Owner(service.namespace, service.name, service.uid)
        spec = mapping(service.raw.get("spec"))
        desired, waiting = await self._desired(service.namespace, spec)
        mine = f"{owner.namespace}/{owner.name}"
        pods = tuple(
            pod_of(pod)
            for pod in await self._client.list(ctrl.POD, namespace=owner.namespace, index=(BY_SERVICE, mine))
        )
        revisions: list[Revision] = []
        others = list(found)
        for item in await self._client.list(
            ctrl.DEPLOYMENT, namespace=owner.namespace, index=(BY_SERVICE, mine)
        ):
            strange = foreign(owner, item)
            if strange is not None:
                others.append(strange)
            elif not item.deleting and item.labels.get(LABEL_REVISION):
                revisions.append(revision_of(item, pods, now))
        revisions += await self._unlabelled(owner, service, revisions, pods, now)
        children: dict[tuple[str, str], Child] = {}
        for kind in _CHILD_KINDS:
            for item in await self._client.list(kind, namespace=owner.namespace, index=(BY_SERVICE, mine)):
                strange = foreign(owner, item)
                if strange is not None:
                    others.append(strange)
                else:
                    children[kind.kind, item.name] = Child(item.uid, item.resource_version, item.raw)
        observed = Observed(
            owner=owner,
            generation=service.generation,
            settings=settings(spec),
            status=mapping(service.raw.get("status")),
            desired=desired,
            waiting=waiting,
            revisions=tuple(revisions),
            pods=_owned_pods(pods, revisions),
            children=children,
            foreign=tuple(dict.fromkeys(others)),
            seen={pod.uid: seen for pod in pods if (seen := self._store.get(pod.uid)) is not None},
            default_image=self._options.runtime_image,
            pull_policy=self._options.image_pull_policy,
            written=self._written.get(service.key),
            watched=await self._watch(service, settings(spec), pods),
        )
        if others or not _in_conflict(service):
            return observed
        return replace(observed, foreign=await self._strangers(observed))

    async def _watch(self, service: ctrl.Object, chosen: Settings, pods: Iterable[Pod]) -> Watched:
        try:
            state = remembered(service.status)
        except ValueError:
            return Watched()  # decided upon where the state is read again
        if chosen.strategy.type != "Canary" and state.at_rest:
            self._watcher.quiet(service.key)
            return Watched(leftover=await self._watcher.leftover(service, chosen))
        return await self._watcher.look(service, chosen, state, pods)

    async def _unlabelled(
        self,
        owner: Owner,
        service: ctrl.Object,
        known: Iterable[Revision],
        pods: Iterable[Pod],
        now: datetime,
    ) -> list[Revision]:
        """Revisions that status names and the cache does not have: gone, or without the labels it chooses
        by (without this, such a revision would serve for ever, and nobody would know).
        """
        status = service.status
        named = {text(item.get("hash")) for item in maps(status.get("revisions"))}
        named |= {text(status.get("stableRevision")), text(status.get("updatedRevision"))}
        named |= {text(at(status, "canary", name)) for name in ("stable", "candidate", "retiring")}
        named -= {"", *(revision.hash for revision in known)}
        found = []
        for name in sorted(named):
            key = ctrl.Key(owner.namespace, child_name(owner.name, name))
            there = await self._client.get_live(ctrl.DEPLOYMENT, key)
            if there is None or there.deleting or foreign(owner, there) is not None:
                continue
            own = labels(owner.name, name)
            lost = not own.items() <= there.labels.items()
            found.append(replace(revision_of(relabelled(there, own), pods, now), unlabelled=lost))
        return found

    async def _desired(
        self, namespace: str, spec: Mapping[str, object]
    ) -> tuple[Desired | None, Waiting | None]:
        models: list[Model] = []
        for request in requests(spec):
            pinned: Mapping[str, object] | None = request.pinned
            if not pinned:
                model = await self._client.get(PADDLE_MODEL, ctrl.Key(namespace, request.reference))
                if model is None:
                    return None, Waiting(
                        Reason.ModelNotFound,
                        f"PaddleModel {namespace}/{request.reference} does not exist: "
                        "create it or correct modelRef.name",
                    )
                pinned = pinned_by(model.raw)
                if pinned is None:
                    return None, Waiting(
                        Reason.WaitingForModel,
                        f"PaddleModel {namespace}/{request.reference} is not resolved yet: {_why(model.raw)}",
                    )
            models.append(pin(request, pinned))
        return decode(spec, tuple(models)), None

    async def _strangers(self, observed: Observed) -> tuple[Foreign, ...]:
        """Objects that were in our way last time and still are: live reads, because what carries no label of
        ours is not in the cache.
        """
        owner, revision = observed.owner, wanted(observed)
        names = [(kind, owner.key) for kind in (ctrl.SERVICE, ctrl.PDB, ctrl.NETWORK_POLICY)]
        if revision:
            key = ctrl.Key(owner.namespace, child_name(owner.name, revision))
            names += [(kind, key) for kind in (ctrl.CONFIG_MAP, ctrl.SERVICE, ctrl.DEPLOYMENT)]
        names += [(CANARY_ANALYSIS, ctrl.Key(owner.namespace, name)) for name in _awaited(observed)]
        ours = {*observed.children, *((ctrl.DEPLOYMENT.kind, item.name) for item in observed.revisions)}
        found = []
        for kind, key in names:
            if (kind.kind, key.name) in ours:
                continue
            there = await self._client.get_live(kind, key)
            strange = foreign(owner, there) if there is not None else None
            if strange is not None:
                found.append(strange)
        return tuple(found)


def _awaited(observed: Observed) -> list[str]:
    """The name of the analysis that the run waits for, if it waits for one."""
    try:
        state = remembered(observed.status)
    except ValueError:
        return []
    judged = state.phase in (Phase.Analysing, Phase.Soaking)
    return [analysis_name(observed.owner.name, state)] if judged else []


def _why(model: Mapping[str, object]) -> str:
    status = mapping(model.get("status"))
    return str(status.get("message") or "no status yet")


def _in_conflict(service: ctrl.Object) -> bool:
    return find(service.status, Type.NameConflict).get("status") == "True"


def _refusal_in(service: ctrl.Object) -> Refusal | None:
    """What the server refused when this generation was acted on last, as the status tells it."""
    if service.status.get("observedGeneration") != service.generation:
        return None
    ready = find(service.status, Type.Ready)
    reason, message = text(ready.get("reason")), text(ready.get("message"))
    if not message.startswith(REFUSED):
        return None
    return Refusal(Reason.parse(reason, Reason.PodRefused), message)


def _owned_pods(pods: Iterable[Pod], revisions: Iterable[Revision]) -> tuple[Pod, ...]:
    """Labels can be forged; a pod of a revision that is ours counts, others do not."""
    known = {revision.hash for revision in revisions}
    return tuple(pod for pod in pods if pod.revision in known)


def service_of(obj: ctrl.Object) -> list[ctrl.Key]:
    """The service whose label an object carries."""
    name = obj.labels.get(LABEL_SERVICE)
    return [ctrl.Key(obj.namespace, name)] if name else []
