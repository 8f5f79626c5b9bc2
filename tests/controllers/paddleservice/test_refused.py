"""Objects that the API server does not let in, told in the status; on a real API server."""

import pytest

import controller_runtime as ctrl

from .harness import Harness, condition, pinned

pytestmark = pytest.mark.apiserver

#: Nothing but the Deployment's own validation knows what a label key is.
IMPOSSIBLE = {"nodeSelector": {"not a key": "x"}}


async def test_an_invalid_deployment_fails_the_service_at_once(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    models = [{"name": "resnet50", "pinned": pinned("v1.1.0")}]
    await harness.apply(models=models, pod=IMPOSSIBLE)
    await harness.settle_refused()
    status = await harness.status()
    assert status["phase"] == "Failed"
    assert condition(status, "Ready")["reason"] == "InvalidSpec"
    assert "spec.template.spec.nodeSelector: Invalid value" in str(status["message"])
    assert str(status["message"]).startswith("the API server refuses Deployment resnet50-")
    assert condition(status, "Available")["status"] == "True"
    assert await harness.deployments() == {first: 1}
    assert harness.told.events[-1][:2] == ("Warning", "InvalidSpec")
    # Looking again changes and tells nothing, not even to a new process.
    told = list(harness.told.events)
    before = await harness.service()
    for _ in range(3):
        harness.start()
        assert (await harness.once()).requeue_after == 30.0
    assert harness.told.events == told
    assert (await harness.service()).resource_version == before.resource_version
    await harness.apply(models=models)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"


async def test_a_quota_is_told_and_waited_for(harness: Harness) -> None:
    meta = {"name": "small", "namespace": harness.namespace}
    hard = {"count/deployments.apps": "0"}
    quota = await harness.live.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
    )
    # Nobody counts here; the admission plugin takes what status says.
    status = {"status": {"hard": hard, "used": {"count/deployments.apps": "0"}}}
    await harness.live.patch(quota.kind, quota.key, status, type="merge", subresource="status")
    await harness.apply()
    await harness.settle_refused()
    told = await harness.status()
    assert told["phase"] == "Deploying"
    assert condition(told, "Ready")["reason"] == "PodRefused"
    assert "exceeded quota: small" in str(told["message"])
    assert ("Warning", "PodRefused") in [event[:2] for event in harness.told.events]
    number = len(harness.told.events)
    assert (await harness.once()).requeue_after == 30.0
    assert len(harness.told.events) == number
    await harness.live.delete(quota.kind, quota.key)
    await harness.settle()
    told = await harness.status()
    assert told["phase"] == "Ready"
    assert not [event for event in harness.told.events[number:] if event[0] == "Warning"]


async def test_a_namespace_that_goes_is_no_refusal(harness: Harness) -> None:
    await harness.apply()
    await harness.live.delete(ctrl.NAMESPACE, ctrl.Key("", harness.namespace))
    assert (await harness.once()).requeue_after is None
    assert condition(await harness.status(), "Ready").get("reason") != "PodRefused"
