"""Waiting for Deployments, saying what blocks them."""

import time
from collections.abc import Callable, Iterable

from hack.deploy.kubectl import JSON, Kubectl, KubectlError, fields, number, text


class RolloutError(Exception):
    """A Deployment did not become available; the text says what blocks it."""


def finished(deployment: JSON) -> bool:
    """Whether every wanted pod is of the newest template and available, and no other is left."""
    wanted = number(deployment, "spec", "replicas")
    status = deployment.get("status")
    return number(status, "observedGeneration") >= number(deployment, "metadata", "generation") and all(
        number(status, name) == wanted for name in ("updatedReplicas", "availableReplicas", "replicas")
    )


def blockers(pods: Iterable[JSON]) -> list[str]:
    """One line for each pod that is not ready: its name and the innermost reason."""
    return [
        f"{text(pod, 'metadata', 'name')}: {reason}"
        for pod in pods
        if not text(pod, "metadata", "deletionTimestamp") and (reason := _reason(pod))
    ]


def _reason(pod: JSON) -> str:
    conditions = {text(item, "type"): item for item in fields(pod, "status", "conditions")}
    if text(conditions.get("Ready"), "status") == "True":
        return ""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in fields(pod, "status", kind):
            waiting = text(status, "state", "waiting", "reason")
            ended = text(status, "state", "terminated", "reason") or text(
                status, "lastState", "terminated", "reason"
            )
            if waiting == "CrashLoopBackOff":  # the back-off's own message only counts seconds
                code = number(status, "lastState", "terminated", "exitCode")
                return f"{text(status, 'name')}: crashes again and again ({ended}, exit code {code})"
            if waiting and waiting not in ("PodInitializing", "ContainerCreating"):
                message = text(status, "state", "waiting", "message")
                return f"{text(status, 'name')}: {waiting}" + (f" ({message})" if message else "")
            if ended and ended != "Completed":
                return f"{text(status, 'name')}: {ended}"
    scheduled = conditions.get("PodScheduled")
    if scheduled is not None and text(scheduled, "status") == "False":
        return f"not scheduled: {text(scheduled, 'message')}"
    not_ready = [
        text(item, "name")
        for item in fields(pod, "status", "containerStatuses")
        if item.get("ready") is not True
    ]
    if not_ready and text(pod, "status", "phase") == "Running":
        return f"{', '.join(not_ready)}: runs, but is not ready yet"
    return f"{text(pod, 'status', 'phase') or 'Pending'}: its containers are being created"


def wait(
    kubectl: Kubectl,
    namespace: str,
    name: str,
    *,
    timeout: float = 120.0,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Waits until Deployment `name` has rolled out; returns the seconds it took.

    Says each change of what blocks it. Raises RolloutError at the deadline, with the last lines of the log.
    """
    started = clock()
    said = ""
    while True:
        deployment = kubectl.get("deployment", name, "-n", namespace)
        if finished(deployment):
            return clock() - started
        selector = _newest(kubectl, deployment, namespace)
        found = blockers(kubectl.items("pods", "-n", namespace, "-l", selector)) if selector else []
        text_now = "; ".join(found) or _conditions(deployment) or "waiting for the old pods to end"
        if text_now != said:
            said = text_now
            say(f"  {name}: {said}")
        if clock() - started > timeout:
            raise RolloutError(
                f"{namespace}/{name} did not roll out within {timeout:.0f} s: {said}"
                + _log(kubectl, namespace, found)
            )
        sleep(0.5)


def _newest(kubectl: Kubectl, deployment: JSON, namespace: str) -> str:
    """The label selector of the pods of the newest template, or empty while there are none."""
    revision = text(deployment, "metadata", "annotations", "deployment.kubernetes.io/revision")
    labels = deployment["spec"]["selector"]["matchLabels"]  # type: ignore[index]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    for item in kubectl.items("replicasets", "-n", namespace, "-l", selector):
        if text(item, "metadata", "annotations", "deployment.kubernetes.io/revision") == revision:
            return f"{selector},pod-template-hash={text(item, 'metadata', 'labels', 'pod-template-hash')}"
    return ""


def _conditions(deployment: JSON) -> str:
    return "; ".join(
        text(item, "message")
        for item in fields(deployment, "status", "conditions")
        if text(item, "type") == "ReplicaFailure" and text(item, "status") == "True"
    )


def _log(kubectl: Kubectl, namespace: str, found: list[str]) -> str:
    """The end of the log of the first pod that blocks; of its run before this one, if it crashed."""
    pod = found[0].partition(":")[0] if found else ""
    for options in ([f"pod/{pod}", "--previous"], [f"pod/{pod}"]) if pod else ():
        try:
            lines = kubectl.run("logs", *options, "-n", namespace, "--tail=15", timeout=15.0).strip()
        except KubectlError:
            continue
        if lines:
            shown = "\n".join(line[:300] for line in lines.splitlines())
            return f"\nthe end of the log of {pod}:\n{shown}"
    return ""
