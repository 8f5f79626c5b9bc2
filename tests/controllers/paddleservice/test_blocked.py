"""What is in the way of a service, told in its status; on a real API server."""

import json
from collections.abc import Mapping
from datetime import timedelta

import pytest

import controller_runtime as ctrl
from controllers.kinds import FINALIZER, PADDLE_MODEL, PADDLE_SERVICE
from controllers.probe import ModelProgress, Observation, Target
from tests.support import fakenode
from tests.support.fakenode import Behaviour, running

from .harness import Harness, condition, pinned

pytestmark = pytest.mark.apiserver


def always(status: Mapping[str, object]) -> Behaviour:
    return lambda pod: status


NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("pod", "reason", "words", "phase"),
    [
        (fakenode.unschedulable(NO_GPU), "Unschedulable", NO_GPU, "Deploying"),
        (
            fakenode.waiting("ImagePullBackOff", "not found", name="pull"),
            "ImagePullFailed",
            "cannot pull image paddle-runtime:dev: not found",
            "Deploying",
        ),
        (fakenode.waiting("InvalidImageName", "bad"), "ImagePullFailed", "bad", "Failed"),
        (
            fakenode.waiting("CreateContainerConfigError", 'secret "s3" not found', name="pull"),
            "ContainerConfigError",
            'secret "s3" not found',
            "Deploying",
        ),
        (fakenode.crashed(message="Segmentation fault"), "CrashLoop", "Segmentation fault", "Deploying"),
        (
            fakenode.crashed(code=137, reason="OOMKilled"),
            "OutOfMemory",
            "raise resources.limits.memory",
            "Deploying",
        ),
        (
            fakenode.failed_pull("ChecksumMismatch", "m.json: expected aa, found bb"),
            "ChecksumMismatch",
            "m.json: expected aa, found bb",
            "Failed",
        ),
        (
            fakenode.failed_pull("EndpointUnreachable", "http://store:8333 refused"),
            "EndpointUnreachable",
            "http://store:8333 refused",
            "Deploying",
        ),
    ],
)
async def test_the_reason_of_a_pod_is_the_reason_of_the_service(
    harness: Harness, pod: Mapping[str, object], reason: str, words: str, phase: str
) -> None:
    harness.node.behave = always(pod)
    await harness.apply()
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == phase
    assert condition(status, "Ready")["reason"] == reason
    assert words in str(status["message"])
    # It heals by itself when the cause goes.
    harness.node.behave = fakenode.serve
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"


async def test_no_progress_ends_in_failed_and_flapping_is_none(harness: Harness) -> None:
    harness.node.behave = lambda pod: running(ready=pod.name.endswith("1"))
    await harness.apply(replicas=2, progressDeadlineSeconds=60)
    await harness.settle()
    assert (await harness.status())["display"] == {"ready": "1/2"}
    began = (await harness.status())["progress"]
    harness.later = timedelta(seconds=40)
    harness.node.behave = lambda pod: running(ready=False)
    await harness.settle()
    harness.node.behave = lambda pod: running(ready=pod.name.endswith("1"))
    await harness.settle()
    assert (await harness.status())["progress"] == began, "ready again is as far as it was"
    harness.later = timedelta(seconds=61)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Failed"
    assert condition(status, "Ready")["reason"] == "ProgressDeadlineExceeded"
    assert str(status["message"]).startswith("no progress for 60 s: 1 of 2 pods")
    assert condition(status, "Stalled")["status"] == "True"
    harness.node.behave = fakenode.serve
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"


async def test_progress_of_a_download_is_shown_at_most_every_five_seconds(harness: Harness) -> None:
    harness.node.behave = always(fakenode.pulling())
    await harness.apply(progressDeadlineSeconds=60)
    await harness.settle()
    assert len(harness.store.targets()) == 1
    key, target = harness.store.targets()[0]

    def got(done: int) -> None:
        model = ModelProgress(
            name="resnet50",
            state="Pulling",
            bytes_done=done,
            bytes_total=98_000_000,
            bytes_per_second=10e6,
            eta=8.6,
        )
        assert harness.store.put(key, target, Observation(stage="Pulling", models=(model,)))

    got(12_000_000)
    await harness.once()
    status = await harness.status()
    assert status["message"] == "pulling resnet50 v1.0.0: 12.0 MB of 98.0 MB at 10.0 MB/s, 9 s left"
    assert status["download"]["bytesDone"] == 12_000_000  # type: ignore[index]
    harness.client.writes.clear()
    got(22_000_000)
    result = await harness.once()
    assert harness.client.writes == []
    assert result.requeue_after is not None
    assert 0 < result.requeue_after <= 5
    harness.later = timedelta(seconds=50)
    await harness.once()
    status = await harness.status()
    assert status["download"]["bytesDone"] == 22_000_000  # type: ignore[index]
    harness.later = timedelta(seconds=100)
    got(30_000_000)
    await harness.once()
    assert (await harness.status())["phase"] == "Deploying", "bytes are progress"


