"""One pass over a PaddleService, decided. Pure: no await, no clock, no client."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import controller_runtime as ctrl

from ..applied import digest, stamped
from ..probe import Target
from ..resources.compare import adds, is_part
from ..resources.config import config_map
from ..resources.deployment import ANNOTATION_PROMOTED, deployment
from ..resources.meta import Rendered, child_name, labels
from ..resources.pod import pod_template
from ..resources.service import (
    disruption_budget,
    main_service,
    network_policy,
    revision_service,
    service_ports,
)
from ..resources.wire import JSON, at, mapping, maps
from ..rollout.identity import release_of
from ..rollout.inplace import PATIENCE
from ..traffic import flip
from . import inplace, routes
from .canary_effects import canary_effects, looks_again
from .effects import Apply, Create, Delete, Effect, Merge, Scale
from .notes import Note, notes
from .observed import Child, Observed, Revision
from .rollout import Canarying, Rollout, models_json, pods_of
from .status import Report, report
from .strategy import chosen

#: Seconds between looks at an object that is in our way: nothing tells when it goes.
CONFLICT_INTERVAL = 10.0
PREDECESSOR_INTERVAL = 2.0
#: Seconds between attempts at what the API server refuses: nothing tells when a quota grows.
REFUSED_INTERVAL = 30.0
#: Seconds between two writes of mere download progress.
PROGRESS_INTERVAL = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """status: None when the one there stands. effects: in order, after the status. targets: pods to probe.

    requeue_after: seconds until something must be looked at although nothing may happen.
    """

    status: JSON | None
    effects: tuple[Effect, ...] = ()
    notes: tuple[Note, ...] = ()
    targets: tuple[Target, ...] = ()
    requeue_after: float | None = None
    report: Report | None = field(default=None, repr=False)
    run: Canarying | None = field(default=None, repr=False)


def decide(observed: Observed, now: datetime) -> Decision:
    """What to write, do and announce, given what was observed."""
    if observed.foreign:  # nothing is attempted, so nothing is refused
        observed = replace(observed, refusal=None)
    rollout = chosen(observed, now)
    drifted = _drifted(observed, rollout)
    told = report(observed, rollout, drifted, now)
    effects = () if observed.foreign else tuple(_effects(observed, rollout, now))
    status, later = _due(observed, rollout, told, now)
    waits = [later] if later is not None else []
    if told.progress is not None and not told.progress.overdue(now):
        waits.append((told.progress.deadline - now).total_seconds() + 0.1)
    if rollout.awaiting_latency:
        waits.append(1.0)
    waits += looks_again(rollout)
    waits += routes.looks_again(observed, rollout)
    if rollout.release is not None and (rollout.release.waits or rollout.release.late):
        waits.append(PATIENCE)
    ends = [pod.lost_at for pod in observed.pods if pod.lost_at is not None and not pod.ended]
    waits += [(end - now).total_seconds() + 0.1 for end in ends if end > now]
    if observed.foreign:
        soon = all(item.predecessor for item in observed.foreign)
        waits.append(PREDECESSOR_INTERVAL if soon else CONFLICT_INTERVAL)
    if observed.refusal is not None:
        waits.append(REFUSED_INTERVAL)
    return Decision(
        status=status,
        effects=effects,
        notes=tuple(notes(observed, rollout, told, effects)),
        targets=_targets(observed, rollout, told),
        requeue_after=max(0.1, min(waits)) if waits else None,
        report=told,
        run=rollout.canary,
    )


def _due(
    observed: Observed, rollout: Rollout, told: Report, now: datetime
) -> tuple[JSON | None, float | None]:
    """(the status to write, or None, and the seconds until a held-back one is due)."""
    if told.status == observed.status:
        return None, None
    if rollout.canary is not None and told.worded() == told.worded(observed.status):
        return None, None  # a run that waits would else write every second how much longer
    if observed.written is None or told.steady() != told.steady(observed.status):
        return told.status, None
    rest = PROGRESS_INTERVAL - (now - observed.written).total_seconds()
    return (told.status, None) if rest <= 0 else (None, rest)


def _targets(observed: Observed, rollout: Rollout, told: Report) -> tuple[Target, ...]:
    """Pods of the revision that is being deployed, as long as it is."""
    if told.settled or rollout.target is None:
        return ()
    return tuple(
        Target(uid=pod.uid, ip=pod.ip) for pod in pods_of(observed, rollout.hash) if pod.ip and pod.started
    )


def _drifted(observed: Observed, rollout: Rollout) -> tuple[str, ...]:
    """Deployments whose pod template is not the one they were made with."""
    names = []
    for revision in observed.revisions:
        changed = revision.rollouts > 1  # Kubernetes counts the templates it has rolled out
        if revision.hash == rollout.hash and observed.desired is not None:
            template = pod_template(
                observed.owner,
                observed.desired,
                revision.hash,
                image=revision.recorded.image,
                pull_policy=observed.pull_policy,
            )
            if digest(template) == revision.template_digest:
                changed = not is_part(template, revision.template)
                # Of the first template Kubernetes has counted, what is more was added by admission.
                if revision.status and revision.rollouts != 1:
                    changed = changed or adds(template["spec"], revision.template.get("spec"))
        if changed:
            names.append(revision.name)
    return tuple(sorted(names))


def _effects(observed: Observed, rollout: Rollout, now: datetime) -> list[Effect]:
    if rollout.identity is None:
        return []
    owner = observed.owner
    effects: list[Effect] = [
        Merge(
            ctrl.DEPLOYMENT,
            ctrl.Key(owner.namespace, revision.name),
            revision.uid,
            {"metadata": {"labels": labels(owner.name, revision.hash)}},
        )
        for revision in observed.revisions
        if revision.unlabelled
    ]
    effects += _main_service(observed, rollout)
    effects += canary_effects(observed, rollout)
    effects += routes.effects(observed, rollout)
    effects += _revision(observed, rollout)
    effects += inplace.effects(observed, rollout, now)
    for revision in observed.revisions:
        size = rollout.sizes.get(revision.hash, revision.replicas)
        if size == revision.replicas:
            continue
        key = ctrl.Key(owner.namespace, revision.name)
        if rollout.canary is None:
            effects.append(Scale(key, size))
        elif revision.change <= rollout.canary.state.traffic.change:
            effects.append(Scale(key, size, revision.resource_version))
    effects += _shared(observed, disruption_budget(owner))
    effects += _shared(observed, network_policy(owner))
    target = rollout.target
    if target is not None and rollout.promoted and (rollout.promoting or not target.promoted):
        key = ctrl.Key(owner.namespace, target.name)
        promoted = {ANNOTATION_PROMOTED: now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        effects.append(Merge(ctrl.DEPLOYMENT, key, target.uid, {"metadata": {"annotations": promoted}}))
    effects += _garbage(observed, rollout)
    return effects


def _shared(observed: Observed, wanted: Rendered) -> list[Effect]:
    """An object of the whole service: created, and from then on applied when it is not as wanted."""
    body = stamped(wanted.body)
    there = observed.children.get((wanted.kind.kind, wanted.key.name))
    wanted = Rendered(kind=wanted.kind, body=body)
    if there is None:
        return [Create(wanted)]
    if wanted.kind == ctrl.SERVICE and not _same_ports(body, there.raw):
        # An apply neither takes a port away that someone else added nor moves one: it would add a second of
        # its name. The type goes with them, because it decides what else a port says.
        spec = mapping(body["spec"])
        fields: JSON = {"spec": {"type": spec["type"], "ports": spec["ports"]}}
        return [Merge(wanted.kind, wanted.key, there.uid, fields)]
    return [] if is_part(body, there.raw) else [Apply(wanted)]


def _main_service(observed: Observed, rollout: Rollout) -> list[Effect]:
    """Service <name>: to the pods, or to the routers while the path leads there."""
    owner = observed.owner
    there = observed.children.get((ctrl.SERVICE.kind, owner.name))
    backend = observed.watched.backend if rollout.canary and rollout.canary.state.path.to_routers else None
    wanted = main_service(owner, backend)
    if there is None or flip.points_at(there.raw, owner, backend):
        return _shared(observed, wanted)
    # Selector and ports in one write; what else differs waits for the next pass.
    patch = flip.merge_patch(there.raw, owner, service_ports(), backend)
    return [Merge(ctrl.SERVICE, owner.key, there.uid, patch)]


def _same_ports(wanted: Mapping[str, object], live: Mapping[str, object]) -> bool:
    mine, theirs = at(wanted, "spec", "ports"), at(live, "spec", "ports")
    return is_part(mine, theirs) and len(list(maps(mine))) == len(list(maps(theirs)))


def _labels(child: Child) -> object:
    return at(child.raw, "metadata", "labels")


def _revision(observed: Observed, rollout: Rollout) -> list[Effect]:
    """What the wanted revision lacks. Its objects are made once and never written again."""
    identity, desired, owner = rollout.identity, observed.desired, observed.owner
    if identity is None or desired is None or not rollout.ensured:
        return []
    effects: list[Effect] = []
    release = release_of(desired) if desired.in_place else ""
    config = config_map(owner, desired, identity.hash, release=release)
    for wanted in (config, revision_service(owner, identity.hash)):
        there = observed.children.get((wanted.kind.kind, wanted.key.name))
        if there is None or not is_part(at(wanted.body, "metadata", "labels"), _labels(there)):
            effects.append(Create(wanted))  # which gives back the labels of one that is there
    if rollout.target is None:
        effects.append(
            Create(
                deployment(
                    owner,
                    desired,
                    identity.hash,
                    image=identity.image,
                    pull_policy=observed.pull_policy,
                    replicas=rollout.sizes.get(identity.hash, 0),
                    identity=identity.inputs,
                    hash_version=identity.version,
                    models=models_json(desired),
                )
            )
        )
    return effects


def _garbage(observed: Observed, rollout: Rollout) -> list[Effect]:
    """Old revisions beyond the limit, once nothing runs on them. The latest ones are kept to go back to."""
    if not rollout.promoted:
        return []
    kept = {rollout.hash, rollout.stable}
    if rollout.canary is not None:
        kept |= {rollout.canary.state.candidate, rollout.canary.state.retiring}
    idle = [
        revision
        for revision in observed.revisions
        if revision.hash not in kept and revision.replicas == 0 == revision.pods
    ]
    idle.sort(key=_age, reverse=True)
    effects: list[Effect] = []
    for revision in idle[observed.settings.history_limit :]:
        effects += _removal(observed, revision)
    return effects


def _age(revision: Revision) -> tuple[str, str, str]:
    return (revision.promoted or revision.created, revision.created, revision.hash)


def _removal(observed: Observed, revision: Revision) -> list[Effect]:
    """The Deployment goes last: as long as it is there, the rest is found again."""
    owner = observed.owner
    key = ctrl.Key(owner.namespace, child_name(owner.name, revision.hash))
    effects: list[Effect] = []
    for kind in (ctrl.SERVICE, ctrl.CONFIG_MAP):
        child = observed.children.get((kind.kind, key.name))
        if child is not None:
            effects.append(Delete(kind, key, child.uid, child.resource_version))
    effects.append(Delete(ctrl.DEPLOYMENT, key, revision.uid, revision.resource_version))
    return effects
