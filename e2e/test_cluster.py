"""The cluster itself: what every other end-to-end test takes for granted."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.conftest import kubectl
from hack.cluster import paths

pytestmark = pytest.mark.cluster

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 1001, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: web
    image: IMAGE
    imagePullPolicy: IfNotPresent
    args: [serve, "8080"]
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""
GREEDY = """
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: greedy
    image: IMAGE
    imagePullPolicy: IfNotPresent
    args: [eat, "256"]
    resources: {requests: {memory: 32Mi}, limits: {memory: 32Mi}}
"""

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def web(cluster: Path, node_tool: str) -> Iterator[Kubectl]:
    """kubectl in a namespace of its own where pod and Service ``web`` are ready."""
    name = f"e2e-cluster-{secrets.token_hex(3)}"
    kubectl(cluster, ["create", "namespace", name])

    def here(*arguments: str, timeout: float = 60.0, stdin: str = "") -> str:
        return kubectl(cluster, ["--namespace", name, *arguments], timeout=timeout, stdin=stdin)

    here("apply", "--filename=-", stdin=POD.replace("IMAGE", node_tool))
    here("wait", "--for=condition=Ready", "pod/web", "--timeout=60s", timeout=90.0)
    yield here
    kubectl(cluster, ["delete", "namespace", name, "--wait=false"])


def test_a_labelled_node_is_ready(cluster: Path) -> None:
    nodes = json.loads(
        kubectl(cluster, ["get", "nodes", f"--selector={paths.NODE_LABEL}=true", "--output=json"])
    )
    ready = [
        condition["status"]
        for node in nodes["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    assert ready
    assert set(ready) == {"True"}


def test_clients_see_the_real_version(cluster: Path) -> None:
    version = json.loads(kubectl(cluster, ["get", "--raw=/version"]))
    assert int(version["minor"].rstrip("+")) >= 30


def test_logs_and_exec_reach_the_pod(web: Kubectl) -> None:
    assert web("logs", "pod/web") == "serving on port 8080\n"
    assert web("exec", "pod/web", "--", "/nodetool", "say", "from", "inside") == "from inside\n"


def test_names_resolve_in_pods(web: Kubectl) -> None:
    address = web("get", "service", "web", "--output=jsonpath={.spec.clusterIP}")
    namespace = web("get", "pod", "web", "--output=jsonpath={.metadata.namespace}")
    assert web("exec", "web", "--", "/nodetool", "resolve", f"web.{namespace}.svc").strip() == address
    assert web("exec", "web", "--", "/nodetool", "resolve", "kubernetes.default.svc.cluster.local").strip()


def test_a_service_is_reached_by_its_cluster_ip_even_from_its_own_pod(web: Kubectl) -> None:
    address = web("get", "service", "web", "--output=jsonpath={.spec.clusterIP}")
    deadline = time.monotonic() + 30.0  # the rules in the node's kernel follow the ready pod by a beat
    while True:
        try:
            assert web("exec", "web", "--", "/nodetool", "get", f"http://{address}/a") == "web /a\n"
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def test_port_forward(web: Kubectl, cluster: Path) -> None:
    namespace = web("get", "pod", "web", "--output=jsonpath={.metadata.namespace}")
    command = [str(paths.kubectl()), "--kubeconfig", str(cluster), "--namespace", namespace]
    command += ["port-forward", "--address=127.0.0.1", "pod/web", ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split(" -> ")[0].rsplit(":", 1)[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/b", timeout=10.0) as answer:
                assert answer.read() == b"web /b\n"
        finally:
            process.terminate()


def test_an_out_of_memory_kill_is_told(web: Kubectl, node_tool: str) -> None:
    web("apply", "--filename=-", stdin=GREEDY.replace("IMAGE", node_tool))
    path = "--output=jsonpath={.status.containerStatuses[0].state.terminated.reason}"
    deadline = time.monotonic() + 60.0
    while not (reason := web("get", "pod", "greedy", path)):
        assert time.monotonic() < deadline, web("describe", "pod", "greedy")
    assert reason == "OOMKilled"
