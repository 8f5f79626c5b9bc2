"""The control-plane benchmark's own arithmetic; the runs themselves are `make bench-control-plane`."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

import pytest

from hack.bench.control_plane.__main__ import main
from hack.bench.control_plane.measure import parse_requests, usage
from hack.bench.control_plane.phases import Outcome
from hack.bench.control_plane.report import PHASES, Report

METRICS = """
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="samples",subresource="status",verb="APPLY"} 7
apiserver_request_total{code="409",resource="samples",subresource="status",verb="APPLY"} 2
apiserver_request_total{code="201",resource="configmaps",subresource="",verb="APPLY"} 5
apiserver_request_total{code="200",resource="leases",subresource="",verb="PUT"} 99
"""


def test_requests_are_summed_by_verb_and_resource_and_the_servers_own_left_out() -> None:
    assert parse_requests(METRICS) == {("APPLY", "samples/status"): 9, ("APPLY", "configmaps"): 5}


def test_usage_of_this_process() -> None:
    found = usage(os.getpid())
    assert found.cpu > 0
    assert found.peak >= found.resident > 10


def outcome(name: str, wall: float, cpu: float, requests: int) -> Outcome:
    return Outcome(
        contender=name,
        wall=dict.fromkeys(PHASES, wall),
        cpu=dict.fromkeys((*PHASES, "idle"), cpu),
        server_cpu=dict.fromkeys(PHASES[:3], cpu),
        latency={f"storm {quantile}": wall for quantile in ("p50", "p99")},
        requests={"APPLY configmaps": requests},
    )


def test_bars_compare_medians_and_go_s_cpu_has_a_quarter_of_slack(tmp_path: Path) -> None:
    runs = [
        *(outcome("ours", wall, 1.2, 10) for wall in (9.0, 2.0, 2.0)),
        *(outcome("go", 2.0, 1.0, 10) for _ in range(3)),
        *(outcome("kopf", 4.0, 1.1, 15) for _ in range(3)),
    ]
    versions = {"ours": "1", "go": "2", "kopf": "3"}
    report = Report(versions=versions, settings={"idle": 100.0, "objects": 10}, outcomes=runs)
    bars = report.bars(statistics.median)
    missed = {bar.name for bar in bars if not bar.holds}
    assert missed == {"idle CPU of one core", *(f"{phase} CPU, ours <= kopf's" for phase in PHASES)}
    assert "misses" in str(next(bar for bar in bars if not bar.holds))
    written = json.loads(report.write(tmp_path / "sub" / "figures.json", bars).read_text())
    assert len(written["runs"]) == 9
    assert len(report.table().splitlines()) == 10


def test_it_refuses_a_busy_machine_and_unknown_contenders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--load", "0.0000001"]) == 2
    assert "others are busy here" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--contenders", "ours,rust"])
