"""Slow answers, errors and deaths on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime.faults import Fault, allowed, parse
from tests.runtime.conftest import Running, serving
from tests.runtime.test_main import refused

BODY = {"inputs": {"x": [[1, 2, 3]]}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("on", Fault()),
        ("errors=0.1", Fault(errors=0.1)),
        ("latency=0.25, errors=1,exit=3", Fault(latency=0.25, errors=1.0, exit=3.0)),
    ],
)
def test_what_can_be_asked_for(text: str, fault: Fault) -> None:
    assert parse(text) == fault
    assert allowed({"PADDLE_FAULTS": text}) == fault


@pytest.mark.parametrize(
    "text", ["errors=2", "errors=-1", "latency=nan", "latency=", "hang=1", "off", "errors"]
)
def test_what_cannot(text: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        parse(text)


def test_nothing_is_asked_for_by_silence() -> None:
    assert allowed({}) is None
    assert allowed({"PADDLE_FAULTS": ""}) is None


def test_a_server_with_bad_faults_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_FAULTS", "errors=7")
    assert "errors=7.0 must be from 0 to 1" in refused(["--model", "a=/none"], tmp_path, capsys)


def put(running: Running, **fault: float) -> None:
    got = running.request("PUT", "/faults", json.dumps(fault).encode(), admin=True)
    assert got.status == 200, got.body


@pytest.mark.parametrize("way", [(), ("--no-fast-path",)], ids=["fast", "plain"])
def test_faults_are_seen_by_clients_and_by_metrics_and_nothing_else(
    nets: Mapping[str, Path], way: tuple[str, ...]
) -> None:
    model = ("--model", f"lin={nets['linear']}", "--engine", "native")
    with serving(*model, *way, env={"PADDLE_FAULTS": "errors=0.25"}) as running:
        codes = [running.post("/predict", BODY).status for _ in range(16)]
        assert codes == [200, 200, 200, 500] * 4
        assert errors(running) == 4.0

        put(running, latency=0.2)
        before = running.metric("inference_latency_seconds_sum")
        assert running.post("/predict", BODY).status == 200
        assert running.metric("inference_latency_seconds_sum") >= before + 0.2
        assert running.post("/predict", {"inputs": {"x": [[1]]}}).status == 400

        put(running)
        assert {running.post("/predict", BODY).status for _ in range(8)} == {200}
        assert running.get("/faults", admin=True).json == {"errors": 0.0, "latency": 0.0, "exit": 0.0}
        assert running.get("/healthz").status == 200
        for body in (b"{", b"[]", b'{"errors": 3}', b'{"hang": 1}', b'{"errors": "x"}'):
            assert running.request("PUT", "/faults", body, admin=True).status == 400
        assert running.request("POST", "/faults", b"{}", admin=True).status == 405

        put(running, exit=0.05)
        assert running.process.wait(30) == 70


def errors(running: Running) -> float:
    lines = running.get("/metrics", admin=True).body.decode().splitlines()
    found = [line for line in lines if 'model="lin"' in line and 'status_code="500"' in line]
    return float(found[0].rpartition(" ")[2])


def test_without_the_variable_there_is_no_switch(server: Running) -> None:
    assert server.get("/faults", admin=True).status == 404
    assert server.request("PUT", "/faults", b'{"errors": 1}', admin=True).status == 405
