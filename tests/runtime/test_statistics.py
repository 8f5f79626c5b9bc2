from __future__ import annotations

from runtime.telemetry.statistics import Statistics
from tests.runtime.conftest import Running


def test_requests_and_rows_and_runs_are_counted_apart() -> None:
    statistics = Statistics()
    statistics.ran(6, 3, 0.5, (10, 100, 20))
    statistics.ran(1, 1, 0.25, (1, 2, 3))
    statistics.answered(True, 0.001)
    statistics.answered(False, 0.002)
    wire = statistics.to_wire("m", "v1")
    assert wire.pop("last_inference") > 1e12  # type: ignore[operator]  # milliseconds since the epoch
    assert wire == {
        "name": "m",
        "version": "v1",
        "inference_count": 7,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 1, "ns": 1_000_000},
            "fail": {"count": 1, "ns": 2_000_000},
            "queue": {"count": 4, "ns": 750_000_000},
            "compute_input": {"count": 4, "ns": 31},
            "compute_infer": {"count": 4, "ns": 302},
            "compute_output": {"count": 4, "ns": 63},
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": 1, "ns": times[0]},
                "compute_infer": {"count": 1, "ns": times[1]},
                "compute_output": {"count": 1, "ns": times[2]},
            }
            for rows, times in ((1, (1, 2, 3)), (6, (10, 100, 20)))
        ],
    }


def test_the_number_of_sizes_has_an_end() -> None:
    statistics = Statistics()
    for rows in range(1, 1001):
        statistics.ran(rows, 1, 0.0, (1, 1, 1))
    assert statistics.runs == 1000
    assert len(statistics.batches) == 256


def counts(server: Running, path: str) -> dict[str, object]:
    (found,) = server.get(path).json["model_stats"]  # type: ignore[misc]
    return dict(found)


def test_statistics_over_rest(server: Running) -> None:
    before = counts(server, "/v2/models/lin/stats")
    assert server.post("/predict", {"model": "lin", "inputs": {"x": [[1, 2, 3], [4, 5, 6]]}}).status == 200
    assert server.post("/predict", {"model": "lin", "inputs": {}}).status == 400
    after = counts(server, "/v2/models/lin/versions/v1.2.3/stats")
    assert after["inference_count"] == int(str(before["inference_count"])) + 2
    old, new = before["inference_stats"], after["inference_stats"]
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert new["fail"]["count"] == old["fail"]["count"] + 1
    assert new["success"]["count"] == old["success"]["count"] + 1
    assert new["compute_infer"]["ns"] > old["compute_infer"]["ns"]
    both = server.get("/v2/models/stats").json["model_stats"]
    assert [one["name"] for one in both] == ["lin", "two"]  # type: ignore[attr-defined]
    assert server.get("/v2/models/none/stats").status == 404


def test_the_repository_index(server: Running) -> None:
    lin = {"name": "lin", "version": "v1.2.3", "state": "READY", "reason": ""}
    for body in (b"", b'{"ready": true}'):
        got = server.post("/v2/repository/index", body)
        assert got.status == 200
        assert got.json == [lin, {**lin, "name": "two"}]
    assert server.post("/v2/repository/index", {"ready": 1}).status == 400
    assert server.get("/v2/repository/index").status == 405
