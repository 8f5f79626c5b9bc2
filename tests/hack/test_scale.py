"""The scale run's own arithmetic and stand-ins; the run itself is `make scale`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

import controller_runtime as ctrl
from artifacts import Credentials, EndpointPolicy, resolve, s3_source
from hack.bench.scale.measure import Models, samples, writes
from hack.bench.scale.report import Figures
from hack.bench.scale.store import tiny_store
from hack.bench.scale.world import HERE, KWOK, PODS_ADDRESS

FIGURES = Figures(
    models=101,
    ready=101,
    seconds=10.0,
    cpu=3.0,
    empty=60.0,
    resident=67.0,
    peak=70.0,
    objects={"PaddleModel.serving.paddlepaddle.org": 101, "Pod": 795},
    cache_bytes=2**20,
    newcomer=2.0,
    behind_newcomer=12,
    backlog_writes={"create services": 202},
    shares={"etcd": 1.0},
    restarts=0,
    settling=1.0,
    idle=600.0,
    idle_cpu=0.1,
    idle_writes={},
    restart=2.0,
    restart_cpu=1.0,
    restart_resident=66.0,
    restart_writes={},
    probes=5,
)


async def test_the_tiny_store_is_an_object_store_to_those_who_resolve() -> None:
    async with tiny_store() as endpoint:
        source = s3_source(bucket="models", key="net & co/v1.0.0/", endpoint=endpoint)
        policy = EndpointPolicy(allow=("127.0.0.1",))
        found = await resolve(source, Credentials(access_key="a", secret_key="b"), policy=policy)
        other = s3_source(bucket="models", key="other/", endpoint=endpoint)
        assert found.digest != (await resolve(other, Credentials(), policy=policy)).digest
    assert sorted(file.path for file in found.files) == ["inference.json", "inference.pdiparams"]


def test_samples_of_a_scrape_are_told_apart_by_all_their_labels() -> None:
    text = (
        '# TYPE depth gauge\ndepth{name="a",priority="0"} 2\ndepth{name="a",priority="-100"} 3\nother 1\n'
        '# TYPE made counter\nmade_total{kind="Pod"} 7\n'
    )
    assert samples(text, "depth") == {"a/0": 2.0, "a/-100": 3.0}
    assert samples(text, "made_total") == {"Pod": 7.0}


def event(verb: str, resource: str, name: str, subresource: str = "") -> dict[str, object]:
    return {"verb": verb, "objectRef": {"resource": resource, "name": name, "subresource": subresource}}


def test_writes_leave_the_lease_out_and_what_is_said_of_it() -> None:
    events = [
        event("update", "leases", "paddle-operator"),
        event("create", "events", "paddle-operator.18a"),
        event("create", "events", "m1.18a"),
        event("patch", "paddlemodels", "m1", "status"),
        event("patch", "paddlemodels", "m2", "status"),
    ]
    assert writes(events, "paddle-operator") == {"create events": 1, "patch paddlemodels/status": 2}


def model(name: str, phase: str, *, generation: int = 1, seen: int = 1) -> ctrl.Object:
    raw = {
        "metadata": {"name": name, "generation": generation},
        "status": {"phase": phase, "observedGeneration": seen},
    }
    return ctrl.Object(raw, ctrl.CONFIG_MAP)


def test_a_model_counts_as_ready_at_its_newest_generation_only() -> None:
    models = Models()
    models.on_add(model("a", "Ready"), True)
    models.on_add(model("b", "Ready", generation=2), True)
    models.on_add(model("c", ""), True)
    assert list(models.ready) == ["a"]
    models.on_update(model("a", "Ready"), model("a", "Failed"))
    assert list(models.ready) == []
    assert models.summary() == "Failed 1, Ready 1, new 1"
    models.on_delete(model("a", "Failed"), False)
    assert models.phases == {"b": "Ready", "c": ""}


def test_each_bar_can_miss() -> None:
    assert [bar.holds for bar in FIGURES.bars()] == [True] * 6
    worse = dataclasses.replace(
        FIGURES,
        ready=100,
        resident=67.1,
        restart_resident=67.1,
        idle_writes={"patch deployments": 1},
        restart_writes={"create events": 1},
        behind_newcomer=0,
    )
    assert [bar.holds for bar in worse.bars()] == [False] * 6
    assert "misses" in str(worse.bars()[0])


def test_the_figures_are_kept(tmp_path: Path) -> None:
    path = FIGURES.write(tmp_path / "bench" / "scale.json", FIGURES.bars(), {"models": 100}, "a machine")
    kept = json.loads(path.read_text())
    assert kept["settings"] == {"models": 100}
    assert kept["figures"]["objects"]["Pod"] == 795
    assert kept["bars"][0] == {
        "name": "models Ready",
        "value": 101,
        "limit": 101,
        "unit": "models",
        "least": True,
        "holds": True,
    }
    assert "writes: none" in FIGURES.text()


def test_kwok_is_pinned_and_its_pods_are_where_the_stub_listens() -> None:
    assert KWOK.version.startswith("v0.")
    stages = list(yaml.safe_load_all((HERE / "stages.yaml").read_text()))
    assert [item["kind"] for item in stages] == ["KwokConfiguration", "Stage", "Stage", "Stage"]
    assert "podIP: ADDRESS" in stages[2]["spec"]["next"]["statusTemplate"]
    assert PODS_ADDRESS.startswith("127.")
