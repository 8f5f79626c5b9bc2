"""Pods that are over, or that a dead node never gives back, hold nothing up; on a real API server."""

from datetime import timedelta

import pytest

import controller_runtime as ctrl
from tests.support import fakenode

from .harness import Harness, condition, pinned

pytestmark = pytest.mark.apiserver

RECREATE = {"type": "Recreate"}
NEXT = [{"name": "resnet50", "pinned": pinned("v1.1.0")}]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
@pytest.mark.parametrize("strategy", [{"type": "RollingUpdate"}, RECREATE])
async def test_an_ended_pod_blocks_no_rollout(
    harness: Harness, phase: str, strategy: dict[str, object]
) -> None:
    await harness.apply(replicas=2, updateStrategy=strategy)
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    await harness.node.end((await harness.pods())[0], phase, "Evicted", "the node was low on memory")
    await harness.settle()
    status = await harness.status()
    assert status["display"] == {"ready": "2/2"}
    assert status["replicas"] == 2, "what is over is no replica"
    await harness.apply(replicas=2, updateStrategy=strategy, models=NEXT)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert await harness.deployments() == {first: 0, status["stableRevision"]: 2}


async def test_an_ended_pod_keeps_no_old_revision_and_no_scale_to_zero(harness: Harness) -> None:
    await harness.apply(revisionHistoryLimit=0)
    await harness.settle()
    await harness.node.end((await harness.pods())[0], "Failed", "NodeShutdown")
    await harness.settle()
    await harness.apply(replicas=0, revisionHistoryLimit=0)
    await harness.settle()
    status = await harness.status()
    assert condition(status, "Ready")["reason"] == "ScaledToZero"
    assert status["phase"] == "Ready"
    await harness.apply(revisionHistoryLimit=0, models=NEXT)
    await harness.settle()
    assert len(await harness.names(ctrl.DEPLOYMENT)) == 1


async def test_why_the_last_pod_ended_is_told_while_there_is_no_other(harness: Harness) -> None:
    harness.node.behave = lambda pod: fakenode.running(ready=False)
    await harness.apply()
    await harness.settle()
    said = "Pod was rejected: Allocate failed due to no devices"
    await harness.node.end((await harness.pods())[0], "Failed", "UnexpectedAdmissionError", said)
    await harness.once()
    status = await harness.status()
    assert said in str(status["message"])
    assert status["phase"] == "Deploying"
    await harness.settle()
    assert said not in str((await harness.status())["message"]), "there is another pod now"


@pytest.mark.parametrize("strategy", [{"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, RECREATE])
async def test_a_pod_on_a_dead_node_is_not_waited_for_for_ever(
    harness: Harness, strategy: dict[str, object]
) -> None:
    await harness.apply(updateStrategy=strategy)
    await harness.settle()
    harness.node.dead = {(await harness.pods())[0].name}
    await harness.apply(updateStrategy=strategy, models=NEXT)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Deploying"
    result = await harness.once()
    # The fake node gives a grace period of 30 s, and as much again is waited for the node to answer.
    assert result.requeue_after is not None
    assert 50 < result.requeue_after <= 61
    harness.later = timedelta(seconds=result.requeue_after + 1)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert status["replicas"] == 1
