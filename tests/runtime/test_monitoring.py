"""Alert rules and dashboard: readable to Prometheus, about metrics that a real server has, and right."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.prometheus import ensure
from tests.runtime.conftest import ROOT, Running, entry, serving, wait_for
from tests.runtime.test_nvml import NVML

FOLDER = ROOT / "config/prometheus"
MODEL = {"paddle_namespace": "n", "paddle_service": "s", "model": "m"}
SERVICE = {"paddle_namespace": "n", "paddle_service": "s"}
GPU = {**SERVICE, "gpu": "0", "uuid": "GPU-1"}
# What Prometheus itself and the language add to a series' own labels.
FOREIGN = {"le", "namespace", "pod", "instance", "job", "container"}


def promtool(*arguments: str | Path) -> str:
    got = subprocess.run(
        [ensure() / "promtool", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert got.returncode == 0, got.stdout + got.stderr
    return got.stdout


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as Prometheus reads them."""
    manifest = yaml.safe_load((FOLDER / "runtime_rules.yaml").read_text())
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(yaml.safe_dump(manifest["spec"]))
    return path


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "runtime_dashboard.json").read_text())
    return found


def alerts(rules: Path) -> dict[str, dict[str, Any]]:
    return {r["alert"]: r for group in yaml.safe_load(rules.read_text())["groups"] for r in group["rules"]}


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every expression of the dashboard, its variables filled in."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for name in ("namespace", "service", "model"):
        found = [query.replace(f"${name}", ".*") for query in found]
    return [query.replace("$__rate_interval", "1m") for query in found]


def series(name: str, values: str, labels: Mapping[str, str]) -> dict[str, str]:
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{pairs}}}", "values": values}


def requests(**by_code: str) -> list[dict[str, str]]:
    return [
        series("inference_request_total", values, {**MODEL, "status_code": code[1:]})
        for code, values in by_code.items()
    ]


def latency(within: str, all_: str) -> list[dict[str, str]]:
    name = "inference_latency_seconds_bucket"
    return [
        series(name, within, {**MODEL, "le": "0.2"}),
        series(name, all_, {**MODEL, "le": "0.5"}),
        series(name, all_, {**MODEL, "le": "+Inf"}),
        series("inference_latency_sla_seconds", "0.2x60", MODEL),
    ]


def gpu(errors: str, seen: str) -> list[dict[str, str]]:
    return [
        series("gpu_scrape_errors_total", errors, SERVICE),
        series("gpu_memory_total_bytes", seen, GPU),
    ]


def reloaded(values: str, result: str) -> list[dict[str, str]]:
    return [series("inference_model_reload_total", values, {**RELOAD, "result": result})]


RELOAD = {**MODEL, "reason": "ChecksumMismatch"}
REVISION = {**MODEL, "revision": "ab12cd34"}
DEAD = {**MODEL, "reason": "OutOfMemory"}
CASES: list[tuple[str, list[dict[str, str]], str, dict[str, str] | None]] = [
    ("PaddleModelFailing", requests(_200="0+90x60", _500="0+10x60"), "9m", MODEL),
    ("PaddleModelFailing", requests(_200="0+97x60", _503="0+3x60"), "9m", None),
    ("PaddleModelFailing", requests(_200="0+50x60", _400="0+30x60", _499="0+20x60"), "9m", None),
    ("PaddleModelSlow", latency("0+90x60", "0+100x60"), "12m", MODEL),
    ("PaddleModelSlow", latency("0+97x60", "0+100x60"), "12m", None),
    ("PaddleModelOverloaded", requests(_200="0+90x60", _429="0+10x60"), "9m", MODEL),
    ("PaddleModelOverloaded", requests(_200="0+99x60", _429="0+1x60"), "9m", None),
    ("PaddleModelNotLoaded", [series("model_load_success", "0x60", REVISION)], "20m", REVISION),
    ("PaddleModelNotLoaded", [series("model_load_success", "0x10 1x50", REVISION)], "20m", None),
    (
        "PaddleModelNotLoaded",
        [
            series("model_load_success", "1x20 0x40", {**REVISION, "model_version": "v1", "instance": "a"}),
            series("model_load_success", "0x20 1x40", {**REVISION, "model_version": "v2", "instance": "a"}),
        ],
        "50m",
        None,  # it was replaced, and the new one serves
    ),
    (
        "PaddleModelNotLoaded",
        [
            series("model_load_success", "1x60", {**REVISION, "instance": "a"}),
            series("model_load_success", "0x60", {**REVISION, "instance": "b"}),
        ],
        "20m",
        REVISION,
    ),
    ("PaddleReloadFailed", reloaded("_x5 1x50", "failed"), "8m", RELOAD),
    ("PaddleReloadFailed", reloaded("1x20 2x40", "failed"), "25m", RELOAD),
    ("PaddleReloadFailed", reloaded("1x60", "failed"), "40m", None),  # it has been told
    ("PaddleReloadFailed", reloaded("0+1x60", "succeeded"), "30m", None),
    ("PaddleWorkersDying", [series("inference_worker_restarts_total", "0+1x60", DEAD)], "20m", DEAD),
    ("PaddleWorkersDying", [series("inference_worker_restarts_total", "0x10 1x50", DEAD)], "20m", None),
    ("PaddleGPUMemoryFull", [series("gpu_memory_utilization", "0.97x60", GPU)], "15m", GPU),
    ("PaddleGPUMemoryFull", [series("gpu_memory_utilization", "0.9x60", GPU)], "15m", None),
    ("PaddleGPULost", gpu("0x20 0+4x40", "1x20"), "30m", SERVICE),
    ("PaddleGPULost", gpu("0+4x60", "_x60"), "30m", None),  # there never was one
]


