"""The CRDs on a real API server: what it refuses, with which words, and what it fills in."""

from __future__ import annotations

from typing import Any

import pytest

import controller_runtime as ctrl

from .objects import KINDS, SHA, Tree, model, service
from .refusals import MODELS_REFUSED, SERVICES_REFUSED, SERVING_REFUSED
from .server import Api, Kubectl
from .test_schema import nodes

pytestmark = pytest.mark.apiserver

COLUMNS = ["NAME", "VERSION", "PHASE", "READY", "CANARY", "URL", "AGE"]


async def refusal(call: Any) -> str:
    """The message with which the API server refuses `call`."""
    with pytest.raises(ctrl.errors.ApiError) as caught:
        await call
    assert caught.value.status == 422, caught.value
    return str(caught.value.message)


# --- what is accepted


SOURCES = [
    {"modelPath": "minio://models/resnet50-v1"},
    {"modelPath": "s3://models/a/b/*.tar"},
    {"modelPath": "https://example.com/models/m.tar?token=no#x"},
    {"modelPath": "http://files.default.svc:8080/m.onnx"},
    {"modelPath": "pvc://claim/models/m", "checksum": SHA},
    {"modelPath": "file:///models/m", "checksum": SHA},
    {"modelPath": "s3://models/k", "secretRef": {"name": "s"}, "caSecretRef": {"name": "ca"}},
    {"modelPath": None, "storage": {"bucket": "bucket", "key": "models/*.tar"}},
    {
        "modelPath": None,
        "storage": {
            "endpoint": "http://store:8333",
            "bucket": "bucket",
            "key": "k/",
            "region": "eu-central-1",
            "pathStyle": True,
            "secretRef": {"name": "s"},
            "caSecretRef": {"name": "ca"},
        },
    },
]


@pytest.mark.parametrize("source", SOURCES, ids=str)
async def test_sources_that_are_accepted(api: Api, source: Tree) -> None:
    await api.create(model(**source))


async def test_a_complete_model_is_accepted(api: Api) -> None:
    serving = {
        "enabled": True,
        "replicas": 0,
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "2.5", "memory": "2Gi"}},
        "gpu": {"count": 2, "resourceName": "nvidia.com/mig-1g.10gb"},
        "warmUp": {
            "samples": [{"inputs": {"x": [[0.5]]}}],
            "runs": 5,
            "batchSizes": [1, 8],
            "timeoutSeconds": 60,
        },
        "runtime": {"image": "registry/paddle:1@sha256:ab", "engine": "onednn", "workers": 2, "threads": 4},
        "pod": {
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"anything": {"deep": [1]}}},
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                }
            ],
            "imagePullSecrets": [{"name": "pull"}],
            "env": [
                {"name": "LOG_LEVEL", "value": "debug"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
            "labels": {"team": "vision"},
            "annotations": {"note": "x"},
        },
        "progressDeadlineSeconds": 30,
        "revisionHistoryLimit": 3,
        "updateStrategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
        "priority": 7,
        "latencySLAMilliseconds": 200,
    }
    wanted = model(
        checksum=SHA,
        compatibility={"runtime": ">=3.0, <4", "hardware": ["cpu", "gpu"]},
        inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
        outputs=[{"name": "y", "datatype": "INT64", "shape": []}],
        driftPolicy="Report",
        serving=serving,
    )
    created = await api.create(wanted)
    affinity = created["spec"]["serving"]["pod"]["affinity"]
    assert affinity == {"nodeAffinity": {"anything": {"deep": [1]}}}
    assert created["spec"]["serving"]["warmUp"]["samples"] == [{"inputs": {"x": [[0.5]]}}]


async def test_a_service_may_be_pinned_by_the_operator(api: Api) -> None:
    pinned = {
        "modelName": "det",
        "uid": "4f6e",
        "version": "v1.0.0",
        "digest": "",
        "framework": "paddle",
        "source": {
            "scheme": "s3",
            "endpoint": "http://store:8333",
            "region": "",
            "bucket": "bucket",
            "pathStyle": True,
            "archive": "none",
            "root": "",
            "files": [{"key": "k/a", "path": "a", "size": 1, "etag": '"x"', "sha256": ""}],
        },
        "secretRef": {"name": "s"},
    }
    await api.create(service(models=[{"name": "det", "pinned": pinned, "warmUp": {"runs": 1}}]))


