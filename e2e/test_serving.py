"""The main line on a real node: a model from a bucket to a prediction, updated and rolled back under load."""

from __future__ import annotations

import json
import re
import struct
import urllib.error
import urllib.request

import pytest

from e2e.fixtures import Namespace, Store, load_pod, stopped
from e2e.kube import Kube, condition, message, metadata_of, status_of, until
from runtime.grpc.stubs.paddle_serving_pb2 import PredictRequest
from tests.runtime.grpc_client import client, listed

pytestmark = pytest.mark.cluster


def post(port: int, body: str) -> tuple[int, dict[str, object]]:
    """Status and JSON body of a POST to /predict on a local port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def uids(pods: list[dict[str, object]]) -> set[object]:
    return {metadata_of(pod)["uid"] for pod in pods}


def test_from_a_bucket_to_a_prediction(operator: Kube, ns: Namespace, linear: dict[str, str]) -> None:
    ns.apply(ns.model("linear", linear["v1.0.0"]))
    model = ns.phase("linear", "Ready", within=90)
    status = status_of(model)
    assert status["url"] == f"http://linear.{ns.name}.svc"
    assert status["display"]["ready"] == "1/1"  # type: ignore[index]
    assert str(status["artifact"]["contentDigest"]).startswith("sha256:")  # type: ignore[index]
    assert condition(model, "Available")["status"] == "True"
    assert condition(model, "ArtifactResolved")["status"] == "True"
    answer = operator.predict(ns.name, "linear", {"x": [[1.0, 1.0, 3.0]]})
    assert answer["model_version"] == "v1.0.0"
    (output,) = answer["outputs"].values()  # type: ignore[attr-defined]
    assert output == [[pytest.approx(11.0), pytest.approx(11.0)]]
    with operator.forward(ns.name, "service/linear", 9000) as port, client(f"127.0.0.1:{port}") as caller:
        row = {"name": "x", "datatype": "FP32", "shape": [1, 3], "content": struct.pack("<3f", 1, 1, 3)}
        served = caller.paddle.Predict(PredictRequest(input_tensor=listed(row)), timeout=30)
        assert (served.code, served.model_version) == (0, "v1.0.0")
    table = operator.run("-n", ns.name, "get", "paddlemodels")
    assert table.split("\n")[0].split() == ["NAME", "VERSION", "PHASE", "READY", "CANARY", "URL", "AGE"]
    events = operator.run("-n", ns.name, "get", "events.events.k8s.io", "-o", "json")
    notes = [item.get("note", "") for item in json.loads(events)["items"]]
    for step in ("New -> Initialized", "Initialized -> Deploying", "Deploying -> Ready"):
        assert any(step in note for note in notes), notes


def test_a_rolling_update_loses_no_request_and_rolls_back_to_the_same_revision(
    operator: Kube, ns: Namespace, linear: dict[str, str]
) -> None:
    ns.apply(ns.model("linear", linear["v1.0.0"]))
    first = status_of(ns.phase("linear", "Ready", within=90))
    url = f"http://linear.{ns.name}.svc/predict"
    ns.apply(load_pod(ns.name, "load", url, seconds=240, rate=20))
    operator.wait("pod", "load", ns.name, lambda pod: status_of(pod).get("phase") == "Running")

    ns.apply(ns.model("linear", linear["v1.1.0"], version="v1.1.0"))
    second = status_of(ns.phase("linear", "Ready", within=90, generation=2))
    assert second["revision"] != first["revision"]

    def answered() -> bool:  # the Service's way to a pod that has just been told to end closes a beat later
        return operator.predict(ns.name, "linear", {"x": [[1.0, 1.0, 3.0]]})["model_version"] == "v1.1.0"

    until(answered, within=30, what=lambda: "the new version does not answer")

    ns.apply(ns.model("linear", linear["v1.0.0"]))
    third = status_of(ns.phase("linear", "Ready", within=90, generation=3))
    assert third["revision"] == first["revision"]

    def only_first() -> bool:  # the last pods of the other revision have drained under load, too
        labels = [metadata_of(pod)["labels"] for pod in ns.pods("serving.paddlepaddle.org/role=server")]
        return {label["serving.paddlepaddle.org/revision"] for label in labels} == {first["revision"]}  # type: ignore[index]

    until(only_first, within=60, what=lambda: "the other revision's pods stay")
    result = json.loads(stopped(operator, ns.name, "load", within=60))
    assert result["failures"] == 0, result
    assert set(result["seen"]) == {"v1.0.0", "v1.1.0"}


def test_recreate_removes_the_old_pods_first(operator: Kube, ns: Namespace, linear: dict[str, str]) -> None:
    serving = {"updateStrategy": {"type": "Recreate"}}
    ns.apply(ns.model("linear", linear["v1.0.0"], serving=serving))
    ns.phase("linear", "Ready", within=90)
    old = uids(ns.pods())
    ns.apply(ns.model("linear", linear["v1.1.0"], version="v1.1.0", serving=serving))

    def never_both() -> bool:
        live = [pod for pod in ns.pods() if not metadata_of(pod).get("deletionTimestamp")]
        revisions = {metadata_of(pod)["labels"]["serving.paddlepaddle.org/revision"] for pod in live}  # type: ignore[index]
        assert len(revisions) <= 1
        return bool(live) and not uids(live) & old

    until(never_both, within=90, what=lambda: "the new pods never came")
    ns.phase("linear", "Ready", within=90, generation=2)


def test_a_standalone_service_serves_two_models_in_one_pod(
    operator: Kube, ns: Namespace, linear: dict[str, str]
) -> None:
    for name, version in (("one", "v1.0.0"), ("two", "v1.1.0")):
        ns.apply(ns.model(name, linear[version], version=version, serving={"enabled": False}))
    ns.apply(
        {
            "apiVersion": "serving.paddlepaddle.org/v1alpha1",
            "kind": "PaddleService",
            "metadata": {"name": "both", "namespace": ns.name},
            "spec": {"models": [{"name": name, "modelRef": {"name": name}} for name in ("one", "two")]},
        }
    )
    operator.wait(
        "paddleservice", "both", ns.name, lambda found: status_of(found).get("phase") == "Ready", within=120
    )
    for name, version in (("one", "v1.0.0"), ("two", "v1.1.0")):
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 1.0, 1.0]}]}
        done = operator.post(ns.name, "both", f"/v2/models/{name}/infer", json.dumps(body))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model_version"] == version
    operator.run("-n", ns.name, "delete", "paddlemodel", "one", "--wait=false")
    held = operator.wait("paddlemodel", "one", ns.name, lambda found: "still names" in message(found))
    assert condition(held, "DeletionBlocked")["status"] == "True"


def test_malformed_bodies_are_answered_with_the_input_that_is_wrong(
    operator: Kube, served: Namespace
) -> None:
    with operator.forward(served.name, "service/linear", 80) as port:
        for body, word in (
            ("{", "JSON"),
            (json.dumps({"inputs": {"y": [[1.0]]}}), "'x'"),
            (json.dumps({"inputs": {"x": [["a", 1.0, 1.0]]}}), "'x'"),
            (json.dumps({"inputs": {"x": [[1.0, 2.0]]}}), "'x'"),
            (json.dumps({"inputs": {}}), "'x'"),
        ):
            status, answer = post(port, body)
            assert status == 400, (body, answer)
            assert list(answer) == ["error"]
            assert word in str(answer["error"]), (body, answer)
    restarts = [
        item["restartCount"]
        for pod in served.pods("serving.paddlepaddle.org/role=server")
        for item in status_of(pod)["containerStatuses"]  # type: ignore[attr-defined]
    ]
    assert restarts == [0]


def test_deleting_a_model_leaves_nothing(
    operator: Kube, ns: Namespace, store: Store, linear: dict[str, str]
) -> None:
    store.put("big/inference.pdiparams", b"0" * (64 << 20))
    store.put("big/inference.json", b"{}")
    ns.apply(ns.model("big", "big/"))
    operator.wait("paddlemodel", "big", ns.name, lambda found: status_of(found).get("phase") == "Deploying")
    until(lambda: ns.pods(), within=30, what=lambda: "no pod was made")
    operator.run("-n", ns.name, "delete", "paddlemodel", "big", timeout=60)

    def left() -> list[str]:
        kinds = (
            "paddlemodels,paddleservices,deployments,replicasets,pods,services,configmaps,pdb,networkpolicies"
        )
        listed = operator.run("-n", ns.name, "get", kinds, "-o", "name").split()
        return [name for name in listed if "kube-root-ca.crt" not in name]

    until(lambda: not left(), within=60, what=lambda: f"left over: {left()}")


def test_in_all_of_this_it_was_never_refused_by_the_api_server(operator: Kube) -> None:
    """The last test of this file: models were made, changed and deleted by these pods."""
    operators = operator.list("pods", "paddle-system", "app.kubernetes.io/component=manager")
    assert len(operators) == 2
    for pod in (str(metadata_of(found)["name"]) for found in operators):
        lines = operator.run("-n", "paddle-system", "logs", pod).splitlines()
        assert lines, f"{pod} logs nothing"
        refused = [line for line in lines if re.search(r"40[13] (Forbidden|Unauthorized)", line)]
        # A namespace on its way out refuses everybody's new objects; that is not about permissions.
        assert [line for line in refused if "being terminated" not in line] == []
