"""Routers on a real cluster: real Envoys in pods, real tokens and rights, a leader that goes and comes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controllers.kinds import LABEL_REVISION
from controllers.resources.meta import labels
from controllers.resources.router import NAME, SNAPSHOT, selector
from e2e.fixtures import CONTAINER_SECURITY, POD_SECURITY, ROOT, Namespace
from e2e.kube import Kube, metadata_of, status_of, until
from hack.images import build, names

pytestmark = pytest.mark.cluster

SERVICE, UID, PORT = "ocr", "11111111-1111-1111-1111-111111111111", 20000
AGENT = (Path(__file__).parent / "traffic_agent.py").read_text()


def pod(namespace: str, name: str, image: str, command: list[str], **more: object) -> dict[str, object]:
    fields = {"POD_IP": "status.podIP", "POD_NAMESPACE": "metadata.namespace"}
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": more.pop("labels", {"app": name})},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "securityContext": POD_SECURITY,
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "env": env,
                    "ports": more.pop("ports", [{"name": "http", "containerPort": 8000}]),
                    "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
                    "securityContext": CONTAINER_SECURITY,
                }
            ],
            **more,
        },
    }


def service(
    namespace: str, name: str, chosen: dict[str, str], ports: list[dict[str, object]], own: dict[str, str]
) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": own},
        "spec": {"selector": chosen, "ports": ports},
    }


def backend(namespace: str, revision: str, tool: str) -> list[dict[str, object]]:
    """A pod of a revision, and the revision's Service as the operator makes it."""
    chosen = labels(SERVICE, revision)
    one = pod(
        namespace, f"{SERVICE}-{revision}-0", tool, ["/nodetool", "serve", "8080"], labels=chosen,
        ports=[{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}],
        automountServiceAccountToken=False,
    )  # fmt: skip
    ports: list[dict[str, object]] = [
        {"name": "http", "port": 8080, "targetPort": "http"},
        {"name": "grpc", "port": 9000, "targetPort": "grpc"},
    ]
    key = {name: value for name, value in chosen.items() if "paddlepaddle" in name}
    assert key[LABEL_REVISION] == revision
    return [one, service(namespace, f"{SERVICE}-{revision}", key, ports, chosen)]


def rights(namespace: str) -> list[dict[str, object]]:
    """The operator's generated rights, for the service account of `namespace`."""
    found: list[dict[str, object]] = []
    for path in ("common/service_account", "common/traffic", "cluster/role", "cluster/role_binding"):
        text = (ROOT / f"config/rbac/{path}.yaml").read_text().replace("paddle-system", namespace)
        for document in yaml.safe_load_all(text):
            if document["kind"].startswith("Cluster"):
                document["metadata"]["name"] = namespace
            if document["kind"] == "ClusterRoleBinding":
                document["roleRef"]["name"] = namespace
            found.append(document)
    (ads,) = yaml.safe_load_all((ROOT / "config/manager/ads_service.yaml").read_text())
    ads["metadata"]["namespace"] = namespace
    return [*found, ads]