async def test_several_models_in_one_service(api: Api) -> None:
    models = [{"name": name, "modelRef": {"name": name}, "priority": 5} for name in ("det", "rec")]
    created = await api.create(service(models=models))
    assert [item["priority"] for item in created["spec"]["models"]] == [5, 5]


# --- what is filled in


async def test_defaults_of_a_model(api: Api) -> None:
    created = await api.create(model())
    assert created["spec"]["serving"] == {
        "enabled": True,
        "priority": 100,
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate"},
    }


async def test_defaults_of_a_service(api: Api) -> None:
    created = await api.create(service(gpu={}, runtime={}, warmUp={}, updateStrategy={"rollingUpdate": {}}))
    spec = created["spec"]
    assert "replicas" not in spec
    assert spec["gpu"] == {"count": 1, "resourceName": "nvidia.com/gpu"}
    assert spec["runtime"] == {"engine": "auto"}
    assert spec["warmUp"] == {"runs": 3, "timeoutSeconds": 120}
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert spec["models"][0]["priority"] == 100


# --- what is refused: the artefact


@pytest.mark.parametrize(("document", "message"), MODELS_REFUSED, ids=lambda value: str(value)[:70])
async def test_models_that_are_refused(api: Api, document: Tree, message: str) -> None:
    assert message in await refusal(api.create(document))


# --- what is refused: serving, the same for both kinds


@pytest.mark.parametrize(
    ("serving", "path", "message"), SERVING_REFUSED, ids=lambda value: str(value)[:60] or "-"
)
async def test_serving_that_is_refused(api: Api, serving: Tree, path: str, message: str) -> None:
    tail = f".{path}" if path else ""
    of_model = await refusal(api.create(model(serving=serving)))
    of_service = await refusal(api.create(service(**serving)))
    assert message in of_model
    assert message in of_service
    assert f"spec.serving{tail}: " in of_model
    assert f"spec{tail}: " in of_service


async def test_batching_has_defaults_and_limits(api: Api) -> None:
    found = await api.create(model(serving={"batching": {"maxDelayMilliseconds": 2}}))
    assert found["spec"]["serving"]["batching"] == {"maxBatchSize": 8, "maxDelayMilliseconds": 2}
    models = [{"name": "det", "modelRef": {"name": "det"}, "batching": {"maxBatchSize": 0}}]
    assert "spec.models[0].batching.maxBatchSize" in await refusal(api.create(service(models=models)))


# --- what is refused: the models of a service


@pytest.mark.parametrize(("document", "message"), SERVICES_REFUSED, ids=lambda value: str(value)[:70])
async def test_services_that_are_refused(api: Api, document: Tree, message: str) -> None:
    assert message in await refusal(api.create(document))


@pytest.mark.parametrize("document", [model(serving={"canaryy": 1}), service(replica=1)], ids=["pm", "psvc"])
async def test_a_misspelt_field_is_named(api: Api, document: Tree) -> None:
    with pytest.raises(ctrl.errors.ApiError, match=r'unknown field "spec\.(serving\.canaryy|replica)"'):
        await api.create(document)


# --- the artefact does not change under its version

STORED = {"endpoint": "http://store", "bucket": "bucket", "key": "k"}
CHANGES = [
    ({}, {"modelPath": "minio://models/other"}, "modelPath"),
    ({}, {"framework": "onnx"}, "framework"),
    ({}, {"checksum": SHA}, "checksum"),
    ({"checksum": SHA}, {}, "checksum"),
    ({}, {"modelPath": None, "storage": STORED}, "storage"),
    *(
        ({"modelPath": None, "storage": STORED}, {"modelPath": None, "storage": STORED | change}, "storage")
        for change in ({"key": "k2"}, {"bucket": "bucket2"}, {"endpoint": "http://other"}, {"region": "r"})
    ),
]


@pytest.mark.parametrize(("before", "after", "field"), CHANGES, ids=str)
async def test_new_content_needs_a_new_version(api: Api, before: Tree, after: Tree, field: str) -> None:
    await api.create(model(**before), dry_run=False)
    message = await refusal(api.change(model(**after)))
    assert f"new content needs a new version: {field} changed but spec.version is still v1.0.0" in message
    await api.change(model(**after, version="v1.0.1"))


async def test_an_old_version_may_come_back(api: Api) -> None:
    await api.create(model(), dry_run=False)
    await api.change(model(version="v2.0.0", modelPath="minio://models/two"), dry_run=False)
    await api.change(model())


