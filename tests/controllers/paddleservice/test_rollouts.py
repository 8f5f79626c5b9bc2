"""Rollouts on a real API server, a fake node playing kubelet and Deployment controller."""

from collections.abc import Mapping

import pytest

import controller_runtime as ctrl
from tests.support.fakenode import running

from .harness import Crash, Harness, condition, pinned

pytestmark = pytest.mark.apiserver


async def test_first_rollout(harness: Harness) -> None:
    await harness.apply(replicas=2)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert status["display"] == {"ready": "2/2"}
    assert status["message"] == "2 of 2 pods ready, serving resnet50 v1.0.0"
    assert status["url"] == f"http://resnet50.{harness.namespace}.svc"
    assert status["stableRevision"] == status["updatedRevision"]
    assert condition(status, "Available")["status"] == "True"
    assert not condition(status, "Reconciling")
    assert "progress" not in status
    revision = status["stableRevision"]
    assert await harness.names(ctrl.SERVICE) == {"resnet50", f"resnet50-{revision}"}
    assert await harness.names(ctrl.CONFIG_MAP) == {f"resnet50-{revision}"}
    assert await harness.names(ctrl.PDB) == {"resnet50"}
    assert await harness.names(ctrl.NETWORK_POLICY) == {"resnet50"}
    reasons = harness.told.reasons()
    told = [message for _, reason, message in harness.told.events if reason == "PhaseChanged"]
    assert told == [
        "New -> Initialized: the spec is accepted",
        f"Initialized -> Deploying: creating revision {revision}",
        "Deploying -> Ready: 2 of 2 pods ready, serving resnet50 v1.0.0",
    ]
    assert reasons == ["PhaseChanged", "PhaseChanged", "RevisionCreated", "PhaseChanged", "RevisionPromoted"]


async def test_nothing_is_written_when_nothing_changed(harness: Harness) -> None:
    await harness.apply(replicas=2)
    await harness.settle()
    harness.client.writes.clear()
    for _ in range(3):
        await harness.once()
    harness.start()  # a new process sees nothing to do either
    await harness.once()
    assert harness.client.writes == []


