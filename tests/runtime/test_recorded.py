"""Outputs that were recorded with a sample are compared before a model serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy
import pytest

from runtime.errors import ModelError
from runtime.frames import Op
from runtime.signature import Signature, TensorSpec
from runtime.worker.backend import Array
from runtime.worker.recorded import Recording, check, recorded
from tests.runtime.conftest import WorkerClient

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
INPUTS = [numpy.ones((1, 2), dtype="float32")]


class Fixed:
    """Answers the same whatever it is asked."""

    engine = "native"
    signature = SIGNATURE

    def __init__(self, answer: Sequence[Sequence[float]]) -> None:
        self.answer = numpy.array(answer, dtype="float32")

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        return [self.answer]

    def close(self) -> None: ...


def of(sample: object) -> Recording | None:
    return recorded(SIGNATURE, sample, INPUTS, "sample 0")


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": [[3.0, -4]]},
        {"y": {"shape": [1, 2], "data": [3, -4]}},
        [{"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [3, -4]}],
    ],
)
def test_every_form_of_a_body_can_hold_them(outputs: object) -> None:
    recording = of({"inputs": {"x": [[1, 1]]}, "outputs": outputs})
    assert recording is not None
    check(Fixed([[3.0, -4.003]]), SIGNATURE, [recording])
    with pytest.raises(ModelError, match=r"output 'y' differs from what was recorded by 0\.01, 0\.004 is"):
        check(Fixed([[3.0, -4.01]]), SIGNATURE, [recording])
    with pytest.raises(ModelError, match=r"has the shape \[2, 2\], \[1, 2\] was recorded"):
        check(Fixed([[3.0, -4.0], [3.0, -4.0]]), SIGNATURE, [recording])
    with pytest.raises(ModelError, match="differs"):
        check(Fixed([[3.0, float("nan")]]), SIGNATURE, [recording])


@pytest.mark.parametrize(
    "sample",
    [
        {"x": [[1, 1]]},
        {"inputs": {"x": [[1, 1]]}},
        {"inputs": {"x": [[1, 1]]}, "outputs": [{"name": "y"}]},  # V2: which outputs are wanted
        [],
    ],
)
def test_most_samples_hold_none(sample: object) -> None:
    assert of(sample) is None


def test_the_tolerance_can_be_given() -> None:
    sample = {"inputs": {"x": [[1, 1]]}, "outputs": {"y": [[3, -4]]}}
    loose = of({**sample, "tolerance": 0.1})
    exact = of({**sample, "tolerance": 0})
    assert loose is not None
    assert exact is not None
    check(Fixed([[3.3, -4.3]]), SIGNATURE, [loose])
    check(Fixed([[3.0, -4.0]]), SIGNATURE, [exact])
    with pytest.raises(ModelError, match="0 is allowed"):
        check(Fixed([[3.0, -4.00001]]), SIGNATURE, [exact])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"outputs": {"z": [[1, 1]]}}, r"sample 0 has output 'z', the model has \['y'\]"),
        ({"outputs": {"y": [[1, "two"]]}}, "output 'y': .*two"),
        ({"outputs": {"y": {"shape": [3], "data": [1]}}}, "1 values do not fill"),
        ({"outputs": {"y": [[1, 1]]}, "tolerance": "much"}, "tolerance 'much'"),
        ({"outputs": {"y": [[1, 1]]}, "tolerance": 2}, "tolerance 2"),
    ],
)
def test_what_cannot_be_an_answer_is_refused(more: Mapping[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        of({"inputs": {"x": [[1, 1]]}, **more})
    assert caught.value.reason.value == "GoldenSampleFailed"


def test_a_worker_compares_those_of_the_model_s_own_file(
    worker: Callable[..., WorkerClient], nets: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(nets["linear"], folder)
    client = worker()
    _, ready = client.load(folder, engine="native")
    signature = ready["signature"]
    assert isinstance(signature, dict)
    (output,) = signature["outputs"]
    for value, wanted in ((7.0, Op.READY), (7.1, Op.ERROR)):
        sample = {"inputs": {"x": [[1, 1, 1]]}, "outputs": {output["name"]: [[value, value]]}}
        (folder / "golden.json").write_text(json.dumps([sample]))
        op, said = client.load(folder, engine="native", warmUp={"fromFile": "golden.json"})
        assert op is wanted, said
    assert said["reason"] == "GoldenSampleFailed"
    assert client.held() == 0
