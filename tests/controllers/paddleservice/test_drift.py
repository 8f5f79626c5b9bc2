"""Hands on what is ours: drift of a revision is told, a Service is restored."""

import pytest

import controller_runtime as ctrl

from .harness import Harness, condition

pytestmark = pytest.mark.apiserver


async def test_drift_is_told_and_not_repaired(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    revision = (await harness.status())["stableRevision"]
    key = ctrl.Key(harness.namespace, f"resnet50-{revision}")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "other:1"}]}}}}
    await harness.live.patch(ctrl.DEPLOYMENT, key, patch, type="strategic")
    harness.client.writes.clear()
    await harness.once()
    assert harness.client.writes == ["status"]
    status = await harness.status()
    assert condition(status, "Drifted")["status"] == "True"
    assert key.name in str(condition(status, "Drifted")["message"])
    assert status["phase"] == "Ready"


POD = {
    "env": [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "labels": {"team": "vision"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "nodeSelector": {"disk": "fast"},
    "serviceAccountName": "reader",
}
CONTAINER = {"name": "more", "image": "other:1"}


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ({"containers": [{"name": "server", "env": [{"name": "MORE", "value": "1"}]}]}, "env"),
        ({"containers": [{"name": "server", "envFrom": [{"configMapRef": {"name": "c"}}]}]}, "envFrom"),
        ({"containers": [{"name": "server", "args": ["--more"]}]}, "args"),
        (
            {"containers": [{"name": "server", "securityContext": {"privileged": False, "runAsUser": 5}}]},
            "user",
        ),
        ({"containers": [{"name": "server", "ports": [{"containerPort": 1, "name": "more"}]}]}, "port"),
        ({"containers": [CONTAINER]}, "container"),
        ({"initContainers": [CONTAINER]}, "init"),
        ({"volumes": [{"name": "more", "emptyDir": {}}]}, "volume"),
        ({"hostNetwork": True}, "network"),
        ({"hostPID": True}, "pid"),
        ({"priority": 7, "dnsPolicy": "Default"}, "dns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_drift_that_only_adds_is_told_too(harness: Harness, spec: dict[str, object], more: str) -> None:
    await harness.apply(pod=POD)
    await harness.settle()
    status = await harness.status()
    assert not condition(status, "Drifted"), "what the server fills in is no drift"
    key = ctrl.Key(harness.namespace, f"resnet50-{status['stableRevision']}")
    if more == "network":
        ports = [{"containerPort": n, "hostPort": n} for n in (8080, 9000, 8081)]
        spec = spec | {"containers": [{"name": "server", "ports": ports}]}
    await harness.live.patch(ctrl.DEPLOYMENT, key, {"spec": {"template": {"spec": spec}}}, type="strategic")
    await harness.once()
    assert condition(await harness.status(), "Drifted")["status"] == "True"


async def test_what_admission_added_at_creation_is_no_drift(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    key = ctrl.Key(harness.namespace, f"resnet50-{(await harness.status())['stableRevision']}")
    spec = {"volumes": [{"name": "injected", "emptyDir": {}}]}
    first = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}
    patch = first | {"spec": {"template": {"spec": spec}}}
    await harness.live.patch(ctrl.DEPLOYMENT, key, patch, type="strategic")
    await harness.once()
    assert not condition(await harness.status(), "Drifted")


@pytest.mark.parametrize(
    "spec",
    [
        {"ports": [{"op": "add", "path": "/spec/ports/-", "value": {"name": "more", "port": 5432}}]},
        {"ports": [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]},
        {"ports": [{"op": "remove", "path": "/spec/ports/1"}]},
        {"type": [{"op": "replace", "path": "/spec/type", "value": "NodePort"}]},
    ],
    ids=["added", "moved", "removed", "exposed"],
)
async def test_ports_of_a_service_are_restored(harness: Harness, spec: dict[str, object]) -> None:
    await harness.apply()
    await harness.settle()
    before = await harness.live.get_live(ctrl.SERVICE, harness.key)
    (patch,) = spec.values()
    await harness.live.patch(ctrl.SERVICE, harness.key, patch, type="json")  # type: ignore[arg-type]
    await harness.settle()
    after = await harness.live.get_live(ctrl.SERVICE, harness.key)
    assert before is not None
    assert after is not None
    named = {port["name"]: port for port in before.spec["ports"]}
    assert {port["name"]: port for port in after.spec["ports"]} == named
    assert after.spec["type"] == "ClusterIP"


async def test_a_hand_edited_service_is_restored(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    patch = {"spec": {"selector": {"app": "mine"}}}
    await harness.live.patch(ctrl.SERVICE, harness.key, patch, type="merge")
    await harness.settle()
    service = await harness.live.get_live(ctrl.SERVICE, harness.key)
    assert service is not None
    assert "app" not in service.spec["selector"]
    assert harness.client.writes[-1] == "patch resnet50"
