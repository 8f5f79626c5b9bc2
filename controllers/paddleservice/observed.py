"""What one pass sees, as frozen values: the input of `decide`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import controller_runtime as ctrl

from ..blockers import report
from ..kinds import (
    ANNOTATION_HASH_VERSION,
    ANNOTATION_IDENTITY,
    ANNOTATION_TRAFFIC_CHANGE,
    CONTAINER_PULL,
    LABEL_REVISION,
)
from ..probe import Observation
from ..reasons import Reason
from ..resources.deployment import (
    ANNOTATION_IMAGE,
    ANNOTATION_MODELS,
    ANNOTATION_PROMOTED,
    ANNOTATION_TEMPLATE,
)
from ..resources.desired import Desired, Settings
from ..resources.meta import Owner
from ..resources.wire import at, integer, mapping, maps, text
from ..rollout.canary import Command, Endpoints, Found, Report
from ..rollout.identity import Recorded
from ..rollout.planner import Size
from ..traffic import Backend, Home

#: A pod is gone this long after its deletionTimestamp (which counts its grace period already), whatever the
#: API server still lists: nobody confirms the end of a pod whose node died.
LOST_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A serving pod. `content`: content digest by model name, from the termination message of its pull.

    ended: it is over (evicted, refused by its node, past its deadline): listed, but it holds nothing.
    lost_at: when a deleted pod is taken for gone; None for one that stays.
    """

    name: str
    uid: str
    revision: str
    ip: str
    ready: bool
    ready_since: datetime | None
    unready_since: datetime | None = None
    deleting: bool
    started: bool
    ended: bool = False
    lost_at: datetime | None = None
    content: Mapping[str, str]
    raw: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A revision as its Deployment tells it. replicas: asked for; live, leaving: pods; promoted: ever stable,
    and when. change: stamped on it, see rollout.canary. unlabelled: it lost labels that it is found by.
    """

    hash: str
    name: str
    uid: str
    resource_version: str
    created: str
    replicas: int
    ready: int
    live: int
    leaving: int
    promoted: str
    recorded: Recorded
    models: tuple[Mapping[str, object], ...]
    template_digest: str
    rollouts: int
    change: int = 0
    unavailable_since: datetime | None = None
    unlabelled: bool = False
    template: Mapping[str, object] = field(repr=False)
    status: Mapping[str, object] = field(repr=False)

    @property
    def size(self) -> Size:
        return Size(
            revision=self.hash,
            spec=self.replicas,
            live=self.live,
            ready=self.ready,
            leaving=self.leaving,
        )

    @property
    def pods(self) -> int:
        """Pods that exist, those that end too."""
        return self.live + self.leaving


@dataclass(frozen=True, slots=True)
class Child:
    """An object of ours that is there."""

    uid: str
    resource_version: str
    raw: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Foreign:
    """An object that has a name we need and is not ours. predecessor: of a deleted PaddleService of our
    name.
    """

    kind: str
    name: str
    predecessor: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A model is not there or not resolved yet."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server does not let in what we were to write. fatal: nothing but another spec cures it."""

    reason: Reason
    message: str

    @property
    def fatal(self) -> bool:
        return self.reason is Reason.InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What only a canary looks at.

    report: of the provider about the split in status. effective: the candidate's share that is in force, in
    percent. backend: of the provider's routers; port: of the service on them. removed: the change whose route
    this process has removed. judged: name of the attempt's analysis, if it has one; metrics, blindness,
    heard: whether Prometheus answers it, the reason and the message. problem: why no run can be judged by the
    spec, or "". settle: seconds that the operator's plans give to what follows a change. home: of a provider
    that splits by a route of the cluster's own. at_home: it leads to the service; awaits: what is wrong.
    leftover: the provider and the route of ours that nothing asks for any more.
    """

    report: Report = field(default_factory=Report)
    effective: float | None = None
    backend: Backend | None = None
    port: int = 0
    endpoints: Endpoints = Endpoints.Pods
    removed: int = 0
    command: Command | None = None
    found: Found | None = None
    metrics: bool = True
    judged: str = ""
    blindness: str = ""
    heard: str = ""
    checked: bool = True
    hold: str = ""
    problem: str = ""
    settle: float = 15.0
    home: Home | None = None
    at_home: bool = True
    awaits: str = ""
    leftover: tuple[str, Home] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision rests on, but the time.

    desired: None while a model is missing or unresolved; `waiting` then says which. children: objects of
    ours by (kind, name). written: when this process last wrote the status, None if never. refusal: what the
    server said to the last attempt to act on this generation; it is attempted again all the same.
    """

    owner: Owner
    generation: int
    settings: Settings
    status: Mapping[str, object]
    desired: Desired | None
    waiting: Waiting | None
    revisions: tuple[Revision, ...]
    pods: tuple[Pod, ...]
    children: Mapping[tuple[str, str], Child]
    foreign: tuple[Foreign, ...]
    seen: Mapping[str, Observation]
    default_image: str
    pull_policy: str = "IfNotPresent"
    written: datetime | None = None
    refusal: Refusal | None = None
    watched: Watched = Watched()


