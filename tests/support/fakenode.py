"""Plays the Deployment controller and the kubelet where there is neither (an API server alone).

`step` does one turn: pods are made and deleted to match the Deployments, every pod gets the state that
`behave` gives it, and the Deployments' status follows. Nothing happens between steps, so a test sees every
state in between.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import controller_runtime as ctrl

REVISION = "serving.paddlepaddle.org/revision"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(*, ready: bool, ip: str = "10.0.0.1", pulled: str = "") -> dict[str, object]:
    """A pod whose init container is done and whose server runs."""
    ended: dict[str, object] = {"exitCode": 0, "reason": "Completed", "message": pulled}
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": _now()},
        ],
        "initContainerStatuses": [container("pull", state={"terminated": ended}, ready=True)],
        "containerStatuses": [container("server", state={"running": {}}, ready=ready)],
    }


def pulling(*, ip: str = "10.0.0.1") -> dict[str, object]:
    """A pod whose init container runs."""
    return {
        "phase": "Pending",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [container("pull", state={"running": {}})],
    }


def waiting(reason: str, message: str, *, name: str = "server") -> dict[str, object]:
    part = "initContainerStatuses" if name == "pull" else "containerStatuses"
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", part: [container(name, state=state)]}


def crashed(
    *, name: str = "server", code: int = 1, message: str = "", reason: str = "Error", restarts: int = 3
) -> dict[str, object]:
    part = "initContainerStatuses" if name == "pull" else "containerStatuses"
    ended = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    return {"phase": "Running", part: [container(name, state=state, last=ended, restarts=restarts)]}


def unschedulable(message: str) -> dict[str, object]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def failed_pull(reason: str, message: str) -> dict[str, object]:
    text = json.dumps({"result": "failed", "reason": reason, "message": message, "models": []})
    return crashed(name="pull", message=text)


def container(
    name: str,
    *,
    state: Mapping[str, object],
    ready: bool = False,
    last: Mapping[str, object] | None = None,
    restarts: int = 0,
) -> dict[str, object]:
    return {
        "name": name,
        "image": "paddle-runtime:dev",
        "imageID": "",
        "ready": ready,
        "restartCount": restarts,
        "state": dict(state),
        "lastState": dict(last or {}),
    }


Behaviour = Callable[[ctrl.Object], Mapping[str, object]]


def serve(pod: ctrl.Object) -> Mapping[str, object]:
    """Every pod becomes ready at once."""
    return running(ready=True)


@dataclass
class FakeNode:
    client: ctrl.Client
    namespace: str
    behave: Behaviour = serve
    #: Pods that end take one more step to be gone, as a draining server does.
    linger: bool = True
    #: Pods whose node died: asked to end, they stay.
    dead: set[str] = field(default_factory=set)
    _made: int = 0
    _states: dict[str, str] = field(default_factory=dict)

    async def step(self) -> bool:
        """One turn. True if anything changed."""
        changed = False
        pods = await self.client.list_live(ctrl.POD, namespace=self.namespace)
        for pod in pods:
            if pod.deleting and pod.name not in self.dead:
                await self._remove(pod)
                changed = True
        deployments = await self.client.list_live(ctrl.DEPLOYMENT, namespace=self.namespace)
        names = {item.uid for item in deployments}
        for pod in pods:
            if not pod.deleting and pod.controller_uid and pod.controller_uid not in names:
                await self._remove(pod)  # the garbage collector
                changed = True
        for deployment in deployments:
            mine = [
                pod
                for pod in pods
                if pod.controller_uid == deployment.uid and not pod.deleting and not _ended(pod)
            ]
            changed |= await self._sync(deployment, mine)
        return changed

    async def end(self, pod: ctrl.Object, phase: str, reason: str, message: str = "") -> None:
        """A pod that is over and stays, as after an eviction or the shutdown of its node."""
        state = {"phase": phase, "reason": reason, "message": message, "conditions": None}
        await self._status(ctrl.POD, pod.key, state)

    async def _sync(self, deployment: ctrl.Object, pods: list[ctrl.Object]) -> bool:
        changed = False
        wanted = deployment.spec["replicas"]
        pods.sort(key=lambda pod: (not _ready(pod), pod.name))
        for pod in pods[wanted:]:
            await self._end(pod)
            changed = True
        pods = pods[:wanted]
        while len(pods) < wanted:
            pods.append(await self._make(deployment))
            changed = True
        ready = 0
        for pod in pods:
            state = self.behave(pod)
            if self._states.get(pod.uid) != _told(state):
                self._states[pod.uid] = _told(state)
                changed = True
                await self._status(ctrl.POD, pod.key, state)
            ready += any(
                item.get("type") == "Ready" and item.get("status") == "True"
                for item in state.get("conditions", ())  # type: ignore[attr-defined]
            )
        status = {
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": len(pods) - ready,
            "observedGeneration": deployment.generation,
        }
        before = {key: deployment.status.get(key, 0) for key in status}
        if before != status:
            await self._status(ctrl.DEPLOYMENT, deployment.key, status)
            changed = True
        return changed

    async def _make(self, deployment: ctrl.Object) -> ctrl.Object:
        self._made += 1
        template = deployment.spec["template"]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{deployment.name}-{self._made}",
                "namespace": self.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [ctrl.owner_reference(deployment, block=False)],
            },
            # Without a node the server deletes a pod at once, whatever its grace period.
            "spec": template["spec"] | {"nodeName": "fake"},
        }
        pod = await self.client.create(body)
        return pod

    async def _end(self, pod: ctrl.Object) -> None:
        path = ctrl.POD.path(*pod.key)
        grace = 30 if self.linger else 0
        await self.client.request("DELETE", path, body={"gracePeriodSeconds": grace})

    async def _remove(self, pod: ctrl.Object) -> None:
        await self.client.request("DELETE", ctrl.POD.path(*pod.key), body={"gracePeriodSeconds": 0})

    async def _status(self, kind: ctrl.Kind, key: ctrl.Key, status: Mapping[str, object]) -> None:
        await self.client.patch(kind, key, {"status": dict(status)}, type="merge", subresource="status")


def _ready(pod: ctrl.Object) -> bool:
    return any(
        item.get("type") == "Ready" and item.get("status") == "True"
        for item in pod.status.get("conditions", ())
    )


def _ended(pod: ctrl.Object) -> bool:
    return pod.status.get("phase") in ("Failed", "Succeeded")


def _told(status: Mapping[str, object]) -> str:
    """A pod's state without its times, for comparison."""

    def clean(value: object) -> object:
        if isinstance(value, Mapping):
            return {
                k: clean(v)
                for k, v in value.items()
                if k not in ("lastTransitionTime", "startedAt", "finishedAt")
            }
        if isinstance(value, list):
            return [clean(item) for item in value]
        return value

    keys = ("phase", "podIP", "conditions", "initContainerStatuses", "containerStatuses")
    return json.dumps({key: clean(status.get(key)) for key in keys if status.get(key)}, sort_keys=True)
