"""The objects of a service: what they say, and that an API server takes them as they are."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import yaml

import controller_runtime as ctrl
from artifacts import load_config
from controller_runtime.testing import Envtest
from controllers.resources.compare import is_part
from controllers.resources.config import config_map, config_text
from controllers.resources.deployment import deployment
from controllers.resources.desired import Desired, Model, Settings, decode, pin, pinned_by, requests, settings
from controllers.resources.meta import Owner, Rendered, selector
from controllers.resources.pod import pod_template, resources
from controllers.resources.service import disruption_budget, main_service, network_policy, revision_service
from controllers.resources.wire import at, maps, text

OWNER = Owner("default", "resnet50", "owner-uid")
DIGEST = "sha256:" + "ab" * 32
S3 = {
    "scheme": "s3",
    "endpoint": "http://store:8333",
    "bucket": "models",
    "pathStyle": True,
    "archive": "none",
    "files": [{"key": "r/m.json", "path": "m.json", "size": 10, "etag": "e", "sha256": "ab" * 32}],
}
MODEL = Model(name="resnet50", model="resnet50", uid="u-1", version="v1.0.0", digest=DIGEST, source=S3)
FULL = Desired(
    models=(
        replace(MODEL, secret="keys", ca_secret="ca", latency_sla=200, priority=7),
        Model(
            name="onnx",
            uid="u-2",
            version="v2.0.0",
            framework="onnx",
            source={"scheme": "pvc", "claim": "disk", "root": "/mnt/pvc/disk/m"},
            checksum="sha256:" + "cd" * 32,
            inputs=({"name": "x", "datatype": "FP32", "shape": [-1, 3]},),
            warm_up={"runs": 5, "batchSizes": [1, 4], "timeoutSeconds": 9},
        ),
        Model(name="baked", uid="u-3", version="v1.0.0", source={"scheme": "file", "root": "/opt/m"}),
    ),
    engine="onednn",
    workers=2,
    threads=3,
    resources={"requests": {"cpu": "3"}},
    gpu={"count": 2, "resourceName": "nvidia.com/gpu"},
    warm_up={"samples": [{"inputs": {"x": [[0.0]]}}]},
    pod={
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "serviceAccountName": "server",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "system-cluster-critical",
        "env": [{"name": "MINE", "value": "1"}, {"name": "POD_NAME", "value": "forged"}],
        "labels": {"team": "vision", "app.kubernetes.io/managed-by": "me"},
        "annotations": {"note": "x"},
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
    },
)


PLAIN = Desired(models=(MODEL,))


def template(desired: Desired = PLAIN) -> Mapping[str, object]:
    return pod_template(OWNER, desired, "abcd1234", image="runtime:1", pull_policy="IfNotPresent")


def containers(body: Mapping[str, object]) -> list[Mapping[str, object]]:
    spec = body["spec"]
    return [*maps(at(spec, "initContainers")), *maps(at(spec, "containers"))]


@pytest.mark.parametrize("desired", [Desired(models=(MODEL,)), FULL])
def test_every_container_is_restricted(desired: Desired) -> None:
    body = template(desired)
    assert at(body, "spec", "securityContext", "runAsNonRoot") is True
    assert at(body, "spec", "securityContext", "seccompProfile", "type") == "RuntimeDefault"
    assert at(body, "spec", "automountServiceAccountToken") is False
    assert [item["name"] for item in containers(body)] == ["pull", "server"]
    for item in containers(body):
        assert at(item, "securityContext", "readOnlyRootFilesystem") is True
        assert at(item, "securityContext", "allowPrivilegeEscalation") is False
        assert at(item, "securityContext", "capabilities", "drop") == ["ALL"]
        assert at(item, "resources", "limits", "memory")
        assert item["image"] == "runtime:1"


def test_models_yaml_is_what_the_pod_reads_back() -> None:
    desired = replace(FULL, models=FULL.models[:2])
    state = load_config(config_text(OWNER, desired, "abcd1234"))
    assert (state.service, state.namespace, state.revision) == ("resnet50", "default", "abcd1234")
    first, second = state.models
    assert first.digest == DIGEST
    assert first.source.files[0].sha256 == "ab" * 32
    assert first.credentials_env == "MODEL_0"
    assert first.ca_file == "/etc/paddle/ca/0/ca.crt"
    assert first.latency_sla_milliseconds == 200
    assert first.priority == 7
    assert first.warm_up is not None
    assert first.warm_up.samples == ({"inputs": {"x": [[0.0]]}},)
    assert second.framework == "onnx"
    assert second.source.root == "/mnt/pvc/disk/m"
    assert second.checksum == "cd" * 32
    assert second.inputs[0].shape == (-1, 3)
    assert second.warm_up is not None
    assert second.warm_up.batch_sizes == (1, 4)
    assert (second.engine, second.workers, second.threads) == ("onednn", 2, 3)


def test_secrets_come_by_reference_only() -> None:
    pull, server = containers(template(FULL))
    for item in (pull, server):
        assert item["envFrom"] == [{"prefix": "MODEL_0_", "secretRef": {"name": "keys"}}]
    volumes = {item["name"]: item for item in maps(at(template(FULL), "spec", "volumes"))}
    sources = list(maps(at(volumes["config"], "projected", "sources")))
    assert sources[1] == {"secret": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca/0/ca.crt"}]}}
    assert volumes["claim-0"]["persistentVolumeClaim"] == {"claimName": "disk", "readOnly": True}
    mounts = {item["mountPath"]: item for item in maps(server["volumeMounts"])}
    assert mounts["/mnt/pvc/disk"]["readOnly"] is True


def test_containers_are_told_where_each_model_lies() -> None:
    for item in containers(template()):
        told = {entry["name"]: entry.get("value") for entry in maps(item["env"])}
        assert told["PADDLE_MODEL_0_DIR"] == f"/models/{MODEL.uid}"


def test_the_user_adds_to_the_pod_but_takes_nothing_over() -> None:
    body = template(FULL)
    labels = at(body, "metadata", "labels")
    assert at(labels, "team") == "vision"
    assert at(labels, "app.kubernetes.io/managed-by") == "paddle-operator"
    assert at(body, "metadata", "annotations", "note") == "x"
    spec = body["spec"]
    for name in ("nodeSelector", "tolerations", "affinity", "serviceAccountName", "imagePullSecrets"):
        assert at(spec, name) == FULL.pod[name]
    spread = next(maps(at(spec, "topologySpreadConstraints")))
    assert at(spread, "labelSelector", "matchLabels") == selector("resnet50", "abcd1234")
    server = containers(body)[1]
    environment = {text(item.get("name")): item for item in maps(server["env"])}
    assert environment["MINE"]["value"] == "1"
    assert "valueFrom" in environment["POD_NAME"]


def test_defaults_never_contradict_what_the_user_gave() -> None:
    plain = resources(Desired(models=()))
    assert plain == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }
    small = resources(Desired(models=(), resources={"limits": {"cpu": "100m", "memory": "64Mi"}}))
    assert small["requests"] == {"cpu": "100m", "memory": "64Mi"}
    large = resources(Desired(models=(), resources={"requests": {"cpu": 4, "memory": "8Gi"}}))
    assert large["limits"] == {"cpu": 4, "memory": "8Gi"}


def test_only_the_server_gets_devices() -> None:
    pull, server = containers(template(FULL))
    assert at(server, "resources", "limits", "nvidia.com/gpu") == "2"
    assert at(pull, "resources", "limits", "nvidia.com/gpu") is None


def every(desired: Desired) -> list[Rendered]:
    made = deployment(
        OWNER,
        desired,
        "abcd1234",
        image="runtime:1",
        pull_policy="IfNotPresent",
        replicas=2,
        identity="{}",
        hash_version=1,
        models="[]",
    )
    return [
        config_map(OWNER, desired, "abcd1234"),
        main_service(OWNER),
        revision_service(OWNER, "abcd1234"),
        made,
        disruption_budget(OWNER),
        network_policy(OWNER),
    ]


@pytest.mark.apiserver
@pytest.mark.parametrize("desired", [Desired(models=(MODEL,)), FULL], ids=["plain", "full"])
async def test_the_api_server_takes_them_and_keeps_all_we_said(
    apiserver: Envtest, namespace: str, desired: Desired
) -> None:
    """Also that a namespace that enforces the Pod Security level "restricted" lets the pods in."""
    async with apiserver.client() as client:
        enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        await client.patch(ctrl.NAMESPACE, ctrl.Key("", namespace), enforce)
        for wanted in every(desired):
            body = yaml.safe_load(yaml.safe_dump(wanted.body))
            body["metadata"] |= {"namespace": namespace}
            live = await client.create(body)
            assert is_part(body, live.raw), wanted.kind
            assert live.controller_uid == OWNER.uid
        body = dict(template(replace(desired, pod={**desired.pod, "priorityClassName": ""})))
        metadata = dict(body["metadata"], name="pod", namespace=namespace)  # type: ignore[call-overload]
        pod = await client.create({"apiVersion": "v1", "kind": "Pod"} | body | {"metadata": metadata})
        assert pod.uid


def test_a_models_block_that_a_paddle_model_gives() -> None:
    model = {
        "metadata": {"name": "resnet50", "uid": "u-1", "generation": 3},
        "spec": {
            "framework": "paddle",
            "version": "v1.0.0",
            "storage": {"secretRef": {"name": "keys"}, "caSecretRef": {"name": "ca"}},
        },
        "status": {"artifact": {"version": "v1.0.0", "digest": DIGEST, "resolved": S3}},
    }
    request = requests({"models": [{"name": "m", "modelRef": {"name": "resnet50"}, "priority": 3}]})[0]
    block = pinned_by(model)
    assert block is not None
    made = pin(request, block)
    assert (made.name, made.model, made.uid, made.version) == ("m", "resnet50", "u-1", "v1.0.0")
    assert (made.secret, made.ca_secret, made.priority) == ("keys", "ca", 3)
    assert pinned_by(model | {"spec": {"version": "v1.0.1"}}) is None
    assert pinned_by(model | {"status": {}}) is None
    flat = pinned_by(model | {"spec": {"version": "v1.0.0", "secretRef": {"name": "flat"}}})
    assert flat is not None
    assert at(flat, "secretRef", "name") == "flat"


def test_settings_and_their_defaults() -> None:
    assert settings({}) == Settings()
    assert settings({"autoscaling": {"minReplicas": 3}}).replicas == 3
    assert settings({"replicas": 0}).replicas == 0
    given = settings(
        {
            "replicas": 2,
            "progressDeadlineSeconds": 30,
            "revisionHistoryLimit": 1,
            "updateStrategy": {
                "type": "Recreate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": True},
            },
        }
    )
    assert (given.replicas, given.progress_deadline, given.history_limit) == (2, 30.0, 1)
    assert (given.strategy.type, given.strategy.max_surge, given.strategy.max_unavailable) == (
        "Recreate",
        "25%",
        0,
    )
    assert decode({"runtime": {"image": "x", "workers": 2}}, ()).workers == 2
