"""What is in the way of a pod, in one reason and one line. Pure.

Looks at everything that a pod and its Deployment say (scheduling, waiting and terminated containers, the
termination message, the answer of its admin port) and picks the most telling one: what no retry can cure
comes before what might pass, and what a container itself said before what was said about it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .conditions import one_line
from .kinds import CONTAINER_PULL
from .probe import Observation
from .reasons import FATAL_IN_POD, Reason
from .resources.wire import at, integer, mapping, maps, text

_IMAGE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CONFIG = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "PreStartHookError",
}

#: Which of several is told, after those that are fatal: the first here.
_ORDER = (
    Reason.OutOfMemory,
    Reason.ContainerConfigError,
    Reason.ImagePullFailed,
    Reason.PodRefused,
    Reason.Unschedulable,
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """fatal: no retry cures it without a change of spec."""

    reason: Reason
    message: str
    fatal: bool = False
    pod: str = ""


def _blocker(reason: Reason, pod: str, what: str, detail: str = "", *, fatal: bool = False) -> Blocker:
    line = f"pod {pod} {what}" + (f": {detail}" if detail else "")
    return Blocker(reason, one_line(line), fatal or reason in FATAL_IN_POD, pod)


def of_pod(pod: Mapping[str, object], seen: Observation | None = None) -> Blocker | None:
    """What keeps a pod (a wire object) from being ready; None if nothing does, or not yet."""
    name = text(at(pod, "metadata", "name"), "?")
    status = mapping(pod.get("status"))
    found = [
        _of_container(name, item)
        for part in ("initContainerStatuses", "containerStatuses")
        for item in maps(status.get(part))
    ]
    found.append(_of_progress(name, seen))
    found.append(_of_scheduling(name, status))
    found.append(_of_eviction(name, status))
    return choose(found)


def _of_progress(pod: str, seen: Observation | None) -> Blocker | None:
    if seen is None:
        return None
    failed = [model for model in seen.models if model.state == "Failed"]
    found = [
        _blocker(
            Reason.parse(model.reason, Reason.PullFailed if seen.stage == "Pulling" else Reason.LoadFailed),
            pod,
            f"cannot serve model {model.name}",
            model.message or model.reason,
        )
        for model in failed
    ]
    return choose(found)


def _of_scheduling(pod: str, status: Mapping[str, object]) -> Blocker | None:
    for condition in maps(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            if condition.get("reason") == "SchedulingGated":
                return None
            return _blocker(Reason.Unschedulable, pod, "cannot be scheduled", text(condition.get("message")))
    return None


def _of_eviction(pod: str, status: Mapping[str, object]) -> Blocker | None:
    if status.get("phase") != "Failed":
        return None
    word = text(status.get("reason")) or "failed"
    reason = Reason.OutOfMemory if "memory" in text(status.get("message")).lower() else Reason.CrashLoop
    return _blocker(reason, pod, f"was ended ({word})", text(status.get("message")))


def _of_container(pod: str, container: Mapping[str, object]) -> Blocker | None:
    if container.get("ready") is True and at(container, "state", "running") is not None:
        return None
    name = text(container.get("name"), "?")
    waiting = mapping(at(container, "state", "waiting"))
    why = text(waiting.get("reason"))
    if why in _IMAGE:
        detail = text(waiting.get("message")) or why
        fatal = why in ("InvalidImageName", "ErrImageNeverPull")
        image = text(container.get("image"), "?")
        return _blocker(Reason.ImagePullFailed, pod, f"cannot pull image {image}", detail, fatal=fatal)
    if why in _CONFIG:
        return _blocker(
            Reason.ContainerConfigError, pod, f"cannot start container {name}", text(waiting.get("message"))
        )
    for state in ("state", "lastState"):
        ended = mapping(at(container, state, "terminated"))
        if ended and (integer(ended.get("exitCode")) != 0 or ended.get("reason") == "OOMKilled"):
            return _of_end(pod, container, ended, looping=why == "CrashLoopBackOff")
    return None


def _of_end(
    pod: str, container: Mapping[str, object], ended: Mapping[str, object], *, looping: bool
) -> Blocker:
    name = text(container.get("name"), "?")
    if ended.get("reason") == "OOMKilled":
        return _blocker(
            Reason.OutOfMemory,
            pod,
            f"container {name} was killed: out of memory",
            "raise resources.limits.memory",
        )
    said = report(text(ended.get("message")))
    if said is not None and said.get("result") != "ok":
        fallback = Reason.PullFailed if name == CONTAINER_PULL else Reason.LoadFailed
        reason = Reason.parse(text(said.get("reason")), fallback)
        if reason is not Reason.CrashLoop:
            what = "cannot pull the model" if name == CONTAINER_PULL else "cannot serve"
            return _blocker(reason, pod, what, text(said.get("message")) or text(said.get("reason")))
    restarts = integer(container.get("restartCount"))
    often = f" {restarts} times" if restarts > 1 else ""
    verb = "keeps ending" if looping else "ended"
    lines = text(ended.get("message")).strip().splitlines()
    what = f"container {name} {verb}{often} with exit code {integer(ended.get('exitCode'))}"
    return _blocker(Reason.CrashLoop, pod, what, lines[-1] if lines else text(ended.get("reason")))


def report(message: str) -> Mapping[str, object] | None:
    """The JSON that `pull` and `serve` leave as their termination message; None for anything else."""
    if not message.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "result" in value else None


def of_deployment(name: str, status: Mapping[str, object]) -> Blocker | None:
    """Pods that the API server refuses (quota, Pod Security, a missing service account)."""
    for condition in maps(status.get("conditions")):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            line = one_line(f"the pods of {name} are refused: {text(condition.get('message'))}")
            return Blocker(Reason.PodRefused, line)
    return None


def choose(found: Iterable[Blocker | None]) -> Blocker | None:
    """The most telling of several; the same one whatever their order."""
    known = [item for item in found if item is not None]
    return min(known, key=_rank) if known else None


def _rank(blocker: Blocker) -> tuple[bool, int, str, str, str]:
    if blocker.reason in _ORDER:
        place = _ORDER.index(blocker.reason) + 1
    else:  # the container's own words come first, a bare crash loop last
        place = len(_ORDER) + 1 if blocker.reason is Reason.CrashLoop else 0
    return (not blocker.fatal, place, blocker.pod, blocker.message, blocker.reason)
