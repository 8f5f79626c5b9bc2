"""PaddleModel: from what was observed to what is to be done. Pure: no client, no clock, no await."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import controller_runtime as ctrl
from api.v1alpha1 import PaddleModelSpec

from .. import conditions, phases
from ..applied import needs_apply
from ..conditions import Condition, Type
from ..options import Options
from ..phases import Facts, Phase
from ..reasons import Reason
from ..resolver import Outcome, Rejected, Resolved
from ..resources.wire import mapping
from . import artifact as artifacts_
from .handover import paddle_service
from .source import Wanted

#: What a model's own status repeats of its service's, so that one `kubectl get` tells the whole story.
MIRRORED = ("url", "download", "display")
#: Conditions that are its service's.
_SERVICES = (
    Type.Available,
    Type.Progressing,
    Type.Degraded,
    Type.Drifted,
    Type.TrafficVerified,
    Type.AnalysisAvailable,
)
#: status.replicas of a model is an object; a service's are single numbers, because /scale reads one of them.
REPLICAS = {
    "desired": "replicas",
    "ready": "readyReplicas",
    "updated": "updatedReplicas",
    "available": "availableReplicas",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One pass over one model; `spec` is None when it cannot be read (`invalid` says why).

    `service` is the PaddleService of its name, whoever made it.
    """

    model: ctrl.Object
    spec: PaddleModelSpec | None
    wanted: Wanted | None
    outcome: Outcome | None
    invalid: str = ""
    service: ctrl.Object | None = None
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    warning: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`status` is written first: what was resolved is pinned before anything is made from it."""

    status: dict[str, object]
    service: dict[str, object] | None = None
    remove_service: str = ""
    events: tuple[Announcement, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trouble:
    reason: Reason
    message: str


@dataclass(slots=True, kw_only=True)
class _Findings:
    artifact: dict[str, object] | None = None
    newly_resolved: bool = False
    drifted: str = ""
    rejected: _Trouble | None = None
    refused: _Trouble | None = None
    desired: dict[str, object] | None = None
    applied: bool = False
    current: bool = False
    service_phase: Phase = Phase.New
    service_status: Mapping[str, object] = field(default_factory=dict)


def decide(observed: Observed, options: Options, now: datetime) -> Decision:
    """The whole of a pass: status to write, service to apply, events to send, when to look again."""
    model, spec = observed.model, observed.spec
    previous = model.status
    findings = _find(observed, options, now)
    changed = model.generation != (previous.get("observedGeneration") or 0)
    progress = _progress_time(previous, changed or findings.newly_resolved, now)
    limit = progress + timedelta(seconds=_deadline_seconds(spec))
    enabled = _enabled(spec)
    stays = _stays(observed, findings)
    facts = Facts(
        changed=changed and not stays,
        refused=findings.refused is not None,
        resolved=findings.artifact is not None or stays,
        serving_wanted=enabled,
        serving=stays or (findings.current and findings.service_phase is Phase.Ready),
        broken=findings.current and findings.service_phase is Phase.Failed,
        overdue=findings.artifact is None and now >= limit and not stays,
    )
    phase, transitions = phases.walk(phases.parse(previous.get("phase")), facts)
    blocker = _blocker(observed, findings, phase, enabled)
    status = _status(observed, findings, phase, blocker, progress, limit, now)
    pending_deadline = (limit - now).total_seconds() if findings.artifact is None and now < limit else None
    return Decision(
        status=status,
        service=findings.desired if findings.desired is not None and not findings.applied else None,
        remove_service=observed.service.uid if observed.service and _owned(observed) and not enabled else "",
        events=_events(previous, transitions, blocker, findings),
        requeue_after=pending_deadline,
    )


def decide_deleting(observed: Observed, now: datetime) -> dict[str, object]:
    """The status of a model that is to be deleted while PaddleServices still name it."""
    message = (
        f"deletion waits: PaddleService {', '.join(observed.users[:5])} still names this model; "
        "delete the service or point it at another model"
    )
    status = dict(observed.model.status)
    kept = [
        Condition(
            Type(item["type"]),
            item["status"],
            Reason.parse(item["reason"], Reason.AsExpected),
            item["message"],
        )
        for item in status.get("conditions") or []
        if item.get("type") in set(Type) and item["type"] != Type.DeletionBlocked
    ]
    blocked = Condition(Type.DeletionBlocked, "True", Reason.DeletionBlocked, message)
    status["conditions"] = conditions.merge(
        status.get("conditions") or [], [*kept, blocked], generation=observed.model.generation, now=now
    )
    status["message"] = conditions.one_line(message)
    return status


def _find(observed: Observed, options: Options, now: datetime) -> _Findings:
    model, spec, wanted = observed.model, observed.spec, observed.wanted
    findings = _Findings()
    if spec is None or wanted is None:
        findings.refused = _Trouble(
            reason=Reason.InvalidSpec, message=observed.invalid or "the spec names no source"
        )
        return findings
    findings.artifact = artifacts_.pinned(model.status, wanted)
    if findings.artifact is not None:
        if isinstance(observed.outcome, Resolved) and observed.outcome.manifest.resolved:
            findings.drifted = artifacts_.drifted(findings.artifact, observed.outcome.manifest)
    else:
        match observed.outcome:
            case Resolved(manifest=manifest):
                if excess := artifacts_.too_many(manifest):
                    findings.rejected = _Trouble(reason=Reason.InvalidSource, message=excess)
                else:
                    findings.artifact = artifacts_.found(
                        manifest, wanted, generation=model.generation, now=now
                    )
                    findings.newly_resolved = True
            case Rejected(reason=reason, message=message):
                findings.rejected = _Trouble(reason=reason, message=message)
            case _:
                pass
    refusal = artifacts_.incompatible(spec, findings.artifact, options)
    if refusal:
        findings.refused = _Trouble(reason=refusal[0], message=refusal[1])
    if not _enabled(spec):
        return findings
    service = observed.service
    if service is not None and not _owned(observed):
        findings.refused = _Trouble(
            reason=Reason.NameConflict,
            message=f"PaddleService {service.key} exists and is not ours: delete it or rename the model",
        )
        return findings
    if findings.artifact is None or findings.refused:
        return findings
    findings.desired = paddle_service(model, spec, wanted, findings.artifact)
    if service is not None:
        findings.service_status = service.status
        findings.applied = not needs_apply(findings.desired, service.raw)
        findings.current = (
            findings.applied and (service.status.get("observedGeneration") or 0) >= service.generation
        )
        findings.service_phase = phases.parse(service.status.get("phase"))
    content = _content_digest(findings.service_status, findings.artifact) if findings.current else ""
    if content:
        findings.artifact["contentDigest"] = content
    return findings


def _owned(observed: Observed) -> bool:
    return observed.service is not None and observed.service.controller_uid == observed.model.uid


def _stays(observed: Observed, findings: _Findings) -> bool:
    """Ready with a strategy that changes nothing for clients by itself: another spec is no news to them.

    What it asks for is told by conditions and message; the phase is that of the revision that serves.
    """
    spec, service = observed.spec, observed.service
    if spec is None or service is None or findings.refused or not _owned(observed):
        return False
    strategy = str(mapping(mapping(observed.model.spec.get("serving")).get("updateStrategy")).get("type"))
    before = phases.parse(observed.model.status.get("phase"))
    serves = phases.parse(service.status.get("phase")) is Phase.Ready
    return strategy in ("Canary", "InPlace") and before is Phase.Ready and serves


def _content_digest(service_status: Mapping[str, object], artifact: Mapping[str, object]) -> str:
    """What pods found; a canary's service shows the version in place, which is another artefact."""
    models = service_status.get("models")
    if isinstance(models, list) and models and isinstance(models[0], Mapping):
        same = all(models[0].get(key) in (None, "", artifact.get(key)) for key in ("version", "digest"))
        return str(models[0].get("contentDigest") or "") if same else ""
    return ""