async def test_latency_over_its_sla_holds_the_first_promotion(harness: Harness) -> None:
    slow = Observation(
        stage="Ready", models=(ModelProgress(name="resnet50", state="Ready", warm_up_median=310.4),)
    )
    models = [{"name": "resnet50", "latencySLAMilliseconds": 200, "pinned": pinned()}]
    await harness.apply(replicas=1, models=models)
    await harness.once()
    await harness.node.step()
    result = await harness.once()
    assert (await harness.status())["phase"] == "Deploying", "nobody has asked the pod yet"
    assert result.requeue_after == 1.0
    key, target = harness.store.targets()[0]
    harness.store.put(key, target, slow)
    await harness.settle()
    status = await harness.status()
    assert condition(status, "Ready")["reason"] == "LatencyOverSLA"
    assert "310 ms (median), its latencySLAMilliseconds is 200" in str(status["message"])
    assert condition(status, "Available")["status"] == "True", "it never gates readiness"
    fast = Observation(
        stage="Ready", models=(ModelProgress(name="resnet50", state="Ready", warm_up_median=20.0),)
    )
    harness.store.put(key, target, fast)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"
    assert harness.store.targets() == [], "nobody is asked once it is deployed"


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
async def test_what_is_not_ours_is_left_alone(harness: Harness, kind: str) -> None:
    selector: dict[str, object] = {"selector": {"app": "other"}}
    theirs = {
        "Service": ("v1", selector | {"ports": [{"port": 5432}]}),
        "PodDisruptionBudget": (
            "policy/v1",
            {"selector": {"matchLabels": {"app": "other"}}, "minAvailable": 1},
        ),
    }
    version, spec = theirs[kind]
    meta = {"name": "resnet50", "namespace": harness.namespace}
    before = await harness.live.create({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec})
    await harness.apply()
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Failed"
    assert condition(status, "NameConflict")["status"] == "True"
    assert f"{kind} {harness.namespace}/resnet50 exists and does not belong to this" in str(status["message"])
    after = await harness.live.get_live(before.kind, before.key)
    assert after is not None
    assert after.raw == before.raw
    harness.client.writes.clear()
    result = await harness.once()
    assert harness.client.writes == []
    assert result.requeue_after == 10.0
    await harness.live.delete(before.kind, before.key)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert not condition(status, "NameConflict")


