"""Children that lose the labels they are found by are found again; on a real API server."""

import pytest

import controller_runtime as ctrl
from controllers.kinds import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_REVISION, LABEL_SERVICE

from .harness import Harness, pinned

pytestmark = pytest.mark.apiserver

KINDS = (ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.DEPLOYMENT, ctrl.PDB, ctrl.NETWORK_POLICY)


async def strip(harness: Harness, kind: ctrl.Kind, key: ctrl.Key, *labels: str) -> None:
    patch = {"metadata": {"labels": dict.fromkeys(labels)}}
    await harness.live.patch(kind, key, patch, type="merge")


@pytest.mark.parametrize("label", [LABEL_MANAGED_BY, LABEL_SERVICE, LABEL_REVISION])
async def test_a_label_that_is_gone_comes_back(harness: Harness, label: str) -> None:
    await harness.apply()
    await harness.settle()
    made = [
        item
        for kind in KINDS
        for item in await harness.live.list_live(kind, namespace=harness.namespace)
        if item.labels.get(label)
    ]
    assert made
    for item in made:
        await strip(harness, item.kind, item.key, label)
    await harness.settle()
    for item in made:
        there = await harness.live.get_live(item.kind, item.key)
        assert there is not None
        assert there.uid == item.uid
        assert there.labels == item.labels, item.kind
    assert (await harness.status())["phase"] == "Ready"


async def test_an_old_revision_without_its_label_is_replaced_all_the_same(harness: Harness) -> None:
    await harness.apply()
    await harness.settle()
    first = (await harness.status())["stableRevision"]
    key = ctrl.Key(harness.namespace, f"resnet50-{first}")
    await strip(harness, ctrl.DEPLOYMENT, key, LABEL_MANAGED_BY, LABEL_REVISION)
    await harness.apply(models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
    await harness.settle()
    status = await harness.status()
    assert status["phase"] == "Ready"
    assert await harness.deployments() == {first: 0, status["stableRevision"]: 1}
    old = await harness.live.get_live(ctrl.DEPLOYMENT, key)
    assert old is not None
    assert old.labels[LABEL_MANAGED_BY] == FIELD_MANAGER


async def test_labels_of_what_is_not_ours_stay(harness: Harness) -> None:
    meta = {"name": "resnet50", "namespace": harness.namespace, "labels": {"app": "theirs"}}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}}
    before = await harness.live.create(body)
    await harness.apply()
    await harness.settle()
    after = await harness.live.get_live(ctrl.SERVICE, before.key)
    assert after is not None
    assert after.raw == before.raw