def _enabled(spec: PaddleModelSpec | None) -> bool:
    return spec is None or spec.serving.enabled is not False


def _deadline_seconds(spec: PaddleModelSpec | None) -> float:
    return float((spec.serving.progress_deadline_seconds if spec else None) or 600)


def _progress_time(previous: Mapping[str, object], restart: bool, now: datetime) -> datetime:
    written = previous.get("progressTime")
    if restart or not isinstance(written, str):
        return now.replace(microsecond=0)
    return datetime.fromisoformat(written.replace("Z", "+00:00"))


def _blocker(observed: Observed, findings: _Findings, phase: Phase, enabled: bool) -> _Trouble:
    """The one thing to say: what blocks, else what is going on."""
    if findings.refused:
        return findings.refused
    if findings.rejected:
        return findings.rejected
    if findings.artifact is None:
        assert observed.wanted is not None
        return _Trouble(reason=Reason.Resolving, message=f"asking for {observed.wanted.source}")
    if not enabled:
        return _Trouble(reason=Reason.ArtifactOnly, message="the artefact is kept; serving.enabled is false")
    if not findings.current:
        return _Trouble(reason=Reason.RollingOut, message=f"handing over {findings.artifact.get('version')}")
    ready = conditions.find(findings.service_status, Type.Ready)
    reason = Reason.parse(str(ready.get("reason") or ""), Reason.RollingOut)
    message = str(findings.service_status.get("message") or ready.get("message") or "")
    if phase is Phase.Ready and not message:
        message = f"serving {findings.artifact.get('version')}"
    return _Trouble(reason=reason, message=message)


