"""Updates in running pods on a real API server: told one by one, and nothing else about them changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

import controller_runtime as ctrl
from controllers.caches import TRANSFORMS
from controllers.kinds import ANNOTATION_RELEASE, ANNOTATION_RELEASE_SINCE, ANNOTATION_RELEASE_TOLD
from controllers.probe import Observation

from .harness import Harness, condition, pinned

pytestmark = pytest.mark.apiserver


def test_the_cache_keeps_what_is_read_of_a_config_map() -> None:
    keep = TRANSFORMS[ctrl.CONFIG_MAP]
    assert keep({"data": {"a": "b"}}) == {"data": {"a": "b"}}
    assert keep({"immutable": True, "data": {"a": "b"}}) == {"immutable": True}


class InPlace:
    """The harness with pods that take what they are told, as their annotation and ConfigMap say."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.told: list[str] = []
        self.broken: dict[str, str] = {}

    async def apply(self, version: str = "v1.0.0", **spec: object) -> None:
        models = [{"name": "resnet50", "pinned": pinned(version)}]
        wanted: dict[str, object] = {"replicas": 3, "updateStrategy": {"type": "InPlace"}, "models": models}
        await self.harness.apply("resnet50", **wanted | spec)

    async def config(self) -> dict[str, object]:
        (found,) = await self.harness.live.list_live(ctrl.CONFIG_MAP, namespace=self.harness.namespace)
        data = found.raw["data"]
        assert isinstance(data, dict)
        return {"base": found.annotations.get(ANNOTATION_RELEASE), **data}

    async def report(self) -> bool:
        """Every pod that is asked answers. Whether one of them had news."""
        config = await self.config()
        pods = {pod.uid: pod for pod in await self.harness.pods()}
        news = False
        for key, target in self.harness.store.targets():
            pod = pods.get(target.uid)
            if pod is None:
                continue
            word = pod.annotations.get(ANNOTATION_RELEASE, "")
            if word and word not in self.told:
                self.told.append(word)
            text = config.get(f"models-{word}.yaml") or config["models.yaml"]
            release = yaml.safe_load(str(text))["revision"]
            reason = self.broken.get(release, "")
            said = Observation(
                stage="Ready",
                release=release,
                release_state="Failed" if reason else "Done",
                release_reason=reason,
                release_message="no room" if reason else "",
            )
            news = self.harness.store.put(key, target, said) or news
        return news

    async def settle(self) -> None:
        for _ in range(60):
            before = len(self.harness.client.writes)
            await self.harness.once()
            moved = await self.harness.node.step()
            news = await self.report()
            if not moved and not news and len(self.harness.client.writes) == before:
                return
        raise AssertionError(f"not settled: {self.harness.client.writes[-8:]}")

    async def words(self) -> list[str]:
        return [pod.annotations.get(ANNOTATION_RELEASE, "") for pod in await self.harness.pods()]


@pytest.fixture
async def inplace(harness: Harness) -> InPlace:
    found = InPlace(harness)
    await found.apply()
    await found.settle()
    return found


async def test_a_new_version_reaches_pod_after_pod_and_no_pod_is_new(inplace: InPlace) -> None:
    harness = inplace.harness
    before = {pod.uid for pod in await harness.pods()}
    first = await inplace.config()
    assert (await harness.status())["models"][0]["version"] == "v1.0.0"  # type: ignore[index]
    harness.client.writes.clear()
    await inplace.apply("v2.0.0")
    seen: list[int] = []
    while (await inplace.config())["base"] == first["base"]:
        await harness.once()
        status = await harness.status()
        assert status["phase"] == "Ready"
        release = status["inPlace"]["release"]  # type: ignore[index]
        told = (await inplace.words()).count(release)
        seen.append(told)
        if told == 1:
            assert status["models"][0]["version"] == "v1.0.0"  # type: ignore[index]
            assert condition(status, "Progressing")["reason"] == "ReleasingInPlace"
            # The others wait until this one has answered, however often it is looked.
            await harness.once()
            await harness.once()
            assert (await inplace.words()).count(release) == 1
        await inplace.report()
        assert len(seen) < 40
    assert sorted(set(seen)) == [0, 1, 2, 3]
    await inplace.settle()
    status = await harness.status()
    assert status["models"][0]["version"] == "v2.0.0"  # type: ignore[index]
    assert status["message"] == "3 of 3 pods ready, serving resnet50 v2.0.0"
    assert status["inPlace"] == {"release": release, "base": release}
    assert condition(status, "Progressing")["reason"] == "Complete"
    assert {pod.uid for pod in await harness.pods()} == before
    assert not [write for write in harness.client.writes if write.startswith(("create", "scale", "delete"))]
    harness.client.writes.clear()
    harness.start()  # a new process sees nothing to do
    await inplace.settle()
    assert harness.client.writes == []
    # A new pod starts with the new version.
    await inplace.apply("v2.0.0", replicas=4)
    await inplace.settle()
    assert sorted(await inplace.words()) == ["", release, release, release]
    assert yaml.safe_load(str((await inplace.config())["models.yaml"]))["models"][0]["version"] == "v2.0.0"


