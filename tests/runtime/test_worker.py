"""The worker process with real models, over its real socket."""

from __future__ import annotations

import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from runtime.frames import TIMES, Op
from runtime.worker.choosing import TINY
from tests.runtime.conftest import WorkerClient, wait_for

Start = Callable[..., WorkerClient]
FP32, INT64 = 11, 9


@pytest.fixture(scope="module")
def shared_worker() -> Iterator[WorkerClient]:
    """One process for most tests: a load closes the model before, so each test starts anew with one."""
    client = WorkerClient()
    yield client
    stats = client.shutdown()
    assert stats["created"] == stats["destroyed"] > 0
    client.close()


@pytest.fixture
def client(shared_worker: WorkerClient) -> WorkerClient:
    shared_worker.progress.clear()
    return shared_worker


@pytest.fixture(scope="module")
def onnx_client() -> Iterator[WorkerClient]:
    client = WorkerClient(preload="onnx")
    yield client
    stats = client.shutdown()
    assert stats["created"] == stats["destroyed"] > 0
    client.close()


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize("name", ["linear", "pdmodel", "__model__"])
@pytest.mark.parametrize("engine", ["native", "onednn"])
def test_every_paddle_format_runs_on_both_engines(
    name: str, engine: str, nets: Mapping[str, Path], client: WorkerClient
) -> None:
    op, ready = client.load(nets[name], engine=engine)
    assert op is Op.READY, ready
    assert ready["engine"] == engine
    assert ready["dropped"] == {}
    done = client.run((FP32, (2, 3), floats(1, 2, 3, 4, 5, 6)))
    assert done.op is Op.DONE, done.payload
    assert done.tensors[0].dims == (2, 2)
    assert client.output(done) == floats(13, 13, 31, 31)
    assert all(ns >= 0 for ns in TIMES.unpack(done.payload))
    assert client.held() == 1


