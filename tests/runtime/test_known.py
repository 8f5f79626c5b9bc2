"""What was measured with a network holds for its next weights, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runtime.frames import Op
from runtime.worker.formats import find
from runtime.worker.known import Known, Second, key_of
from tests.runtime.conftest import WorkerClient

REPORT: Mapping[str, object] = {
    "key": "abc",
    "engine": "native",
    "threads": 1,
    "second": {"engine": "onednn", "threads": 2, "rows": 3},
    "batching": {"maxRows": 8, "reason": "", "difference": 0.5, "seconds": {"1": 0.1, "8": 0.4}},
    "candidates": {"native/1": 0.1},
}


def test_a_report_is_believed_for_its_own_key_only() -> None:
    known = Known.of(REPORT, "abc")
    assert known is not None
    assert (known.engine, known.threads, known.batching.seconds) == ("native", 1, {1: 0.1, 8: 0.4})
    assert known.second == Second(engine="onednn", threads=2, rows=3)
    assert known.second.to_wire() == REPORT["second"]
    assert Known.of(REPORT, "other") is None
    assert Known.of({**REPORT, "key": ""}, "") is None
    assert Known.of({}, "abc") is None
    alone = Known.of({**REPORT, "second": None}, "abc")
    assert alone is not None
    assert alone.second is None


def test_the_key_is_the_program_and_what_was_asked(nets: Mapping[str, Path], onnx_net: Path) -> None:
    def key(name: str, asked: object = None) -> str:
        return key_of(find(nets[name], "paddle"), asked)

    assert key("linear") == key("linear2") != ""
    assert len({key("linear"), key("two"), key("pdmodel"), key("linear", {"threads": 2})}) == 4
    assert key_of(find(onnx_net, "onnx"), None) == ""


@pytest.mark.parametrize("batches", [8, 1])
def test_a_worker_takes_over_what_another_one_found(
    worker: Callable[..., WorkerClient], nets: Mapping[str, Path], batches: int
) -> None:
    client = worker()
    op, first = client.load(nets["linear"], engine="native", maxRows=batches)
    assert (op, first["candidates"]) == (Op.READY, {"native/1": pytest.approx(0, abs=60)})
    found = {**first, "candidates": {"native/9": 9.0}}
    client.progress.clear()
    op, second = client.load(nets["linear2"], engine="native", maxRows=batches, found=found)
    assert op is Op.READY
    assert second["candidates"] == found["candidates"]  # it did not measure
    before, after = first["batching"], second["batching"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert {**after, "difference": 0} == {**before, "difference": 0}
    assert second["key"] == first["key"]
    assert client.progress == [("Loading", "native"), ("WarmingUp", "native")]
    # Another order is another key: it measures.
    op, third = client.load(nets["linear2"], engine="native", maxRows=4, found=found)
    assert op is Op.READY
    assert third["candidates"] != found["candidates"]


def test_a_pair_is_taken_over(worker: Callable[..., WorkerClient], nets: Mapping[str, Path]) -> None:
    client = worker()
    _, first = client.load(nets["lenet"], engine="auto")
    pair = {"engine": "onednn", "threads": 1, "rows": 2}
    known = {**first, "engine": "native", "threads": 1, "second": pair}
    known["batching"] = {"maxRows": 8, "reason": "", "difference": 0, "seconds": {"1": 1.0, "8": 2.0}}
    op, second = client.load(nets["lenet"], engine="auto", found=known)
    assert op is Op.READY
    assert (second["engine"], second["batchEngine"], second["second"]) == (
        "native",
        "onednn from 2 rows",
        pair,
    )
    assert client.held() == 2
    stats = client.shutdown()
    assert stats["created"] == stats["destroyed"]