async def test_a_pod_without_room_stops_it_and_the_old_version_takes_it_back(inplace: InPlace) -> None:
    harness = inplace.harness
    base = (await inplace.config())["base"]
    await inplace.apply("v2.0.0")
    await harness.once()
    target = (await harness.status())["inPlace"]["release"]  # type: ignore[index]
    inplace.broken[target] = "InsufficientMemory"
    await inplace.settle()
    status = await harness.status()
    assert (status["phase"], status["display"]["canary"]) == ("Ready", "in place 0/3")  # type: ignore[index]
    assert condition(status, "Degraded")["reason"] == "InsufficientMemory"
    assert "keeps what it has: InsufficientMemory: no room" in str(status["message"])
    states = sorted(pod["state"] for pod in status["inPlace"]["pods"])  # type: ignore[index]
    assert states == ["Failed", "Waiting", "Waiting"]
    assert (await inplace.words()).count(target) == 1
    await inplace.apply("v1.0.0")
    await inplace.settle()
    status = await harness.status()
    assert sorted(await inplace.words()) == ["", "", base]
    assert status["inPlace"] == {"release": base, "base": base}
    assert condition(status, "Degraded")["status"] == "False"
    assert set(await inplace.config()) == {"base", "models.yaml", f"models-{base}.yaml"}


async def test_a_kubelet_that_missed_the_config_is_asked_again(inplace: InPlace) -> None:
    harness = inplace.harness
    await inplace.apply("v2.0.0")
    await harness.once()
    await harness.once()
    base = (await inplace.config())["base"]
    (pod,) = [pod for pod in await harness.pods() if ANNOTATION_RELEASE in pod.annotations]
    ((key, target),) = [(k, t) for k, t in harness.store.targets() if t.uid == pod.uid]
    harness.store.put(key, target, Observation(stage="Ready", release=str(base), release_state="Done"))
    harness.client.writes.clear()
    assert (await harness.once()).requeue_after is not None
    assert f"patch {pod.name}" not in harness.client.writes
    harness.later = timedelta(seconds=10)
    await harness.once()
    assert f"patch {pod.name}" in harness.client.writes
    told = next(now for now in await harness.pods() if now.uid == pod.uid).annotations
    assert told[ANNOTATION_RELEASE] == pod.annotations[ANNOTATION_RELEASE]
    assert told[ANNOTATION_RELEASE_TOLD] > pod.annotations[ANNOTATION_RELEASE_TOLD]
    assert told[ANNOTATION_RELEASE_SINCE] == pod.annotations[ANNOTATION_RELEASE_SINCE]
    # It is not asked for ever: the deadline counts from the first time.
    harness.later = timedelta(seconds=700)
    await harness.once()
    status = await harness.status()
    assert condition(status, "Degraded")["reason"] == "ProgressDeadlineExceeded"
    (late,) = [one for one in status["inPlace"]["pods"] if one["state"] == "Failed"]  # type: ignore[index]
    assert (late["name"], late["reason"]) == (pod.name, "ProgressDeadlineExceeded")


async def test_what_a_pod_cannot_change_makes_new_pods(inplace: InPlace) -> None:
    harness = inplace.harness
    before = {pod.uid for pod in await harness.pods()}
    await inplace.apply("v1.0.0", resources={"limits": {"memory": "4Gi"}})
    for _ in range(60):
        await harness.once()
        await harness.node.step()
        if len(await harness.deployments()) == 2 and min((await harness.deployments()).values()) == 0:
            break
    assert not {pod.uid for pod in await harness.pods() if not pod.deleting} & before
