"""What goes wrong for users, on a real node: each is named in one line, and heals when the cause goes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from e2e.fixtures import Namespace, Store, secret
from e2e.kube import Kube, condition, message, status_of
from tests.support import models

pytestmark = pytest.mark.cluster

QUICK = {"progressDeadlineSeconds": 10}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bucket": "nowhere"}, "BucketNotFound"),
        ({"key": "linear/v9.9.9/"}, "KeyNotFound"),
        ({"secretRef": {"name": "missing"}}, "SecretNotFound"),
        ({"secretRef": {"name": "wrong"}}, "InvalidCredentials"),
        ({"secretRef": {"name": "stranger"}}, "AccessDenied"),
        ({"endpoint": "http://object-store.object-store.svc:9"}, "EndpointUnreachable"),
        ({"endpoint": "http://169.254.169.254"}, "EndpointForbidden"),
    ],
)
def test_a_wrong_source_is_named_in_initialized_within_seconds(
    operator: Kube, ns: Namespace, linear: dict[str, str], change: dict[str, object], reason: str
) -> None:
    ns.apply(
        secret(ns.name, "wrong", "demo", "not-the-secret"),
        secret(ns.name, "stranger", "stranger", "stranger-secret"),
        ns.model("linear", linear["v1.0.0"], storage=change, serving=QUICK),
    )
    model = operator.wait(
        "paddlemodel",
        "linear",
        ns.name,
        lambda found: condition(found, "ArtifactResolved").get("reason") == reason,
        within=10,
    )
    assert message(model)
    assert ns.pods() == []


def test_a_missing_secret_fails_after_the_deadline_and_heals(
    operator: Kube, ns: Namespace, linear: dict[str, str]
) -> None:
    ns.apply(ns.model("linear", linear["v1.0.0"], storage={"secretRef": {"name": "later"}}, serving=QUICK))
    failed = ns.phase("linear", "Failed", within=30)
    assert condition(failed, "Ready")["reason"] == "SecretNotFound"
    ns.apply(secret(ns.name, "later", "demo", "demo-secret"))
    ns.phase("linear", "Ready", within=120)


def test_a_wrong_checksum_names_file_expected_and_found(operator: Kube, ns: Namespace, store: Store) -> None:
    store.put("sum/model.onnx", b"not what was promised")
    wrong = "0" * 64
    ns.apply(ns.model("sum", "sum/model.onnx", framework="onnx", checksum=f"sha256:{wrong}"))
    failed = ns.phase("sum", "Failed")
    assert condition(failed, "Ready")["reason"] == "ChecksumMismatch"
    found = hashlib.sha256(b"not what was promised").hexdigest()
    for part in ("model.onnx", wrong[:12], found[:12]):
        assert part in message(failed)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"readme.txt": b"no model here"}, "UnknownModelFormat"),
        ({"inference.json": b'{"base_code": {', "inference.pdiparams": b"cut"}, "CorruptModel"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(
    operator: Kube, ns: Namespace, store: Store, files: dict[str, bytes], reason: str
) -> None:
    for name, data in files.items():
        store.put(f"{reason}/{name}", data)
    ns.apply(ns.model("broken", f"{reason}/"))
    failed = ns.phase("broken", "Failed", within=60)
    assert condition(failed, "Ready")["reason"] == reason
    assert any(name in message(failed) for name in files), message(failed)


def test_a_model_without_its_weights_is_refused_and_not_served_on_garbage(
    operator: Kube, ns: Namespace, store: Store, tmp_path: Path
) -> None:
    models.write_paddle(tmp_path)
    store.put("half/inference.json", (tmp_path / "inference.json").read_bytes())
    ns.apply(ns.model("half", "half/"))
    failed = ns.phase("half", "Failed", within=60)
    assert condition(failed, "Ready")["reason"] == "CorruptModel"
    assert "inference.pdiparams is missing" in message(failed)


def test_a_schema_that_is_not_the_models(operator: Kube, ns: Namespace, linear: dict[str, str]) -> None:
    ns.apply(
        ns.model(
            "linear",
            linear["v1.0.0"],
            inputs=[{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
        )
    )
    failed = ns.phase("linear", "Failed", within=60)
    assert condition(failed, "Ready")["reason"] == "SchemaMismatch"
    assert "pixels" in message(failed)


@pytest.mark.parametrize(
    ("serving", "reason", "word"),
    [
        (
            {"runtime": {"image": "localhost/there-is-no-such-image:1"}},
            "ImagePullFailed",
            "there-is-no-such-image",
        ),
        ({"gpu": {"count": 8}}, "Unschedulable", "nvidia.com/gpu"),
        ({"runtime": {"image": "NODE_TOOL"}}, "CrashLoop", "container"),
        ({"resources": {"limits": {"memory": "64Mi"}}}, "OutOfMemory", "memory"),
    ],
)
def test_a_pod_that_cannot_run_is_named_in_the_models_message(
    operator: Kube,
    ns: Namespace,
    linear: dict[str, str],
    node_tool: str,
    serving: dict[str, object],
    reason: str,
    word: str,
) -> None:
    runtime = serving.get("runtime")
    if isinstance(runtime, dict) and runtime.get("image") == "NODE_TOOL":
        serving = {"runtime": {"image": node_tool}}
    ns.apply(ns.model("linear", linear["v1.0.0"], serving={"resources": {}, **serving}))
    model = operator.wait(
        "paddlemodel",
        "linear",
        ns.name,
        lambda found: condition(found, "Ready").get("reason") == reason,
        within=90,
    )
    assert word in message(model)
    assert status_of(model)["phase"] in ("Deploying", "Failed")


def test_a_service_of_the_same_name_is_not_taken_over(
    operator: Kube, ns: Namespace, linear: dict[str, str]
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "linear", "namespace": ns.name},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 1234}]},
    }
    ns.apply(theirs)
    before = operator.get("service", "linear", ns.name)
    ns.apply(ns.model("linear", linear["v1.0.0"]))
    model = operator.wait(
        "paddlemodel",
        "linear",
        ns.name,
        lambda found: condition(found, "Ready").get("reason") == "NameConflict",
        within=30,
    )
    assert "linear" in message(model)
    assert operator.get("service", "linear", ns.name) == before
    operator.run("-n", ns.name, "delete", "service", "linear")
    ns.phase("linear", "Ready", within=120)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"version": "1.0"}, "v1.2.3"),
        ({"framework": "torch"}, "paddle"),
        ({"modelPath": "minio://models/x"}, "only one of"),
    ],
)
def test_what_the_schema_can_refuse_never_reaches_a_controller(
    operator: Kube, ns: Namespace, spec: dict[str, object], word: str
) -> None:
    document = ns.model("linear", "linear/")
    document["spec"] |= spec  # type: ignore[operator]
    assert word in operator.refusal(document)