def test_onnx_runs(onnx_net: Path, onnx_client: WorkerClient) -> None:
    op, ready = onnx_client.load(onnx_net, framework="onnx")
    assert op is Op.READY, ready
    assert ready["engine"] == "onnxruntime"
    assert ready["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    done = onnx_client.run((FP32, (1, 3), floats(1, 2, 3)))
    assert onnx_client.output(done) == floats(13, 13)
    assert onnx_client.held() == 1


def test_signature_of_several_inputs_and_outputs(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, ready = client.load(nets["two"])
    assert op is Op.READY, ready
    signature = ready["signature"]
    assert signature["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "ids", "datatype": "INT64", "shape": [-1, 2]},
    ]
    assert [(o["datatype"], o["shape"]) for o in signature["outputs"]] == [
        ("FP32", [-1, 4]),
        ("INT64", [-1, 4]),
    ]
    done = client.run((FP32, (1, 4), floats(0, 1, 2, 3)), (INT64, (1, 2), struct.pack("<2q", 5, 6)))
    assert client.output(done, 0) == floats(1, 3, 5, 7)
    assert client.output(done, 1) == struct.pack("<4q", 5, 6, 5, 6)


def test_what_the_library_refuses_is_a_failed_load(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, error = client.load(nets["clash"])
    assert op is Op.ERROR
    assert error["reason"] == "LoadFailed", error
    assert "More than one shadow output named with ids" in str(error["message"])
    assert client.held() == 0


def test_a_window_that_is_too_small_says_what_it_needs(
    nets: Mapping[str, Path], client: WorkerClient
) -> None:
    client.load(nets["linear"])
    answer = client.run((FP32, (40, 3), floats(*range(120))), window=64)
    assert answer.op is Op.ERROR
    assert b'"need": 320' in answer.payload
    assert client.run((FP32, (40, 3), floats(*range(120))), window=320).op is Op.DONE


def test_an_input_the_network_refuses_is_the_callers_fault_and_nothing_breaks(
    nets: Mapping[str, Path], client: WorkerClient
) -> None:
    client.load(nets["embedding"])
    answer = client.run((INT64, (1, 4), struct.pack("<4q", 1, 2, 3, 99)))
    assert answer.op is Op.ERROR
    assert b'"kind": "invalid"' in answer.payload, answer.payload
    assert client.run((INT64, (1, 4), struct.pack("<4q", 1, 2, 3, 4))).op is Op.DONE


def test_loading_again_closes_the_model_before(nets: Mapping[str, Path], client: WorkerClient) -> None:
    for name in ("linear", "linear2", "linear"):
        op, ready = client.load(nets[name])
        assert op is Op.READY, ready
    assert client.held() == 1


def test_progress_tells_stage_and_engine(nets: Mapping[str, Path], client: WorkerClient) -> None:
    client.load(nets["linear"], engine="onednn")
    assert client.progress == [("Loading", "onednn"), ("WarmingUp", "onednn")]


def test_auto_measures_the_engines_and_keeps_the_quickest(
    nets: Mapping[str, Path], client: WorkerClient
) -> None:
    op, ready = client.load(nets["lenet"])
    assert op is Op.READY, ready
    measured = ready["candidates"]
    assert isinstance(measured, dict)
    assert set(measured) == {"native/1", "onednn/1"}
    assert measured[f"{ready['engine']}/1"] <= 1.2 * min(measured.values())
    assert client.progress == [
        (stage, engine) for engine in ("native", "onednn") for stage in ("Loading", "WarmingUp")
    ]
    assert client.held() == (2 if ready["batchEngine"] else 1), "what is not used is closed"
    image = (FP32, (8, 1, 28, 28), floats(*([0.5] * 784 * 8)))
    first = client.output(client.run(image))
    assert len(first) == 8 * 10 * 4


def test_threads_are_measured_unless_given(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, ready = client.load(nets["lenet"], engine="native", threads=2, threadsFixed=False)
    assert op is Op.READY, ready
    measured = ready["candidates"]
    assert isinstance(measured, dict)
    # One thread is only tried for what is tiny, and nothing is tiny on a machine that is busy enough.
    tiny = measured["native/2"] < TINY
    assert set(measured) == ({"native/1", "native/2"} if tiny else {"native/2"})
    assert ready["threads"] in (1, 2)
    op, ready = client.load(nets["lenet"], engine="native", threads=2)
    assert (ready["threads"], set(ready["candidates"])) == (2, {"native/2"})  # type: ignore[call-overload]
    assert client.held() == 1


def test_warm_up_with_samples_measures_and_reports(nets: Mapping[str, Path], client: WorkerClient) -> None:
    samples = [
        {"inputs": {"x": [[1, 2, 3]]}},
        {"inputs": [{"name": "x", "shape": [1, 3], "data": [1, 2, 3]}]},
    ]
    op, ready = client.load(nets["linear"], warmUp={"samples": samples, "runs": 2, "batchSizes": [1, 8]})
    assert op is Op.READY, ready
    assert ready["medianSeconds"] > 0
    assert ready["outputBytes"] == 8 * 2 * 4


def test_warm_up_finds_lengths_for_open_dimensions(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, ready = client.load(nets["dynamic"])
    assert op is Op.READY, ready
    assert ready["note"] == ""
    declared = [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 100]}]
    op, ready = client.load(nets["dynamic"], inputs=declared)
    assert op is Op.READY, ready
    assert ready["signature"]["inputs"] == declared
    assert ready["outputBytes"] == 3 * 100 * 4


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([{"inputs": {"y": [[1, 2, 3]]}}], "warmUp.samples[0] has no input 'x'"),
        ([{"inputs": {"x": [[1, 2]]}}], "warmUp.samples[0]: input 'x': shape [1, 2] does not fit"),
        ([5], "warmUp.samples[0] is no request body"),
    ],
)
def test_a_bad_sample_fails_the_warm_up_by_name(
    samples: object, text: str, nets: Mapping[str, Path], client: WorkerClient
) -> None:
    op, error = client.load(nets["linear"], warmUp={"samples": samples})
    assert op is Op.ERROR
    assert error["reason"] == "WarmUpFailed"
    assert text in str(error["message"])


def test_samples_from_a_file_beside_the_model(
    nets: Mapping[str, Path], client: WorkerClient, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(nets["linear"], tmp_path / "m"))
    (folder / "samples.warm").write_text('[{"inputs": {"x": [[1, 2, 3]]}}]')
    op, ready = client.load(folder, warmUp={"fromFile": "samples.warm"})
    assert op is Op.READY, ready
    for name, text in (
        ("../x", "outside"),
        ("missing", "is not in the model's folder; JSON files there: inference.json"),
    ):
        op, error = client.load(folder, warmUp={"fromFile": name})
        assert op is Op.ERROR
        assert error["reason"] == "WarmUpFailed"
        assert text in str(error["message"])


def _bad_json(folder: Path) -> None:
    path = folder / "inference.json"
    path.write_bytes(path.read_bytes()[:900])


def _other_json(folder: Path) -> None:
    (folder / "inference.json").write_text('{"program": "labels"}')


def _short_weights(folder: Path) -> None:
    path = folder / "inference.pdiparams"
    path.write_bytes(path.read_bytes()[:40])


def _two_models(folder: Path) -> None:
    shutil.copy(folder / "inference.json", folder / "other.json")
    shutil.copy(folder / "inference.pdiparams", folder / "other.pdiparams")


def _no_model(folder: Path) -> None:
    (folder / "inference.json").rename(folder / "readme.txt")


def _program_garbage(folder: Path) -> None:
    (folder / "inference.json").unlink()
    (folder / "inference.pdmodel").write_bytes(b"garbage" * 50)


@pytest.mark.parametrize(
    ("damage", "reason", "text"),
    [
        (_bad_json, "CorruptModel", "inference.json is not readable JSON"),
        (_other_json, "CorruptModel", "not a Paddle program"),
        (_short_weights, "CorruptModel", "inference.pdiparams"),
        (_two_models, "AmbiguousModel", "inference.json, other.json"),
        (_no_model, "UnknownModelFormat", "found inference.pdiparams, readme.txt"),
        (_program_garbage, "CorruptModel", "inference.pdmodel is not a Paddle program"),
    ],
)
def test_damaged_models_are_named_and_leave_no_handle(
    damage: Callable[[Path], None],
    reason: str,
    text: str,
    nets: Mapping[str, Path],
    client: WorkerClient,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(nets["linear"], tmp_path / "m"))
    damage(folder)
    op, error = client.load(folder)
    assert op is Op.ERROR
    assert error["reason"] == reason, error
    assert text in str(error["message"])
    assert client.held() == 0


def test_garbage_onnx_is_corrupt(onnx_client: WorkerClient, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"garbage" * 20)
    op, error = onnx_client.load(tmp_path, framework="onnx")
    assert op is Op.ERROR
    assert error["reason"] == "CorruptModel", error


def test_a_declared_schema_that_differs_is_a_mismatch(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, error = client.load(nets["linear"], inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}])
    assert op is Op.ERROR
    assert error["reason"] == "SchemaMismatch"
    assert "'x' is declared with shape [-1, 4], the model has [-1, 3]" in str(error["message"])
    assert client.held() == 0


