"""An update in the running pods: what it looks at, what it writes, how it shows. Pure.

The pods stay; their ConfigMap gets the new content beside the old, and each pod in turn the annotation that
lets it take it. `rollout.inplace` decides; the runtime loads, swaps and reports.
"""

from collections.abc import Mapping
from datetime import datetime

import controller_runtime as ctrl

from ..conditions import Condition, Status, Type, one_line, timestamp
from ..kinds import ANNOTATION_RELEASE, ANNOTATION_RELEASE_SINCE, ANNOTATION_RELEASE_TOLD
from ..reasons import Reason
from ..resources.config import CONFIG_FILE, config_text, release_file
from ..resources.deployment import ANNOTATION_MODELS
from ..resources.meta import child_name
from ..resources.wire import JSON, at, mapping, pruned, text
from ..rollout import inplace
from ..rollout.identity import release_of
from ..rollout.inplace import Release, State
from .effects import Effect, Merge
from .observed import Child, Observed, Pod, moment
from .rollout import Rollout, models_json, models_of, pods_of

#: Pods named in status.
MAX_PODS = 32


def follow(observed: Observed, rollout: Rollout, now: datetime) -> Release | None:
    """Where the update stands; None for another strategy, and before there are pods to update."""
    desired, config = observed.desired, _config(observed, rollout)
    if desired is None or not desired.in_place or rollout.target is None or config is None:
        return None
    target = release_of(desired)
    base = text(at(config.raw, "metadata", "annotations", ANNOTATION_RELEASE))
    return inplace.release(
        target=target,
        base=base,
        pods=[_pod(observed, pod, now) for pod in pods_of(observed, rollout.hash)],
        wanted=observed.settings.replicas,
        offered=target == base or release_file(target) in mapping(config.raw.get("data")),
        deadline=observed.settings.progress_deadline,
    )


def _config(observed: Observed, rollout: Rollout) -> Child | None:
    return observed.children.get((ctrl.CONFIG_MAP.kind, child_name(observed.owner.name, rollout.hash)))


def _told(pod: Pod) -> str:
    return text(at(pod.raw, "metadata", "annotations", ANNOTATION_RELEASE))


def _pod(observed: Observed, pod: Pod, now: datetime) -> inplace.Pod:
    def ago(annotation: str) -> float:
        then = moment(at(pod.raw, "metadata", "annotations", annotation))
        return (now - then).total_seconds() if then is not None else 0.0

    seen = observed.seen.get(pod.uid)
    return inplace.Pod(
        name=pod.name,
        ready=pod.ready,
        told=_told(pod),
        taken=seen.release if seen else "",
        state=seen.release_state if seen else "",
        reason=seen.release_reason if seen else "",
        message=seen.release_message if seen else "",
        waited=ago(ANNOTATION_RELEASE_TOLD),
        since=ago(ANNOTATION_RELEASE_SINCE),
    )


def effects(observed: Observed, rollout: Rollout, now: datetime) -> list[Effect]:
    """The content first, the pods after it was seen there."""
    release, desired, target = rollout.release, observed.desired, rollout.target
    config = _config(observed, rollout)
    if release is None or desired is None or target is None or config is None:
        return []
    found: list[Effect] = []
    owner, key = (
        observed.owner,
        ctrl.Key(observed.owner.namespace, child_name(observed.owner.name, rollout.hash)),
    )
    live = mapping(config.raw.get("data"))
    data = _data(observed, rollout, release, live)
    base = release.target if release.promote else release.base
    if data != live or base != release.base:
        gone = {name: None for name in live if name not in data}
        fields: JSON = {
            "metadata": {
                "resourceVersion": config.resource_version,
                "annotations": {ANNOTATION_RELEASE: base},
            },
            "data": {**data, **gone},
        }
        found.append(Merge(ctrl.CONFIG_MAP, key, config.uid, fields))
    if base == release.target and [dict(model) for model in target.models] != models_of(desired):
        note: JSON = {"metadata": {"annotations": {ANNOTATION_MODELS: models_json(desired)}}}
        found.append(Merge(ctrl.DEPLOYMENT, ctrl.Key(owner.namespace, target.name), target.uid, note))
    told = timestamp(now)
    for pod in pods_of(observed, rollout.hash):
        if pod.name in (*release.tell, *release.again):
            notes: JSON = {ANNOTATION_RELEASE: release.target, ANNOTATION_RELEASE_TOLD: told}
            if pod.name in release.tell:
                notes[ANNOTATION_RELEASE_SINCE] = told
            word: JSON = {"metadata": {"annotations": notes}}
            found.append(Merge(ctrl.POD, ctrl.Key(owner.namespace, pod.name), pod.uid, word))
    return found


def _data(
    observed: Observed, rollout: Rollout, release: Release, live: Mapping[str, object]
) -> dict[str, object]:
    """What the ConfigMap is to hold: the base, the target, and what pods were told and may read again."""
    assert observed.desired is not None
    wanted = config_text(observed.owner, observed.desired, release.target)
    told = {release_file(word) for pod in pods_of(observed, rollout.hash) if (word := _told(pod))}
    data = {name: value for name, value in live.items() if name == CONFIG_FILE or name in told}
    if release.promote or CONFIG_FILE not in data:
        data[CONFIG_FILE] = wanted
    if release.target != release.base or release_file(release.target) in told:
        data[release_file(release.target)] = wanted
    return data


# How it shows.


def display(rollout: Rollout) -> str:
    """For the column CANARY: "in place 1/3"."""
    release = rollout.release
    return "" if release is None or release.settled else f"in place {release.done}/{len(release.states)}"


def line(rollout: Rollout) -> str:
    release = rollout.release
    if release is None or release.settled:
        return ""
    head = f"release {release.target} is in {release.done} of {len(release.states)} pods"
    if release.problem is not None:
        pod, reason, message = release.problem
        return f"{head}; pod {pod} keeps what it has: {reason}: {message}"
    taking = [name for name, state in release.states if state is State.TAKING]
    return f"{head}, {taking[0]} takes it" if taking else head


def progressing(rollout: Rollout) -> Condition | None:
    release = rollout.release
    if release is None or release.settled:
        return None
    status: Status = "False" if release.problem is not None else "True"
    return Condition(Type.Progressing, status, _reason(release), one_line(line(rollout)))


def degraded(rollout: Rollout) -> Condition | None:
    release = rollout.release
    if release is None or release.problem is None:
        return None
    return Condition(Type.Degraded, "True", _reason(release), one_line(line(rollout)))


def _reason(release: Release) -> Reason:
    if release.problem is None:
        return Reason.ReleasingInPlace
    return Reason.parse(release.problem[1], Reason.LoadFailed)


def wire(observed: Observed, rollout: Rollout) -> JSON:
    """status.inPlace; nothing for other strategies."""
    release = rollout.release
    if release is None:
        return {}
    pods: list[JSON] = []
    if not release.settled:
        by_name = {pod.name: pod for pod in pods_of(observed, rollout.hash)}
        for name, state in release.states[:MAX_PODS]:
            seen = observed.seen.get(by_name[name].uid)
            reason = message = ""
            if name in release.late:
                reason = Reason.ProgressDeadlineExceeded
                message = inplace.overdue(observed.settings.progress_deadline)
            elif state is State.FAILED and seen is not None:
                reason, message = seen.release_reason, one_line(seen.release_message)
            pods.append(pruned({"name": name, "state": str(state), "reason": reason, "message": message}))
    return {"inPlace": pruned({"release": release.target, "base": release.base, "pods": pods})}
