"""What goes wrong around a canary: the operator, Prometheus and pods, killed, frozen, gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.kube import Kube, metadata_of, spec_of, status_of, until
from hack.cluster import host, node, paths
from hack.cluster import processes as processes_of_node

SYSTEM = "paddle-system"
OPERATOR = "app.kubernetes.io/name=paddle-operator,app.kubernetes.io/component=manager"
LEASE = "paddle-operator"


def leader(kube: Kube) -> str:
    """The pod that leads; "" when nobody does."""
    lease = kube.get("lease", LEASE, SYSTEM)
    holder = str(spec_of(lease).get("holderIdentity") or "") if lease else ""
    for pod in kube.list("pods", SYSTEM, OPERATOR):
        name = str(metadata_of(pod)["name"])
        if name in holder:
            return name
    return ""


def processes(uid: str) -> list[int]:
    """Processes of a pod's containers on this host; none where the node is elsewhere."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                cgroup, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if (uid in cgroup or uid.replace("-", "_") in cgroup) and b"pause" not in command.split(b"\0")[0]:
                found.append(int(folder.name))
    return found


def send(kube: Kube, namespace: str, pod: str, number: signal.Signals) -> None:
    """A signal to every process of a pod."""
    found = kube.get("pod", pod, namespace)
    assert found is not None, f"pod {pod} is gone"
    victims = processes(str(metadata_of(found)["uid"]))
    assert victims, f"pod {pod} has no process on this host: the fault runs need the node here (CLUSTER=node)"
    for victim in victims:
        os.kill(victim, number)


def kill(kube: Kube, namespace: str, pod: str) -> None:
    """SIGKILL, and the pod goes too: its successor waits for no back-off of the kubelet."""
    send(kube, namespace, pod, signal.SIGKILL)
    kube.attempt("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


def kill_operator(kube: Kube) -> str:
    """SIGKILL to the leader; its name."""
    name = str(until(lambda: leader(kube), within=60, what=lambda: "nobody leads"))
    kill(kube, SYSTEM, name)
    return name


@contextmanager
def frozen(kube: Kube, pod: str) -> Iterator[None]:
    """SIGSTOP to the operator's pod for as long as the block lasts. It may have been replaced meanwhile."""
    send(kube, SYSTEM, pod, signal.SIGSTOP)
    try:
        yield
    finally:
        if kube.get("pod", pod, SYSTEM) is not None:
            send(kube, SYSTEM, pod, signal.SIGCONT)


def operator_ready(kube: Kube) -> None:
    """Both replicas again."""

    def holds() -> bool:
        return status_of(kube.get("deployment", "paddle-operator", SYSTEM)).get("readyReplicas") == 2

    until(holds, within=120, what=lambda: "the operator has not 2 ready replicas")


@contextmanager
def without_prometheus(kube: Kube) -> Iterator[None]:
    """Prometheus scaled to 0 for as long as the block lasts."""
    target = ("-n", "paddle-monitoring", "scale", "deployment/prometheus")
    kube.run(*target, "--replicas=0")
    try:
        until(
            lambda: not kube.list("pods", "paddle-monitoring", "app.kubernetes.io/name=prometheus"),
            within=60,
            what=lambda: "Prometheus is still there",
        )
        yield
    finally:
        kube.run(*target, "--replicas=1")
        ready = ("rollout", "status", "deployment/prometheus", "--timeout=90s")
        kube.run("-n", "paddle-monitoring", *ready, timeout=100)


@contextmanager
def without_api_server(kube: Kube) -> Iterator[None]:
    """SIGKILL to the API server, which comes back after the block."""
    process = processes_of_node.load(node.RUNNING).get("kube-apiserver")
    assert process is not None, "the API server is not on this host: the fault runs need the node here"
    command = Path(f"/proc/{process.pid}/cmdline").read_text().rstrip("\0").split("\0")
    os.kill(process.pid, signal.SIGKILL)
    try:
        until(lambda: not process.is_alive(), within=30, what=lambda: "the API server does not end")
        yield
    finally:
        log = paths.LOG / "kube-apiserver.log"
        again = processes_of_node.spawn(command, log=log, groups=host.make_cgroups())
        running = processes_of_node.load(node.RUNNING)
        processes_of_node.save(node.RUNNING, running | {"kube-apiserver": again})

        def answers() -> bool:
            return kube.attempt("get", "--raw=/readyz", "--request-timeout=5s").returncode == 0

        until(answers, within=120, what=lambda: "the API server does not come back")