class World:
    """A namespace of an operator that only routes, beside the one that it routes in."""

    def __init__(self, kube: Kube, ns: Namespace) -> None:
        self.kube, self.ns, self.operator = kube, ns, f"{ns.name}-op"

    def lead(self) -> None:
        command = ["python", "-P", "-c", AGENT, "lead", build.pinned(names.ROUTER)]
        image = build.pinned(names.OPERATOR)
        self.kube.apply(pod(self.operator, "leader", image, command, serviceAccountName="paddle-operator"))

    def ready(self, namespace: str, name: str) -> None:
        def holds(found: dict[str, object]) -> bool:
            listed = status_of(found).get("conditions") or []
            assert isinstance(listed, list)
            return any(item["type"] == "Ready" and item["status"] == "True" for item in listed)

        self.kube.wait("pod", name, namespace, holds)

    def post(self, namespace: str, name: str, path: str, body: object) -> str:
        uri = f"/api/v1/namespaces/{namespace}/pods/{name}:8000/proxy{path}"
        return self.kube.run("create", "--raw", uri, "-f", "-", stdin=json.dumps(body))

    def split(self, change: int, weight: int = 0) -> None:
        """Handed to the leader, and verified."""
        split: dict[str, object] = {"change": change, "port": PORT, "stable": {"revision": "aaaa"}}
        if weight:
            split |= {"candidate": {"revision": "bbbb"}, "weight": weight}
        body = {"namespace": self.ns.name, "service": SERVICE, "uid": UID, "split": split}
        answer = json.loads(self.post(self.operator, "leader", "/apply", body))
        assert answer["verdict"] == "Verified", answer

    def load(self, rate: float) -> None:
        url = f"http://{SERVICE}.{self.ns.name}.svc/predict"
        self.post(self.operator, "load", "/load", {"url": url, "rate": rate})

    def counted(self, least: int) -> dict[str, int]:
        """What came of the load since it began, once there are `least` answers."""
        found: dict[str, int] = {}

        def enough() -> bool:
            uri = f"/api/v1/namespaces/{self.operator}/pods/load:8000/proxy/load"
            found.clear()
            found.update(json.loads(self.kube.run("get", "--raw", uri)))
            return sum(found.values()) >= least

        until(enough, within=60.0, what=lambda: f"{least} answers, got {found}")
        return found

    def routers(self) -> list[dict[str, object]]:
        chosen = ",".join(f"{name}={value}" for name, value in selector().items())
        return [item for item in self.ns.pods(chosen) if "deletionTimestamp" not in metadata_of(item)]

    def all_ready(self) -> None:
        def holds(found: dict[str, object]) -> bool:
            status = status_of(found)
            return status.get("readyReplicas") == status.get("replicas") == 2

        self.kube.wait("deployment", NAME, self.ns.name, holds)


@pytest.fixture
def world(kube: Kube, ns: Namespace, node_tool: str) -> Iterator[World]:
    found = World(kube, ns)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found.operator}})
    kube.apply(*rights(found.operator))
    ports: list[dict[str, object]] = [{"name": "http", "port": 80, "targetPort": PORT}]
    kube.apply(
        *backend(ns.name, "aaaa", node_tool),
        *backend(ns.name, "bbbb", node_tool),
        service(ns.name, SERVICE, selector(), ports, labels(SERVICE)),
        pod(found.operator, "load", build.pinned(names.OPERATOR), ["python", "-P", "-c", AGENT, "load"]),
    )
    found.lead()
    yield found
    kube.attempt("delete", "clusterrole,clusterrolebinding", found.operator)
    kube.attempt("delete", "namespace", found.operator, "--wait=false")


def test_weights_a_new_leader_and_a_router_that_starts_without_one(world: World) -> None:
    for namespace, name in (
        (world.operator, "leader"),
        (world.operator, "load"),
        (world.ns.name, "ocr-bbbb-0"),
    ):
        world.ready(namespace, name)
    world.split(1)
    world.all_ready()

    def reached() -> bool:
        """The Service's way to the routers has to be there first. On new connections: one that came in the
        first moment may be answered with 404 as long as it is kept.
        """
        world.load(rate=20.0)
        return "aaaa" in world.counted(5)

    until(reached, within=30.0, what=lambda: str(world.counted(1)))
    world.load(rate=60.0)
    assert set(world.counted(60)) == {"aaaa"}

    world.split(2, weight=30)
    world.load(rate=120.0)
    found = world.counted(360)
    total = found["aaaa"] + found["bbbb"]
    assert set(found) == {"aaaa", "bbbb"}, found
    assert abs(found["bbbb"] - 0.3 * total) <= 3 * math.sqrt(total * 0.3 * 0.7), found

    # Nobody leads, and a router goes: the one that takes its place serves what was confirmed last.
    world.kube.wait("configmap", SNAPSHOT, world.ns.name, lambda found: True)
    world.kube.run("-n", world.operator, "delete", "pod", "leader", "--grace-period=1")
    gone = str(metadata_of(world.routers()[0])["name"])
    world.kube.run("-n", world.ns.name, "delete", "pod", gone, "--wait=false")
    world.all_ready()
    fresh = [str(metadata_of(item)["name"]) for item in world.routers()]
    assert gone not in fresh
    said = "".join(world.kube.run("-n", world.ns.name, "logs", name) for name in fresh)
    assert "serving what was confirmed last" in said

    # A leader comes back: both routers follow it, and nobody has noticed anything.
    world.lead()
    world.ready(world.operator, "leader")
    world.split(3)
    found = world.counted(360)
    assert set(found) == {"aaaa", "bbbb"}, found
    world.load(rate=60.0)
    assert set(world.counted(60)) == {"aaaa"}
