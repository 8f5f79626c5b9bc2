"""The alerts: checked by promtool, and shown histories."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from controllers.canaryanalysis.metrics import AnalysisMetrics
from controllers.paddleservice.metrics import CanaryMetrics
from hack.prometheus import ensure

ROOT = Path(__file__).resolve().parents[3]
Series = dict[str, str]
LABELS = {"paddle_namespace": "n", "paddle_service": "s"}


def _series(name: str, values: str, **labels: str) -> Series:
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{pairs}}}", "values": values}


def _up(value: int, asked: str) -> list[Series]:
    return [
        _series("paddle_prometheus_up", f"{value}x40", server="eu"),
        _series("paddle_prometheus_query_seconds_count", asked, server="eu", result="error"),
    ]


def _paused(why: str) -> list[Series]:
    return [_series("paddle_canary_phase", "1x40", **LABELS, phase="Paused", pause=why)]


def _ended(outcome: str, values: str = "0x5 1x35") -> list[Series]:
    return [_series("paddle_canary_runs_total", values, **LABELS, outcome=outcome)]


def _rolling_back() -> list[Series]:
    return [_series("paddle_canary_phase", "1x40", **LABELS, phase="RollingBack")]


CASES: list[tuple[str, list[Series], str, dict[str, str] | None]] = [
    ("PaddleCanaryPaused", _paused("Inconclusive"), "5m", {**LABELS, "pause": "Inconclusive"}),
    ("PaddleCanaryPaused", _paused("Inconclusive"), "30s", None),
    ("PaddleCanaryPaused", _paused("Step"), "30m", None),
    ("PaddleCanaryPaused", _paused("User"), "30m", None),
    ("PaddleCanaryRolledBack", _ended("AnalysisFailed"), "8m", {**LABELS, "outcome": "AnalysisFailed"}),
    ("PaddleCanaryRolledBack", _ended("AnalysisFailed"), "35m", None),  # it has been told
    ("PaddleCanaryRolledBack", _ended("NoData", "_x5 1x35"), "8m", {**LABELS, "outcome": "NoData"}),
    ("PaddleCanaryRolledBack", _ended("NoData", "_x5 1x35"), "35m", None),
    ("PaddleCanaryRolledBack", _ended("Promoted"), "8m", None),
    ("PaddleCanaryRolledBack", _ended("Aborted"), "8m", None),
    ("PaddleCanaryStuck", _rolling_back(), "35m", LABELS),
    ("PaddleCanaryStuck", _rolling_back(), "10m", None),
    ("PaddleAnalysisBlind", _up(0, "0+6x40"), "9m", {"server": "eu"}),
    ("PaddleAnalysisBlind", _up(1, "0+6x40"), "9m", None),
    ("PaddleAnalysisBlind", _up(0, "6x40"), "9m", None),  # nobody asks it
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as Prometheus reads them."""
    manifest = yaml.safe_load((ROOT / "config/prometheus/operator_rules.yaml").read_text())
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(yaml.safe_dump(manifest["spec"]))
    return path


def _promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [ensure() / "promtool", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_no_fault(rules: Path) -> None:
    assert "5 rules found" in _promtool("check", "rules", rules)


def test_each_alert_fires_when_it_should_and_else_not(rules: Path) -> None:
    alerts = {
        rule["alert"]: rule
        for group in yaml.safe_load(rules.read_text())["groups"]
        for rule in group["rules"]
    }
    tests: list[dict[str, Any]] = []
    for alert, series, at, labels in CASES:
        expected = []
        if labels is not None:
            rule = alerts[alert]
            texts = {name: _filled(text, labels) for name, text in rule["annotations"].items()}
            expected = [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": texts}]
        check = {"eval_time": at, "alertname": alert, "exp_alerts": expected}
        tests.append({"interval": "1m", "input_series": series, "alert_rule_test": [check]})
    path = rules.parent / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
    assert "SUCCESS" in _promtool("test", "rules", path)


def test_the_metrics_of_the_rules_exist(rules: Path) -> None:
    registry = CollectorRegistry()
    AnalysisMetrics(registry)
    CanaryMetrics(registry)
    ours = {family.name for family in registry.collect()}
    names = r"\b(paddle_\w+?)(?:_bucket|_count|_total)?(?=[\[{)]| offset)"
    used = set(re.findall(names, re.sub(r"by \([^)]*\)", "", rules.read_text())))
    assert len(used) == 5
    assert used <= ours


def _filled(text: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found.group(1)], text)