async def test_rolling_update_keeps_the_budget_and_loses_no_capacity(harness: Harness) -> None:
    await harness.apply(replicas=3)
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    seen: list[tuple[int, int]] = []

    def watch(total: Mapping[str, int], ready: Mapping[str, int]) -> None:
        seen.append((sum(total.values()), sum(ready.values())))

    harness.watchers.append(watch)
    await harness.apply(replicas=3, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert status["models"][0]["version"] == "v1.1.0"  # type: ignore[index]
    assert status["stableRevision"] != first
    assert max(total for total, _ in seen) <= 4
    assert min(ready for _, ready in seen) >= 3
    assert await harness.deployments() == {first: 0, status["stableRevision"]: 3}
    assert len(seen) > 4, "one by one"


async def test_going_back_uses_the_revision_again(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    await harness.apply(models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    second = (await harness.status())["stableRevision"]
    await harness.apply()
    await harness.settle()
    status = await harness.status()
    assert status["stableRevision"] == first != second
    assert await harness.deployments() == {first: 1, second: 0}


async def test_going_back_in_the_middle(harness: Harness) -> None:
    await harness.apply(replicas=2)
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    harness.node.behave = lambda pod: running(ready=first in pod.name)
    await harness.apply(replicas=2, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Deploying"
    assert status["stableRevision"] == first
    assert condition(status, "Available")["status"] == "True"
    assert f"revision {first} still serves" in str(status["message"])
    assert (await harness.deployments())[str(first)] == 2, "a broken revision never reduces the stable one"
    uids = {pod.uid for pod in await harness.pods() if str(first) in pod.name}
    await harness.apply(replicas=2)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"
    assert {pod.uid for pod in await harness.pods()} == uids, "the stable pods were never touched"


async def test_recreate_never_runs_both(harness: Harness) -> None:
    recreate = {"type": "Recreate"}
    await harness.apply(replicas=2, updateStrategy=recreate)
    await harness.settle()
    seen: list[Mapping[str, int]] = []
    harness.watchers.append(lambda total, ready: seen.append(total))
    changed = [{"name": "resnet50", "pinned": pinned("v1.1.0")}]
    await harness.apply(replicas=2, updateStrategy=recreate, models=changed)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"
    assert all(len(total) <= 1 for total in seen)
    assert {} in seen


async def test_without_a_surge_a_pod_leaves_first(harness: Harness) -> None:
    scarce = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    await harness.apply(replicas=2, updateStrategy=scarce)
    await harness.settle()
    most = []
    harness.watchers.append(lambda total, ready: most.append(sum(total.values())))
    changed = [{"name": "resnet50", "pinned": pinned("v1.1.0")}]
    await harness.apply(replicas=2, updateStrategy=scarce, models=changed)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"
    assert max(most) == 2


async def test_an_operator_upgrade_restarts_nothing(harness: Harness) -> None:
    await harness.apply(replicas=2)
    await harness.settle()
    uids = {pod.uid for pod in await harness.pods()}
    harness.client.writes.clear()
    harness.start(image="paddle-runtime:next")
    await harness.settle()
    assert harness.client.writes == []
    assert {pod.uid for pod in await harness.pods()} == uids
    # The new default is for new revisions.
    await harness.apply(replicas=2, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    images = {pod.spec["containers"][0]["image"] for pod in await harness.pods()}
    assert images == {"paddle-runtime:next"}


async def test_scaling_is_no_new_revision(harness: Harness) -> None:
    await harness.apply(replicas=1)
    await harness.settle()
    uids = {pod.uid for pod in await harness.pods()}
    await harness.apply(replicas=3)
    await harness.settle()
    status = await harness.status()
    assert status["display"] == {"ready": "3/3"}
    assert uids < {pod.uid for pod in await harness.pods()}
    await harness.apply(replicas=0)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert condition(status, "Ready")["reason"] == "ScaledToZero"
    assert condition(status, "Available")["status"] == "False"
    scale = await harness.live.request(
        "GET",
        f"/apis/serving.paddlepaddle.org/v1alpha1/namespaces/{harness.namespace}/paddleservices/resnet50/scale",
    )
    assert scale["spec"] == {"replicas": 0} or scale["spec"] == {}
    assert "serving.paddlepaddle.org/revision=" in scale["status"]["selector"]


async def test_old_revisions_are_kept_up_to_the_limit(harness: Harness) -> None:
    for number in range(4):
        models = [{"name": "resnet50", "pinned": pinned(f"v1.{number}.0")}]
        await harness.apply(models=models, revisionHistoryLimit=1)
        await harness.settle()
    status = await harness.status()
    assert len(await harness.deployments()) == 2
    assert [item["models"][0]["version"] for item in status["revisions"]] == ["v1.3.0", "v1.2.0"]  # type: ignore
    assert len(await harness.names(ctrl.CONFIG_MAP)) == 2
    assert len(await harness.names(ctrl.SERVICE)) == 3


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_between_any_two_writes_changes_nothing_in_the_end(harness: Harness, when: str) -> None:
    """First rollout, update and removal of an old revision, the process dying at every write in turn."""

    async def die_at_every_write() -> None:
        number = 0
        while True:
            done = len(harness.client.writes)
            attribute = f"crash_{when}"
            setattr(harness.client, attribute, done + number % 3)
            harness.start()
            try:
                await harness.settle()
            except Crash:
                number += 1
                await harness.node.step()
                assert number < 100
                continue
            finally:
                setattr(harness.client, attribute, None)
            return

    await harness.apply(replicas=2, revisionHistoryLimit=0)
    await die_at_every_write()
    await harness.apply(
        replicas=2, revisionHistoryLimit=0, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}]
    )
    await die_at_every_write()
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert await harness.deployments() == {status["stableRevision"]: 2}
    assert await harness.names(ctrl.SERVICE) == {"resnet50", f"resnet50-{status['stableRevision']}"}
    harness.client.writes.clear()
    await harness.once()
    assert harness.client.writes == []
