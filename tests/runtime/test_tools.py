"""`inspect` and `bench`: what they say, and that it is true."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.__main__ import main
from runtime.bench import Measured, Options, histogram, percentile, plot, request, summary
from tests.runtime.conftest import Running
from tests.support.models import write_onnx


def test_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_onnx(tmp_path / "net")
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "inputs    x FP32 [-1, 3]\noutputs   y FP32 [-1, 2]\nengines   onnxruntime: loads in" in text
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert main(["inspect", str(tmp_path / "bad.onnx"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["engines"]["onnxruntime"]["loads"] is False
    assert found["engines"]["onnxruntime"]["reason"].startswith("CorruptModel: ")
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_paddle_folder(nets: Mapping[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(nets["linear"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["framework"], found["engines"]["native"]["loads"]) == ("paddle", True)
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert found["bytes"] == sum(file.stat().st_size for file in nets["linear"].iterdir())
    assert set(found["engines"]) == {"native", "onednn"}


def test_a_bench_of_a_running_server(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://{}:{}".format(*server.http)
    short = ["--seconds", "0.3", "--warm-up", "0", "--concurrency", "2", "--rows", "2"]
    assert main(["bench", "--url", url, "--model", "lin", *short, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["codes"] == {"200": found["requests"]}
    assert sum(bucket["count"] for bucket in found["histogram"]) == found["requests"] > 0
    assert found["milliseconds"]["p50"] <= found["milliseconds"]["p99"] <= found["milliseconds"]["max"]
    assert main(["bench", "--url", url, "--model", "two", *short]) == 0
    assert "codes {'200': " in capsys.readouterr().out
    assert main(["bench", "--url", url, "--model", "none", *short]) == 2
    assert "/v2/models/none answers 404" in capsys.readouterr().err
    assert main(["bench", "--url", "ftp://x", "--model", "m"]) == 2
    assert main(["bench", "--model", "m", "--rows", "0"]) == 2


@given(st.lists(st.floats(1e-6, 100.0), min_size=1))
def test_buckets_hold_every_latency_once(latencies: list[float]) -> None:
    buckets = histogram(latencies)
    assert sum(count for _, _, count in buckets) == len(latencies)
    assert buckets[0][2] > 0
    assert buckets[-1][2] > 0
    for (_, high, _), (low, _, _) in pairwise(buckets):
        assert high == low
    ordered = sorted(latencies)
    assert percentile(ordered, 1.0) == ordered[-1]
    assert percentile(ordered, 0.5) in ordered
    assert len(plot(Measured(seconds=1.0, latencies=latencies)).splitlines()) == len(buckets)


def test_nothing_measured_is_no_error() -> None:
    found = summary(Options(model="m"), Measured(seconds=0.0, codes=Counter({0: 2})))
    assert (found["requests"], found["perSecond"], found["histogram"]) == (2, 0.0, [])
    assert plot(Measured(seconds=1.0)) == ""


def test_open_dimensions_are_filled() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1]}
    message = request(Options(model="m", rows=2, length=5), "h", {"inputs": [tensor]})
    head, _, body = message.partition(b"\r\n\r\n")
    length = int(head.split(b"Inference-Header-Content-Length: ")[1].split(b"\r\n")[0])
    assert json.loads(body[:length])["inputs"][0]["shape"] == [2, 3, 5]
    assert len(body) - length == 2 * 3 * 5 * 4