async def test_credentials_and_serving_may_change_under_a_version(api: Api) -> None:
    await api.create(model(modelPath=None, storage=STORED), dry_run=False)
    await api.change(
        model(modelPath=None, storage=STORED | {"secretRef": {"name": "other"}}, serving={"replicas": 3})
    )


# --- subresources, columns, explanations


async def test_status_is_a_subresource_of_its_own(api: Api) -> None:
    created = await api.create(model() | {"status": {"phase": "Ready"}}, dry_run=False)
    assert "status" not in created
    condition = {
        "type": "Ready",
        "status": "False",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "BucketNotFound",
        "message": "bucket models does not exist",
    }
    status = {"phase": "Initialized", "conditions": [condition], "display": {"ready": "0/1"}}
    path = api.path("PaddleModel", "resnet50", "status")
    changed = await api.patch(path, {"status": status, "spec": {"version": "v9.9.9"}})
    assert changed["status"] == status
    assert changed["spec"]["version"] == "v1.0.0"


async def test_scale_reads_and_writes_the_replicas_of_a_service(api: Api) -> None:
    await api.create(service(), dry_run=False)
    path = api.path("PaddleService", "ocr")
    await api.patch(f"{path}/status", {"status": {"replicas": 2, "selector": "a=b"}})
    await api.patch(f"{path}/scale", {"spec": {"replicas": 5}})
    scale = await api.get(f"{path}/scale")
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == {"replicas": 2, "selector": "a=b"}
    assert (await api.get(path))["spec"]["replicas"] == 5


async def test_printer_columns(api: Api, kubectl: Kubectl) -> None:
    await api.create(model(), dry_run=False)
    status = {
        "phase": "Ready",
        "display": {"ready": "2/3", "canary": "20% 2/4"},
        "url": "http://resnet50.default.svc",
        "message": "serving",
        "artifact": {"digest": "sha256:0a"},
    }
    await api.patch(api.path("PaddleModel", "resnet50", "status"), {"status": status})
    head, row = (line.split("  ") for line in kubectl("get", "pm").splitlines())
    assert [cell.strip() for cell in head if cell] == COLUMNS
    assert [cell.strip() for cell in row if cell][:-1] == [
        "resnet50",
        "v1.0.0",
        "Ready",
        "2/3",
        "20% 2/4",
        "http://resnet50.default.svc",
    ]
    wide = kubectl("get", "paddlemodels", "-o", "wide")
    assert wide.splitlines()[0].split()[-2:] == ["DIGEST", "MESSAGE"]
    assert wide.splitlines()[1].split()[-2:] == ["sha256:0a", "serving"]


async def test_printer_columns_of_a_service_tell_of_its_first_model(api: Api, kubectl: Kubectl) -> None:
    await api.create(service(), dry_run=False)
    models = [
        {"name": name, "version": version, "digest": f"sha256:{name}"}
        for name, version in (("det", "v1.0.0"), ("rec", "v2.0.0"))
    ]
    await api.patch(api.path("PaddleService", "ocr", "status"), {"status": {"models": models}})
    wide = kubectl("get", "psvc", "-o", "wide").splitlines()
    assert wide[0].split() == [*COLUMNS, "DIGEST", "MESSAGE"]
    assert wide[1].split()[:2] == ["ocr", "v1.0.0"]
    assert wide[1].split()[-1] == "sha256:det"


def test_short_names_and_category(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--categories", "paddle", "--no-headers", "-o", "wide")
    assert [line.split()[:2] for line in sorted(listed.splitlines())] == [
        ["canaryanalyses", "ca"],
        ["paddlemodels", "pm"],
        ["paddleservices", "psvc"],
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_field_is_explained(api: Api, kind: str) -> None:
    """kubectl explain prints what the API server publishes here."""
    document = await api.get("/openapi/v3/apis/serving.paddlepaddle.org/v1alpha1")
    published = document["components"]["schemas"][f"org.paddlepaddle.serving.v1alpha1.{kind}"]
    fields = dict(nodes(published))
    assert len(fields) > 100
    assert [path for path, node in fields.items() if not node.get("description")] == []


def test_explain_tells_what_a_version_is(kubectl: Kubectl) -> None:
    text = " ".join(kubectl("explain", "paddlemodel.spec.version").split())
    assert "Version of the model, such as v1.2.3. New content needs a new version" in text
    assert "storage" in kubectl("explain", "pm.spec")