def _status(
    observed: Observed,
    findings: _Findings,
    phase: Phase,
    blocker: _Trouble,
    progress: datetime,
    limit: datetime,
    now: datetime,
) -> dict[str, object]:
    model, previous = observed.model, observed.model.status
    service_status = findings.service_status or (
        observed.service.status if _owned(observed) and observed.service else {}
    )
    status: dict[str, object] = {
        "phase": str(phase),
        "observedGeneration": model.generation,
        "conditions": conditions.merge(
            previous.get("conditions") or [],
            _conditions(findings, phase, blocker, service_status),
            generation=model.generation,
            now=now,
        ),
        "message": conditions.one_line(blocker.message),
        "progressTime": conditions.timestamp(progress),
        "display": {"ready": "-", "canary": ""},
    }
    if findings.artifact is not None:
        status["artifact"] = findings.artifact
        status["versions"] = artifacts_.remembered(previous.get("versions"), findings.artifact)
    else:
        status |= {key: previous[key] for key in ("artifact", "versions") if previous.get(key)}
        status["deadline"] = conditions.timestamp(limit)
    status |= {key: service_status[key] for key in MIRRORED if service_status.get(key)}
    replicas = {
        name: service_status[key] for name, key in REPLICAS.items() if service_status.get(key) is not None
    }
    if replicas:
        status["replicas"] = replicas
    revision = service_status.get("updatedRevision") or service_status.get("stableRevision")
    if revision:
        status["revision"] = revision
    return status


def _conditions(
    findings: _Findings, phase: Phase, blocker: _Trouble, service_status: Mapping[str, object]
) -> list[Condition]:
    ready = phase is Phase.Ready
    under_way = conditions.find(service_status, Type.Reconciling).get("status") == "True"
    moving = ready and (under_way or (findings.desired is not None and not findings.current))
    listed = [
        Condition(Type.Ready, "True" if ready else "False", blocker.reason, blocker.message),
        _artifact_condition(findings),
        Condition(
            Type.Reconciling,
            "True" if phase in (Phase.Initialized, Phase.Deploying) or moving else "False",
            blocker.reason,
            blocker.message,
        ),
        Condition(
            Type.Stalled, "True" if phase is Phase.Failed else "False", blocker.reason, blocker.message
        ),
    ]
    if blocker.reason is Reason.NameConflict:
        listed.append(Condition(Type.NameConflict, "True", blocker.reason, blocker.message))
    if findings.drifted:
        message = (
            f"the same address now holds {findings.drifted}: pods keep the pinned content, new pods cannot "
            "get it any more; publish the new content under a new spec.version"
        )
        listed.append(Condition(Type.Drifted, "True", Reason.ContentDrifted, message))
    for type_ in _SERVICES:
        item = conditions.find(service_status, type_)
        if item and any(known.type == type_ for known in listed):
            continue  # what the model itself found comes first
        if item:
            reason = Reason.parse(str(item.get("reason") or ""), Reason.AsExpected)
            state = item.get("status")
            truth: conditions.Status = (
                "True" if state == "True" else "False" if state == "False" else "Unknown"
            )
            listed.append(Condition(type_, truth, reason, str(item.get("message") or "")))
        elif type_ is Type.Available:
            listed.append(Condition(type_, "False", Reason.NotServing, "nothing serves this model yet"))
    return listed


def _artifact_condition(findings: _Findings) -> Condition:
    artifact = findings.artifact
    if artifact is not None:
        if not artifact.get("digest"):
            message = (
                f"{artifact.get('source')} can be read by a pod only; its digest follows when one reports"
            )
            return Condition(Type.ArtifactResolved, "Unknown", Reason.UnresolvedUntilPodReports, message)
        message = f"{artifact.get('source')}: {artifact.get('files')} files, {artifact.get('size')} bytes"
        return Condition(Type.ArtifactResolved, "True", Reason.Resolved, message)
    if findings.rejected is not None:
        return Condition(Type.ArtifactResolved, "False", findings.rejected.reason, findings.rejected.message)
    return Condition(Type.ArtifactResolved, "Unknown", Reason.Resolving, "not resolved yet")


def _events(
    previous: Mapping[str, object],
    transitions: tuple[phases.Transition, ...],
    blocker: _Trouble,
    findings: _Findings,
) -> tuple[Announcement, ...]:
    events: list[Announcement] = []
    for transition in transitions:
        last = transition is transitions[-1]
        failed = transition.after is Phase.Failed
        detail = f": {blocker.message}" if last and blocker.message else ""
        reason = blocker.reason if failed else Reason.PhaseChanged
        events.append(
            Announcement(failed, reason, f"{transition.before or 'New'} -> {transition.after}{detail}")
        )
    if findings.rejected is not None and not (transitions and transitions[-1].after is Phase.Failed):
        said = conditions.find(previous, Type.ArtifactResolved)
        if said.get("reason") != findings.rejected.reason:
            events.append(Announcement(True, findings.rejected.reason, findings.rejected.message))
    return tuple(events)