@pytest.mark.parametrize("kind", [ctrl.CONFIG_MAP, ctrl.SERVICE, ctrl.DEPLOYMENT], ids=lambda kind: kind.kind)
async def test_a_taken_name_of_a_revision_is_told_once(harness: Harness, kind: ctrl.Kind) -> None:
    await harness.apply()
    await harness.settle()
    made = ctrl.Key(harness.namespace, f"resnet50-{(await harness.status())['stableRevision']}")
    ours = await harness.live.get_live(kind, made)
    assert ours is not None
    await harness.live.delete(PADDLE_SERVICE, harness.key)
    for each in (ctrl.DEPLOYMENT, ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
        for item in await harness.live.list_live(each, namespace=harness.namespace):
            if item.controller_uid:
                await harness.live.delete(each, item.key)
    await harness.once()
    parts = {key: value for key, value in ours.raw.items() if key in ("apiVersion", "kind", "data")}
    spec = (
        {"spec": {k: v for k, v in ours.spec.items() if not k.startswith("clusterIP")}} if ours.spec else {}
    )
    theirs = await harness.live.create(
        parts | spec | {"metadata": {"name": made.name, "namespace": made.namespace}}
    )
    harness.told.events.clear()
    await harness.apply()
    for _ in range(3):
        await harness.once()
    status = await harness.status()
    assert status["phase"] == "Failed"
    assert f"{kind.kind} {made} exists" in str(status["message"])
    assert harness.told.reasons().count("NameConflict") >= 1
    told, version = list(harness.told.events), (await harness.service()).resource_version
    for _ in range(3):
        assert (await harness.once()).requeue_after == 10.0
    assert harness.told.events == told
    assert (await harness.service()).resource_version == version
    # Another revision has another name.
    await harness.apply(models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"
    await harness.apply()
    await harness.settle()
    assert (await harness.status())["phase"] == "Failed"
    await harness.live.delete(kind, theirs.key)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"


async def test_a_model_whose_deletion_is_blocked_keeps_serving(harness: Harness) -> None:
    await harness.apply(models=[{"name": "a", "modelRef": {"name": "ma"}}])
    model = await harness.model("ma")
    await harness.resolve("ma")
    await harness.settle()
    finalizers = {"metadata": {"finalizers": [FINALIZER]}}
    await harness.live.patch(PADDLE_MODEL, model.key, finalizers, type="merge")
    await harness.live.delete(PADDLE_MODEL, model.key)
    harness.client.writes.clear()
    await harness.settle()
    assert harness.client.writes == []
    assert (await harness.status())["phase"] == "Ready"
    assert len(await harness.pods()) == 1


async def test_the_objects_of_a_deleted_namesake_are_waited_for(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    old = await harness.service()
    await harness.live.delete(PADDLE_SERVICE, harness.key)
    await harness.once()
    await harness.apply()
    result = await harness.once()
    status = await harness.status()
    assert status["phase"] == "Initialized" or status["phase"] == "Deploying"
    assert "deleted PaddleService of the same name" in str(status["message"])
    assert result.requeue_after == 2.0
    for kind in (ctrl.DEPLOYMENT, ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
        for item in await harness.live.list_live(kind, namespace=harness.namespace):
            assert item.controller_uid == old.uid
            await harness.live.delete(kind, item.key)
    await harness.settle()
    assert (await harness.status())["phase"] == "Ready"


async def test_a_service_alone_waits_for_its_models(harness: Harness) -> None:
    models = [{"name": "a", "modelRef": {"name": "ma"}}, {"name": "b", "modelRef": {"name": "mb"}}]
    await harness.apply(models=models, progressDeadlineSeconds=30)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Initialized"
    assert condition(status, "Ready")["reason"] == "ModelNotFound"
    assert condition(status, "ArtifactResolved")["status"] == "False"
    harness.later = timedelta(seconds=40)
    await harness.settle()
    assert (await harness.status())["phase"] == "Failed"
    for name in ("ma", "mb"):
        await harness.model(name)
    await harness.settle()
    assert condition(await harness.status(), "Ready")["reason"] == "WaitingForModel"
    for name in ("ma", "mb"):
        await harness.resolve(name)
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert [item["name"] for item in status["models"]] == ["a", "b"]  # type: ignore[attr-defined]
    # A new version that is not resolved changes nothing that runs.
    uids = {pod.uid for pod in await harness.pods()}
    await harness.model("ma", "v2.0.0")
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Initialized"
    assert condition(status, "Available")["status"] == "True"
    assert {pod.uid for pod in await harness.pods()} == uids


async def test_content_digests_reach_the_status(harness: Harness) -> None:
    said = json.dumps(
        {"result": "ok", "models": [{"name": "resnet50", "contentDigest": "sha256:" + "cd" * 32, "size": 10}]}
    )
    harness.node.behave = always(running(ready=True, pulled=said))
    await harness.apply()
    await harness.settle()
    status = await harness.status()
    assert status["models"][0]["contentDigest"] == "sha256:" + "cd" * 32  # type: ignore[index]
    await harness.apply(replicas=0)
    await harness.settle()
    status = await harness.status()
    assert status["models"][0]["contentDigest"] == "sha256:" + "cd" * 32  # type: ignore[index]


async def test_a_deleted_service_is_forgotten(harness: Harness) -> None:
    harness.node.behave = always(fakenode.pulling())
    await harness.apply()
    await harness.settle()
    assert harness.store.targets()
    await harness.live.delete(PADDLE_SERVICE, harness.key)
    harness.client.writes.clear()
    await harness.once()
    assert harness.store.targets() == []
    assert harness.client.writes == []
    assert not harness.store.put(harness.key, Target(uid="x", ip="y"), Observation(stage="Pulling"))