def test_an_engine_that_does_not_fit_is_refused(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, error = client.load(nets["linear"], engine="onnxruntime")
    assert op is Op.ERROR
    assert error["reason"] == "LoadFailed"
    assert "auto, native, onednn" in str(error["message"])


def test_a_skipped_engine_is_not_tried_and_said(nets: Mapping[str, Path], client: WorkerClient) -> None:
    op, ready = client.load(nets["linear"], skip={"onednn": "crashed"})
    assert op is Op.READY
    assert ready["engine"] == "native"
    assert ready["dropped"] == {"onednn": "crashed"}
    assert client.progress[0] == ("Loading", "native")


def test_the_worker_ends_when_the_front_is_gone(worker: Start) -> None:
    client = worker()
    client.socket.close()
    assert client.process.wait(60) == 0


def test_a_message_that_is_no_frame_ends_the_worker(worker: Start) -> None:
    client = worker()
    client.socket.send(b"not a frame, but long enough to be one")
    with pytest.raises(EOFError):
        client.receive()
    assert client.process.wait(60) != 0


def test_interrupts_of_a_terminal_do_not_end_a_worker(nets: Mapping[str, Path], worker: Start) -> None:
    client = worker()
    client.load(nets["linear"])
    os.kill(client.process.pid, signal.SIGINT)
    assert client.run((FP32, (1, 3), floats(1, 2, 3))).op is Op.DONE


def test_the_oom_killer_prefers_a_worker(worker: Start, nets: Mapping[str, Path]) -> None:
    client = worker()
    client.load(nets["linear"])
    assert wait_for(lambda: Path(f"/proc/{client.process.pid}/oom_score_adj").read_text().strip() == "600")
