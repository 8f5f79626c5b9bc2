from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import ModelError, Reason
from runtime.worker.formats import find
from runtime.worker.pir import read_signature
from tests.support.models import write_paddle

PIR = '{"base_code":{"magic":"pir"},"program":{"regions":[{"blocks":[{"ops":[]}]}]}}'

PAIR = ("inference.json", "inference.pdiparams")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PIR if name.endswith(".json") and "label" not in name else "{}")
    return folder


@pytest.mark.parametrize(
    ("names", "format", "model", "params"),
    [
        (("inference.json", "inference.pdiparams"), "pir", "inference.json", "inference.pdiparams"),
        (("inference.json",), "pir", "inference.json", None),
        (("a/inference.json", "a/inference.pdiparams"), "pir", "a/inference.json", "a/inference.pdiparams"),
        ((*PAIR, "labels.json"), "pir", *PAIR),
        (("m.pdmodel", "m.pdiparams", "config.yml"), "pdmodel", "m.pdmodel", "m.pdiparams"),
        (("__model__", "__params__"), "__model__", "__model__", "__params__"),
        (("__model__", "fc_0.w_0", "fc_0.b_0"), "__model__", "__model__", "."),
        ((*PAIR, ".hidden/x.pdmodel"), "pir", *PAIR),
        ((*PAIR, "x.onnx"), "pir", *PAIR),
    ],
)  # fmt: skip
def test_one_candidate_is_found(
    tmp_path: Path, names: tuple[str, ...], format: str, model: str, params: str | None
) -> None:
    files = find(put(tmp_path, *names), "paddle")
    assert files.format == format
    assert files.model == tmp_path / model
    assert files.params == (None if params is None else tmp_path / params)


def test_onnx_and_single_files(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "inference.json", "inference.pdiparams")
    assert find(tmp_path, "onnx").model.name == "m.onnx"
    assert find(tmp_path / "m.onnx", "onnx").onnx
    assert find(tmp_path / "inference.json", "paddle").params == tmp_path / "inference.pdiparams"


@pytest.mark.parametrize(
    ("names", "framework", "reason", "text"),
    [
        (("a.onnx", "b.onnx"), "onnx", Reason.AMBIGUOUS_MODEL, "a.onnx, b.onnx"),
        (("inference.json", "inference.pdiparams", "inference.pdmodel"), "paddle", Reason.AMBIGUOUS_MODEL,
         "inference.json, inference.pdmodel"),
        (("v1/inference.pdmodel", "v2/inference.pdmodel"), "paddle", Reason.AMBIGUOUS_MODEL,
         "v1/inference.pdmodel, v2/inference.pdmodel"),
        ((), "paddle", Reason.UNKNOWN_MODEL_FORMAT, "an empty folder"),
        (("a.txt", "label.json"), "paddle", Reason.UNKNOWN_MODEL_FORMAT, "found a.txt, label.json"),
        (tuple(f"{i}.txt" for i in range(10)), "onnx", Reason.UNKNOWN_MODEL_FORMAT, "and 2 more"),
        (("m.onnx",), "paddle", Reason.UNKNOWN_MODEL_FORMAT, "holds m.onnx; set framework to onnx"),
        (("m.pdmodel", "m.pdiparams"), "onnx", Reason.UNKNOWN_MODEL_FORMAT, "set framework to paddle"),
        (("m.pdmodel",), "paddle", Reason.CORRUPT_MODEL, "m.pdiparams is missing beside m.pdmodel"),
    ],
)  # fmt: skip
def test_anything_else_says_what_is_there(
    tmp_path: Path, names: tuple[str, ...], framework: str, reason: Reason, text: str
) -> None:
    with pytest.raises(ModelError) as error:
        find(put(tmp_path, *names), framework)
    assert error.value.reason is reason
    assert text in error.value.message


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        find(tmp_path / "no", "paddle")


def test_a_program_without_its_weights_is_refused_and_not_run_on_garbage(tmp_path: Path) -> None:
    write_paddle(tmp_path)
    (tmp_path / "inference.pdiparams").unlink()
    files = find(tmp_path, "paddle")
    with pytest.raises(ModelError, match=r"inference\.pdiparams is missing beside inference\.json") as error:
        read_signature(files.model, files.params)
    assert error.value.reason is Reason.CORRUPT_MODEL


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not readable JSON"),
        ("[1]", "not a Paddle program"),
        ('{"base_code":{"magic":"other"},"program":{"regions":[{"blocks":[]}]}}', "magic 'other'"),
        ('{"base_code":{"magic":"pir"},"program":{"regions":[{"blocks":[{"ops":[{"#":"1.data","A":[]}]}]}]}}',
         "not readable"),
    ],
)  # fmt: skip
def test_files_that_are_no_program_are_corrupt(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "inference.json"
    file.write_text(content)
    with pytest.raises(ModelError, match=text) as error:
        read_signature(file)
    assert error.value.reason is Reason.CORRUPT_MODEL
