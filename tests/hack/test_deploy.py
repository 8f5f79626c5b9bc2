"""The operator's manifests as they are rendered, and what is said while they roll out."""

from collections.abc import Iterator

import pytest

from hack.deploy import dry_run, render, rollout
from hack.deploy.kubectl import JSON, Kubectl, documents, field, fields, text


@pytest.fixture(scope="module")
def manifests() -> tuple[list[JSON], list[JSON]]:
    kubectl = Kubectl()
    return kubectl.kustomize(dry_run.CONFIG / "default"), kubectl.kustomize(
        dry_run.CONFIG / "rbac/namespaced"
    )


def operator(objects: list[JSON]) -> JSON:
    return next(item for item in objects if item["kind"] == "Deployment")


def test_all_of_the_operator_is_in_one_namespace(manifests: tuple[list[JSON], list[JSON]]) -> None:
    objects = render.render(*manifests, render.Options())
    spaces = {text(item, "metadata", "namespace") for item in objects}
    assert spaces == {"", "paddle-system"}
    assert {"Namespace", "CustomResourceDefinition", "ClusterRole", "Deployment", "PodDisruptionBudget",
            "NetworkPolicy", "ServiceAccount", "Role"} <= {str(item["kind"]) for item in objects}  # fmt: skip


def test_two_replicas_without_privileges_and_with_probes(manifests: tuple[list[JSON], list[JSON]]) -> None:
    deployment = operator(render.render(*manifests, render.Options()))
    pod = field(deployment, "spec", "template", "spec")
    container = fields(pod, "containers")[0]
    assert field(deployment, "spec", "replicas") == 2
    assert field(pod, "securityContext", "runAsNonRoot") is True
    assert field(container, "securityContext", "readOnlyRootFilesystem") is True
    assert field(container, "securityContext", "capabilities", "drop") == ["ALL"]
    assert {"readinessProbe", "livenessProbe", "startupProbe", "resources"} <= set(container)
    assert not text(container, "image").endswith(":latest")


def test_images_and_flags_are_replaced(manifests: tuple[list[JSON], list[JSON]]) -> None:
    options = render.Options(
        operator_image="o:1",
        runtime_image="r:1",
        minio_endpoint="http://s",
        prometheus="http://p",
        replicas=1,
        arguments=("--x",),
    )
    deployment = operator(render.render(*manifests, options))
    container = fields(deployment, "spec", "template", "spec", "containers")[0]
    arguments = container["args"]
    assert isinstance(arguments, list)
    assert container["image"] == "o:1"
    assert field(deployment, "spec", "replicas") == 1
    assert [a for a in arguments if a.startswith("--runtime-image")] == ["--runtime-image=r:1"]
    assert "--minio-endpoint=http://s" in arguments
    assert "--prometheus=http://p" in arguments
    assert arguments[-1] == "--x"
    assert operator(manifests[0]) != deployment, "the input was changed"


def test_watched_namespaces_get_roles_and_no_cluster_role(manifests: tuple[list[JSON], list[JSON]]) -> None:
    objects = render.render(*manifests, render.Options(watch_namespaces=("a", "b")))
    assert not [item for item in objects if str(item["kind"]).startswith("ClusterRole")]
    for namespace in ("a", "b"):
        kinds = {item["kind"] for item in objects if text(item, "metadata", "namespace") == namespace}
        assert kinds == {"Role", "RoleBinding"}
    container = fields(operator(objects), "spec", "template", "spec", "containers")[0]
    assert "--watch-namespaces=a,b" in container["args"]  # type: ignore[operator]


def test_the_operator_may_not_list_secrets(manifests: tuple[list[JSON], list[JSON]]) -> None:
    rules = [rule for item in manifests[0] if item["kind"] in ("Role", "ClusterRole")
             for rule in fields(item, "rules") if "secrets" in (field(rule, "resources") or [])]  # type: ignore[operator]  # fmt: skip
    for rule in rules:
        verbs = set(field(rule, "verbs") or [])  # type: ignore[call-overload]
        assert not verbs & {"list", "watch", "delete"}
        if verbs != {"get"}:  # its own authority, in its own namespace
            assert field(rule, "resourceNames") == ["paddle-operator-ads"] or verbs == {"create"}
    for item in manifests[0]:
        for rule in fields(item, "rules") if item["kind"] == "ClusterRole" else ():
            assert "secrets" not in str(rule["resources"]) or rule["verbs"] == ["get"]


def test_samples_are_named_after_what_they_are() -> None:
    for path in dry_run.samples():
        assert path.read_text().startswith("# "), f"{path.name} does not say what it is"
        for item in documents(path.read_text()):
            assert text(item, "metadata", "name")


def pod(**status: object) -> JSON:
    return {"metadata": {"name": "p"}, "status": {"phase": "Pending", **status}}


def waiting(reason: str, message: str = "", **more: object) -> JSON:
    return {"name": "c", "state": {"waiting": {"reason": reason, "message": message}}, **more}


CRASHED = {"reason": "OOMKilled", "exitCode": 137}
NOT_READY: JSON = {"name": "c", "ready": False, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"conditions": [{"type": "Ready", "status": "True"}]}, ""),
        ({"containerStatuses": [waiting("ImagePullBackOff", "no x:1")]}, "c: ImagePullBackOff (no x:1)"),
        ({"initContainerStatuses": [waiting("ErrImageNeverPull")]}, "c: ErrImageNeverPull"),
        (
            {"containerStatuses": [waiting("CrashLoopBackOff", lastState={"terminated": CRASHED})]},
            "c: crashes again and again (OOMKilled, exit code 137)",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
            "not scheduled: 0/1 nodes",
        ),
        (
            {"containerStatuses": [waiting("ContainerCreating")]},
            "Pending: its containers are being created",
        ),
        ({"phase": "Running", "containerStatuses": [NOT_READY]}, "c: runs, but is not ready yet"),
    ],
)
def test_what_blocks_a_pod_is_one_line(status: JSON, said: str) -> None:
    assert rollout.blockers([pod(**status)]) == ([f"p: {said}"] if said else [])


def deployment(**status: object) -> JSON:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}},
            "status": status}  # fmt: skip


def test_a_rollout_ends_when_only_new_pods_are_left() -> None:
    done = {"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}
    assert rollout.finished(deployment(**done))
    for changed in (
        {"observedGeneration": 1},
        {"replicas": 3},
        {"availableReplicas": 1},
        {"updatedReplicas": 1},
    ):
        assert not rollout.finished(deployment(**(done | changed)))


class Stuck:
    """A cluster whose Deployment never gets a pod."""

    def get(self, *arguments: str) -> JSON:
        conditions = [{"type": "ReplicaFailure", "status": "True", "message": "quota exceeded"}]
        return deployment(observedGeneration=2, conditions=conditions)

    def items(self, *arguments: str) -> list[JSON]:
        return []

    def run(self, *arguments: str, timeout: float = 0.0) -> str:
        return ""


def test_waiting_ends_at_the_deadline_and_says_why() -> None:
    clock: Iterator[float] = iter(range(0, 1000, 40))
    said: list[str] = []
    with pytest.raises(rollout.RolloutError, match=r"n/d did not roll out within 120 s: quota exceeded"):
        rollout.wait(Stuck(), "n", "d", say=said.append, clock=lambda: next(clock), sleep=lambda _: None)  # type: ignore[arg-type]
    assert said == ["  d: quota exceeded"]


@pytest.mark.apiserver
def test_a_real_api_server_takes_every_manifest() -> None:
    said: list[str] = []
    assert dry_run.run(said.append) == 0, said
