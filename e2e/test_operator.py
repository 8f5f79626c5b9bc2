"""The operator itself on a real node: killed, upgraded and confined."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.fixtures import CONTAINER_SECURITY, POD_SECURITY, Namespace, finished, hack, namespace
from e2e.kube import Kube, condition, metadata_of, status_of, until

pytestmark = pytest.mark.cluster

OPERATOR = "app.kubernetes.io/name=paddle-operator,app.kubernetes.io/component=manager"


def operator_pods(kube: Kube) -> list[str]:
    return [str(metadata_of(pod)["name"]) for pod in kube.list("pods", "paddle-system", OPERATOR)]


def ready(kube: Kube) -> bool:
    found = kube.get("deployment", "paddle-operator", "paddle-system")
    status = status_of(found)
    return bool(found) and status.get("readyReplicas") == 2 and status.get("updatedReplicas") == 2


def deploy(kube: Kube, *options: str) -> None:
    """`make deploy`, and no replica of before is left: one that is told to stop leads until it has."""
    hack(kube, "hack.deploy", "up", *options)
    until(
        lambda: len(operator_pods(kube)) == 2 and ready(kube),
        within=90,
        what=lambda: f"replicas of the operator: {operator_pods(kube)}",
    )


def serving_pods(ns: Namespace) -> set[object]:
    return {metadata_of(pod)["uid"] for pod in ns.pods("serving.paddlepaddle.org/role=server")}


def test_killed_at_any_moment_it_ends_in_the_same_state(
    operator: Kube, ns: Namespace, linear: dict[str, str]
) -> None:
    names = [f"linear-{number}" for number in range(4)]
    for number, name in enumerate(names):
        ns.apply(ns.model(name, linear["v1.0.0"]))
        if number % 2:
            operator.run(
                "-n",
                "paddle-system",
                "delete",
                "pod",
                "-l",
                OPERATOR,
                "--grace-period=0",
                "--force",
                "--wait=false",
            )
    for name in names:
        ns.phase(name, "Ready", within=150)
    services = operator.list("services", ns.name, "serving.paddlepaddle.org/paddle-service")
    deployments = operator.list("deployments", ns.name)
    assert len(deployments) == len(names)
    assert len(services) == 2 * len(names)
    assert len(serving_pods(ns)) == len(names)


def test_network_policies_hold(operator: Kube, served: Namespace, node_tool: str) -> None:
    """Another pod may reach the serving port and not the admin port, where the network enforces policies."""
    ns = served
    policies = operator.list("networkpolicies", ns.name)
    assert policies, "no NetworkPolicy was made for the serving pods"
    (pod,) = ns.pods("serving.paddlepaddle.org/role=server")
    address = status_of(pod)["podIP"]

    def reaches(port: int, path: str) -> bool:
        name = f"probe-{port}"
        ns.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": ns.name},
                "spec": {
                    "restartPolicy": "Never",
                    "securityContext": POD_SECURITY,
                    "containers": [
                        {
                            "name": "probe",
                            "image": node_tool,
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["get", f"http://{address}:{port}{path}"],
                            "securityContext": CONTAINER_SECURITY,
                        }
                    ],
                },
            }
        )
        finished(operator, ns.name, name, within=60)
        return status_of(operator.get("pod", name, ns.name)).get("phase") == "Succeeded"

    assert reaches(8080, "/healthz")
    if reaches(8081, "/livez"):
        pytest.xfail(
            "this cluster's network does not enforce NetworkPolicy: the policies are there, unproven"
        )


@pytest.fixture(scope="module")
def narrowed(operator: Kube, linear: dict[str, str]) -> Iterator[tuple[Namespace, set[object]]]:
    """An operator that was upgraded while a model was served, and has rights in that model's namespace only;
    with the pods of before.
    """
    with namespace(operator, "narrowed") as ns:
        ns.apply(ns.model("linear", linear["v1.0.0"]))
        ns.phase("linear", "Ready", within=90)
        before = serving_pods(ns)
        try:
            image = "localhost/paddle-runtime:another-default"
            deploy(operator, "--runtime-image", image, "--watch-namespaces", ns.name)
            yield ns, before
        finally:
            deploy(operator)


def test_an_upgrade_restarts_no_serving_pod(
    operator: Kube, narrowed: tuple[Namespace, set[object]], linear: dict[str, str]
) -> None:
    ns, before = narrowed
    operator.run("-n", ns.name, "label", "paddlemodel", "linear", "touched=yes")
    ns.apply(ns.model("linear", linear["v1.0.0"], serving={"replicas": 2}))
    ns.phase("linear", "Ready", within=90, generation=2)
    after = serving_pods(ns)
    assert before < after
    assert len(after) == 2
    assert len(operator.list("deployments", ns.name)) == 1


def test_some_namespaces_only_with_roles_only(
    operator: Kube, narrowed: tuple[Namespace, set[object]], ns: Namespace, linear: dict[str, str]
) -> None:
    inside, _ = narrowed
    assert operator.attempt("get", "clusterrolebinding", "paddle-operator").returncode != 0
    for where in (ns, inside):
        where.apply(where.model("other", linear["v1.0.0"], serving={"enabled": False}))
    operator.wait(
        "paddlemodel",
        "other",
        inside.name,
        lambda found: condition(found, "ArtifactResolved").get("status") == "True",
    )
    untouched = operator.get("paddlemodel", "other", ns.name)
    assert untouched is not None
    assert status_of(untouched) == {}
