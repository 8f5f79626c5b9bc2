"""A quantized model is known by the operations of its program, not by names in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.worker.formats import Format, ModelFiles, find
from runtime.worker.quantized import quantized
from tests.runtime.conftest import WorkerClient


def quantized_onnx(folder: Path) -> Path:
    """x -> quantized and back, as exporters write it."""
    folder.mkdir()
    constants = [
        numpy_helper.from_array(numpy.array(0.5, dtype="float32"), "scale"),
        numpy_helper.from_array(numpy.array(0, dtype="uint8"), "zero"),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        str(folder / "model.onnx"),
    )
    return folder


def test_an_onnx_model_and_what_its_worker_says(
    worker: Callable[..., WorkerClient], onnx_net: Path, tmp_path: Path
) -> None:
    client = worker(preload="onnx")
    for path, wanted in ((quantized_onnx(tmp_path / "q"), True), (onnx_net, False)):
        _, ready = client.load(path, framework="onnx")
        assert ready["quantized"] is wanted


@pytest.mark.parametrize("name", ["linear", "lenet", "embedding", "pdmodel", "__model__"])
def test_what_is_not_quantized(nets: Mapping[str, Path], name: str) -> None:
    assert not quantized(find(nets[name], "paddle"))


@pytest.mark.parametrize(
    ("form", "content", "wanted"),
    [
        ("pir", b'{"#":"1.dequantize_linear","A":[]}', True),
        ("pir", b'{"#": "1.fake_channel_wise_quantize_dequantize_abs_max"}', True),
        ("pir", b'{"#": "1.weight_only_linear"}', True),
        ("pir", b'{"#": "p", "A": [0, "quantize_linear.w_0"]}', False),
        ("pir", b'{"N": "dequantize_linear", "#": "1.matmul"}', False),
        ("pdmodel", b"\x08\x1a\x0fquantize_linear\x22", True),
        ("pdmodel", b"\x08\x1a\x18fake_quantize_range_abs_max", False),  # another length: a longer name
        ("pdmodel", b"\x0a\x0duse_quantizer\x1a\x06matmul", False),
        ("onnx", b"\x22\x0fQLinearConvFoo\x22\x0bQLinearConv", True),
        ("onnx", b"\x1a\x0eQuantizeLinear", False),  # the name of a node, not its type
        ("onnx", b"", False),
    ],
)
def test_operations_are_told_from_names(form: Format, content: bytes, wanted: bool, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(content)
    assert quantized(ModelFiles(form, file, None)) is wanted
    assert not quantized(ModelFiles(form, tmp_path / "none", None))
