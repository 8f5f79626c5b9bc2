"""What goes wrong for users, on a real node: each is named in one line, and heals when the cause goes.

All of it goes wrong at the same time: the models are applied together, then each is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from e2e.fixtures import Namespace, Store, namespace, secret
from e2e.kube import Kube, condition, message, metadata_of, status_of
from tests.support import models

pytestmark = pytest.mark.cluster

QUICK = {"progressDeadlineSeconds": 10}
# By the reason that ArtifactResolved has to give.
SOURCES: dict[str, dict[str, object]] = {
    "BucketNotFound": {"bucket": "nowhere"},
    "KeyNotFound": {"key": "linear/v9.9.9/"},
    "SecretNotFound": {"secretRef": {"name": "missing"}},
    "InvalidCredentials": {"secretRef": {"name": "wrong"}},
    "AccessDenied": {"secretRef": {"name": "stranger"}},
    "EndpointUnreachable": {"endpoint": "http://object-store.object-store.svc:9"},
    "EndpointForbidden": {"endpoint": "http://169.254.169.254"},
}
PROMISED, FOUND = "0" * 64, b"not what was promised"
NO_IMAGE = "localhost/there-is-no-such-image:1"
PIXELS = [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]
# What is in the bucket, the rest of the spec, the reason of the failed model, and words of its message.
ARTIFACTS: dict[str, tuple[Mapping[str, bytes], dict[str, Any], str, tuple[str, ...]]] = {
    "no-model": ({"readme.txt": b"no model here"}, {}, "UnknownModelFormat", ("readme.txt",)),
    "cut": (
        {"inference.json": b'{"base_code": {', "inference.pdiparams": b"cut"},
        {},
        "CorruptModel",
        ("inference.json",),
    ),
    "half": ({}, {}, "CorruptModel", ("inference.pdiparams is missing",)),
    "sum": (
        {"model.onnx": FOUND},
        {"framework": "onnx", "checksum": f"sha256:{PROMISED}"},
        "ChecksumMismatch",
        ("model.onnx", PROMISED[:12], hashlib.sha256(FOUND).hexdigest()[:12]),
    ),
    "schema": ({}, {"inputs": PIXELS}, "SchemaMismatch", ("pixels",)),
}
# What serves the model, the reason of the model that waits for its pods, and a word of its message.
PODS: dict[str, tuple[dict[str, object], str, str]] = {
    "no-image": ({"runtime": {"image": NO_IMAGE}}, "ImagePullFailed", "there-is-no-such-image"),
    "no-gpu": ({"gpu": {"count": 8}}, "Unschedulable", "nvidia.com/gpu"),
    "crash": ({}, "CrashLoop", "container"),
    "memory": ({"resources": {"limits": {"memory": "64Mi"}}}, "OutOfMemory", "memory"),
}
THEIRS = {"selector": {"app": "theirs"}, "ports": [{"port": 1234}]}


@pytest.fixture(scope="module")
def troubles(
    operator: Kube,
    store: Store,
    linear: dict[str, str],
    node_tool: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Namespace]:
    """A namespace in which everything above goes wrong, and a Secret and a name that can be mended."""
    good = linear["v1.0.0"]
    half = tmp_path_factory.mktemp("half")
    models.write_paddle(half)
    store.put("half/inference.json", (half / "inference.json").read_bytes())
    for name, (files, _, _, _) in ARTIFACTS.items():
        for file, data in files.items():
            store.put(f"{name}/{file}", data)
    keys = {"schema": good, "sum": "sum/model.onnx"}
    pods = {name: serving for name, (serving, _, _) in PODS.items()} | {
        "crash": {"runtime": {"image": node_tool}}
    }
    with namespace(operator, "troubles") as ns:
        theirs = {"name": "conflict", "namespace": ns.name}
        ns.apply(
            secret(ns.name, "wrong", "demo", "not-the-secret"),
            secret(ns.name, "stranger", "stranger", "stranger-secret"),
            {"apiVersion": "v1", "kind": "Service", "metadata": theirs, "spec": THEIRS},
            *(
                ns.model(reason.lower(), good, storage=change, serving=QUICK)
                for reason, change in SOURCES.items()
            ),
            ns.model("later", good, storage={"secretRef": {"name": "later"}}, serving=QUICK),
            ns.model("conflict", good),
            *(
                ns.model(name, keys.get(name, f"{name}/"), **spec)
                for name, (_, spec, _, _) in ARTIFACTS.items()
            ),
            *(ns.model(name, good, serving={"resources": {}, **serving}) for name, serving in pods.items()),
        )
        yield ns


@pytest.mark.parametrize("reason", list(SOURCES))
def test_a_wrong_source_is_named_in_initialized_within_seconds(
    operator: Kube, troubles: Namespace, reason: str
) -> None:
    model = operator.wait(
        "paddlemodel",
        reason.lower(),
        troubles.name,
        lambda found: condition(found, "ArtifactResolved").get("reason") == reason,
        within=20,
    )
    assert message(model)
    assert troubles.pods(f"serving.paddlepaddle.org/paddle-service={reason.lower()}") == []


@pytest.mark.parametrize("name", list(PODS))
def test_a_pod_that_cannot_run_is_named_in_the_models_message(
    operator: Kube, troubles: Namespace, name: str
) -> None:
    _, reason, word = PODS[name]
    model = operator.wait(
        "paddlemodel",
        name,
        troubles.name,
        lambda found: condition(found, "Ready").get("reason") == reason,
        within=120,
    )
    assert word in message(model)
    assert status_of(model)["phase"] in ("Deploying", "Failed")


@pytest.mark.parametrize("name", list(ARTIFACTS))
def test_what_is_not_the_model_that_was_promised_is_refused_with_the_reason(
    troubles: Namespace, name: str
) -> None:
    """A model without its weights, too, is refused and not served on garbage."""
    _, _, reason, words = ARTIFACTS[name]
    failed = troubles.phase(name, "Failed", within=120)
    assert condition(failed, "Ready")["reason"] == reason
    assert [word for word in words if word not in message(failed)] == [], message(failed)


def test_a_service_of_the_same_name_is_not_taken_over(operator: Kube, troubles: Namespace) -> None:
    model = operator.wait(
        "paddlemodel",
        "conflict",
        troubles.name,
        lambda found: condition(found, "Ready").get("reason") == "NameConflict",
        within=30,
    )
    assert "conflict" in message(model)
    service = operator.get("service", "conflict", troubles.name)
    assert service is not None
    assert "ownerReferences" not in metadata_of(service)
    assert "labels" not in metadata_of(service)
    assert service["spec"]["selector"] == THEIRS["selector"]  # type: ignore[index]
    operator.run("-n", troubles.name, "delete", "service", "conflict")
    troubles.phase("conflict", "Ready", within=120)


def test_a_missing_secret_fails_after_the_deadline_and_heals(troubles: Namespace) -> None:
    failed = troubles.phase("later", "Failed", within=30)
    assert condition(failed, "Ready")["reason"] == "SecretNotFound"
    troubles.apply(secret(troubles.name, "later", "demo", "demo-secret"))
    troubles.phase("later", "Ready", within=120)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"version": "1.0"}, "v1.2.3"),
        ({"framework": "torch"}, "paddle"),
        ({"modelPath": "minio://models/x"}, "only one of"),
    ],
)
def test_what_the_schema_can_refuse_never_reaches_a_controller(
    operator: Kube, troubles: Namespace, spec: dict[str, object], word: str
) -> None:
    document = troubles.model("linear", "linear/")
    document["spec"] |= spec  # type: ignore[operator]
    assert word in operator.refusal(document)