def moment(value: object) -> datetime | None:
    """An RFC 3339 time as the API server writes it; None for anything else."""
    try:
        return datetime.fromisoformat(text(value).replace("Z", "+00:00")) if value else None
    except ValueError:
        return None


def _content(status: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for container in maps(status.get("initContainerStatuses")):
        if container.get("name") != CONTAINER_PULL:
            continue
        said = report(text(at(container, "state", "terminated", "message"))) or {}
        for model in maps(said.get("models")):
            digest = text(model.get("contentDigest"))[:128]
            if digest:
                found[text(model.get("name"))] = digest
    return found


def _lost_at(obj: ctrl.Object) -> datetime | None:
    end = moment(obj.metadata.get("deletionTimestamp"))
    return end + LOST_AFTER if end is not None else None


def pod_of(obj: ctrl.Object) -> Pod:
    status = mapping(obj.raw.get("status"))
    ready = next((item for item in maps(status.get("conditions")) if item.get("type") == "Ready"), {})
    running = [
        item
        for part in ("initContainerStatuses", "containerStatuses")
        for item in maps(status.get(part))
        if at(item, "state", "running") is not None
    ]
    ended = status.get("phase") in ("Failed", "Succeeded")
    return Pod(
        name=obj.name,
        uid=obj.uid,
        revision=obj.labels.get(LABEL_REVISION, ""),
        ip=text(status.get("podIP")),
        ready=ready.get("status") == "True" and not ended,
        ready_since=moment(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        unready_since=moment(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None,
        deleting=obj.deleting,
        started=bool(running),
        ended=ended,
        lost_at=_lost_at(obj),
        content=_content(status),
        raw=obj.raw,
    )


def _models(value: str) -> tuple[Mapping[str, object], ...]:
    try:
        return tuple(maps(json.loads(value)))
    except ValueError:
        return ()


def relabelled(deployment: ctrl.Object, labels: Mapping[str, str]) -> ctrl.Object:
    """`deployment` as it reads with `labels`."""
    metadata = {**deployment.metadata, "labels": {**deployment.labels, **labels}}
    return ctrl.Object({**deployment.raw, "metadata": metadata}, deployment.kind)


def _unavailable_since(status: Mapping[str, object]) -> datetime | None:
    for condition in maps(status.get("conditions")):
        if condition.get("type") == "Available" and condition.get("status") == "False":
            return moment(condition.get("lastTransitionTime"))
    return None


def revision_of(deployment: ctrl.Object, pods: Iterable[Pod], now: datetime) -> Revision:
    """A revision from its Deployment; `pods` are the service's. Those that are over or lost do not count."""
    status = mapping(deployment.raw.get("status"))
    notes = deployment.annotations
    name = deployment.labels.get(LABEL_REVISION, "")
    mine = [pod for pod in pods if pod.revision == name and not pod.ended]
    staying = sum(1 for pod in mine if not pod.deleting)
    leaving = sum(1 for pod in mine if pod.deleting and (pod.lost_at is None or now < pod.lost_at))
    version = notes.get(ANNOTATION_HASH_VERSION, "")
    rollouts = notes.get("deployment.kubernetes.io/revision", "")
    change = notes.get(ANNOTATION_TRAFFIC_CHANGE, "")
    return Revision(
        hash=name,
        name=deployment.name,
        uid=deployment.uid,
        resource_version=deployment.resource_version,
        created=text(deployment.metadata.get("creationTimestamp")),
        replicas=integer(deployment.spec.get("replicas"), 1),
        ready=integer(status.get("readyReplicas")),
        # The Deployment's count may lag behind the pods, or the other way round: the larger one is safe.
        live=max(staying, integer(status.get("replicas"))),
        leaving=leaving,
        promoted=notes.get(ANNOTATION_PROMOTED, ""),
        recorded=Recorded(
            hash=name,
            image=notes.get(ANNOTATION_IMAGE, ""),
            version=int(version) if version.isdigit() else 0,
            inputs=notes.get(ANNOTATION_IDENTITY, ""),
        ),
        models=_models(notes.get(ANNOTATION_MODELS, "")),
        template_digest=notes.get(ANNOTATION_TEMPLATE, ""),
        rollouts=int(rollouts) if rollouts.isdigit() else 0,
        change=int(change) if change.isdigit() else 0,
        unavailable_since=_unavailable_since(status),
        template=mapping(deployment.spec.get("template")),
        status=status,
    )