def test_promtool_finds_no_fault(rules: Path, dashboard: dict[str, Any]) -> None:
    assert f"{len(alerts(rules))} rules found" in promtool("check", "rules", rules)
    recorded = [{"record": f"panel:{i}", "expr": query} for i, query in enumerate(queries(dashboard))]
    assert len(recorded) >= 20
    path = rules.parent / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", path)


def test_each_alert_fires_when_it_should_and_else_not(rules: Path) -> None:
    known = alerts(rules)
    assert {case[0] for case in CASES} == set(known)
    tests = []
    for alert, given, at, labels in CASES:
        expected = []
        if labels is not None:
            rule = known[alert]
            texts = {name: filled(text, labels) for name, text in rule["annotations"].items()}
            expected = [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": texts}]
        check = {"eval_time": at, "alertname": alert, "exp_alerts": expected}
        tests.append({"interval": "1m", "input_series": given, "alert_rule_test": [check]})
    path = rules.parent / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", path)


def filled(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)


@pytest.fixture(scope="module")
def scraped(nets: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with an SLA and a GPU, so that nothing is left out."""
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "sitecustomize.py").write_text(NVML)
    config = folder / "models.yaml"
    model = entry("lin", nets["linear"], engine="native", latencySLAMilliseconds=200)
    config.write_text(
        yaml.safe_dump(
            {"schema": 1, "service": "s", "namespace": "n", "revision": "ab12cd34", "models": [model]}
        )
    )
    env = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    with serving("--config", str(config), "--models", str(folder), env=env) as server:
        wait_for(lambda: b'uuid="GPU-aaaa"' in server.get("/metrics", admin=True).body)
        assert server.metric('gpu_utilization{gpu="0"') == 0.37
        assert server.metric('gpu_memory_utilization{gpu="0"') == 0.75
        assert server.metric("gpu_scrape_errors_total{") == 0
        yield server


def test_every_metric_and_label_that_is_used_exists(
    rules: Path, dashboard: dict[str, Any], scraped: Running
) -> None:
    text = scraped.get("/metrics", admin=True).body.decode()
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    names |= {name + part for name in list(names) for part in ("_bucket", "_sum", "_count")}
    labels = {label for line in text.splitlines() for label in re.findall(r'[{,](\w+)="', line)}
    # Of series that are there only once a worker has died or a model was replaced.
    labels |= {"reason", "result"}
    used = [rule["expr"] for rule in alerts(rules).values()] + queries(dashboard)
    used += [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    for expression in used:
        metrics = set(re.findall(r"\b((?:inference|gpu|model)_[a-z_]+)\b", expression)) - labels
        assert metrics, expression
        assert metrics <= names, f"{metrics - names} in {expression}"
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        matched = re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression)
        wanted = {label.strip() for group in grouped for label in group.split(",")} | set(matched)
        assert wanted <= labels | FOREIGN, f"{wanted - labels - FOREIGN} in {expression}"
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in labels, panel["title"]


def test_the_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities)
