"""InPlace on a real node: running pods take a new version under load, go back, or keep what they have."""

from __future__ import annotations

import json

import pytest

from e2e.fixtures import Namespace, Store, load_pod, stopped
from e2e.kube import Kube, condition, metadata_of, status_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SERVING = {"replicas": 2, "updateStrategy": {"type": "InPlace"}}


def uids(ns: Namespace) -> set[object]:
    pods = ns.pods("serving.paddlepaddle.org/role=server")
    return {metadata_of(pod)["uid"] for pod in pods}


def served(kube: Kube, ns: Namespace, version: str) -> dict[str, object]:
    """Waits until every pod serves `version`; the service's status."""

    def settled(found: dict[str, object]) -> bool:
        status = status_of(found)
        place, models = status.get("inPlace"), status.get("models")
        assert isinstance(models, list)
        assert status["phase"] == "Ready"
        if not isinstance(place, dict) or "pods" in place or place["release"] != place["base"]:
            return False
        return bool(models[0]["version"] == version)

    return status_of(kube.wait("paddleservice", "linear", ns.name, settled, within=300))


def test_running_pods_take_versions_without_a_lost_request(
    operator: Kube, ns: Namespace, store: Store, linear: dict[str, str]
) -> None:
    ns.apply(ns.model("linear", linear["v1.0.0"], serving=SERVING))
    ns.phase("linear", "Ready", within=120)
    before = uids(ns)
    assert len(before) == 2
    first = served(operator, ns, "v1.0.0")
    url = f"http://linear.{ns.name}.svc/predict"
    ns.apply(load_pod(ns.name, "load", url, seconds=900, rate=20))
    operator.wait("pod", "load", ns.name, lambda pod: status_of(pod).get("phase") == "Running")

    ns.apply(ns.model("linear", linear["v1.1.0"], version="v1.1.0", serving=SERVING))
    second = served(operator, ns, "v1.1.0")
    assert second["inPlace"] != first["inPlace"]
    assert second["stableRevision"] == first["stableRevision"]
    for _ in range(4):  # whichever pod answers
        assert operator.predict(ns.name, "linear", {"x": [[1.0, 1.0, 3.0]]})["model_version"] == "v1.1.0"

    ns.apply(ns.model("linear", linear["v1.0.0"], serving=SERVING))
    assert served(operator, ns, "v1.0.0")["inPlace"] == first["inPlace"]

    store.put("broken/inference.pdiparams", b"0" * 100)
    store.put("broken/inference.json", b'{"base_code": {}, "program": {}}')
    ns.apply(ns.model("linear", "broken/", version="v2.0.0", serving=SERVING))
    found = operator.wait(
        "paddleservice",
        "linear",
        ns.name,
        lambda found: condition(found, "Degraded").get("status") == "True",
        within=60,
    )
    assert condition(found, "Degraded")["reason"] == "CorruptModel"
    assert status_of(found)["phase"] == "Ready"
    states = sorted(pod["state"] for pod in status_of(found)["inPlace"]["pods"])  # type: ignore[index]
    assert states == ["Failed", "Waiting"]
    assert operator.predict(ns.name, "linear", {"x": [[1.0, 1.0, 3.0]]})["model_version"] == "v1.0.0"

    ns.apply(ns.model("linear", linear["v1.1.0"], version="v1.1.0", serving=SERVING))
    served(operator, ns, "v1.1.0")
    result = json.loads(stopped(operator, ns.name, "load", within=60))
    assert result["failures"] == 0, result
    assert set(result["seen"]) == {"v1.0.0", "v1.1.0"}
    assert uids(ns) == before
