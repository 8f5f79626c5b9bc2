"""Writes small real models to a folder: Paddle's own exporter and ONNX's own builder, no canned files.

Exporting needs the whole paddle package (seconds, and it switches global modes), so it runs in a process of
its own and what it wrote is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A small network with known constants.

    linear    x [-1, 3] FP32 -> [-1, 2] = sum(x) * weight + bias
    lenet     image [-1, 1, 28, 28] FP32 -> [-1, 10], random weights from `seed`
    two       a [-1, 4] FP32, ids [-1, 2] INT64 -> two outputs: a * weight + bias, and ids twice [-1, 4]
    clash     the same, but an output has the name of an input, which Paddle refuses at load
    dynamic   image [-1, 3, 8, -1] FP32 -> [-1, 3, -1] (mean over the height), times weight
    embedding ids [-1, 4] INT64 -> [-1, 4, 2]; an id of 16 or more is out of range

    `layout` is pir (inference.json), pdmodel or __model__; the last two know `linear` only.
    """

    kind: str = "linear"
    weight: float = 2.0
    bias: float = 1.0
    seed: int = 7
    layout: str = "pir"

    @property
    def key(self) -> str:
        """Names the exported files: the same network, exporter and this module give the same name."""
        text = f"{Path(__file__).read_text()}\0{metadata.version('paddlepaddle')}\0{self!r}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "paddle-operator" / "models" / "tests"


def export(nets: Sequence[Net]) -> list[Path]:
    """inference.json and inference.pdiparams (PIR) in `folder`, which is returned; kinds are those of Net."""
    missing = [net for net in nets if not (cache() / net.key).is_dir()]
    if missing:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as temporary:
            jobs = json.dumps([{**asdict(net), "folder": str(Path(temporary, net.key))} for net in missing])
            command = [sys.executable, "-m", "tests.support.models", jobs]
            environ = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
            done = subprocess.run(
                command, cwd=_ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False
            )
            if done.returncode:
                raise RuntimeError(f"exporting {[net.kind for net in missing]} failed: {done.stderr[-2000:]}")
            for net in missing:
                try:
                    os.rename(Path(temporary, net.key), cache() / net.key)
                except OSError:
                    continue  # another run was quicker
    return [cache() / net.key for net in nets]


def write_net(folder: Path, net: Net) -> Path:
    """Copies the exported files of `net` into `folder` and returns it."""
    shutil.copytree(export([net])[0], folder, dirs_exist_ok=True)
    return folder


def write_paddle(folder: Path, *, kind: str = "linear", weight: float = 2.0, bias: float = 1.0) -> Path:
    """inference.json and inference.pdiparams (PIR) in `folder`, which is returned. The kinds are those of
    Net.
    """
    return write_net(folder, Net(kind=kind, weight=weight, bias=bias))


def write_legacy(folder: Path, *, weight: float = 2.0, bias: float = 1.0, model_file: bool = False) -> Path:
    """The linear model as inference.pdmodel + .pdiparams, or as __model__ + __params__ when `model_file`."""
    layout = "__model__" if model_file else "pdmodel"
    return write_net(folder, Net(weight=weight, bias=bias, layout=layout))


def write_onnx(folder: Path, *, weight: float = 2.0, bias: float = 1.0, name: str = "model.onnx") -> Path:
    """x [-1, 3] FP32 -> y [-1, 2] = sum(x) * weight + bias, as <folder>/<name>; returns the folder."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(numpy.full((3, 2), weight, dtype="float32"), "w"),
            numpy_helper.from_array(numpy.full((2,), bias, dtype="float32"), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / name))
    return folder


def _main() -> None:
    # Paddle 2's program form first: once a PIR program was made, the switch has no effect.
    for job in sorted(json.loads(sys.argv[1]), key=lambda job: job["layout"] == "pir"):
        folder = Path(job["folder"])
        folder.mkdir(parents=True)
        if job["layout"] == "pir":
            _write_pir(folder, job["kind"], job["weight"], job["bias"], job["seed"])
        else:
            _write_program(folder, job["weight"], job["bias"], job["layout"])


def _write_pir(folder: Path, kind: str, weight: float, bias: float, seed: int) -> None:
    import paddle
    from paddle.static import InputSpec

    paddle.disable_static()
    paddle.seed(seed)
    nn = paddle.nn

    class Linear(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.linear.weight.set_value(paddle.full([3, 2], weight))
            self.linear.bias.set_value(paddle.full([2], bias))

        def forward(self, x):
            return self.linear(x)

    class LeNet(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2D(1, 6, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2D(2, 2),
                nn.Conv2D(6, 16, 5),
                nn.ReLU(),
                nn.MaxPool2D(2, 2),
            )
            self.head = nn.Sequential(nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10))

        def forward(self, image):
            return self.head(paddle.flatten(self.features(image), 1))

    class Two(nn.Layer):
        def forward(self, a, ids):
            return a * weight + bias, paddle.concat([ids, ids], axis=1)

    class Clash(nn.Layer):
        def forward(self, a, ids):
            return a * weight + bias, ids + 1

    class Dynamic(nn.Layer):
        def forward(self, image):
            return image.mean(axis=2) * weight

    class Embedding(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(16, 2)

        def forward(self, ids):
            return self.table(ids)

    def spec(name: str, shape: list[int | None], dtype: str = "float32") -> InputSpec:
        return InputSpec(shape, dtype, name=name)

    layer, inputs = {
        "linear": (Linear, [spec("x", [None, 3])]),
        "lenet": (LeNet, [spec("image", [None, 1, 28, 28])]),
        "two": (Two, [spec("a", [None, 4]), spec("ids", [None, 2], "int64")]),
        "clash": (Clash, [spec("a", [None, 4]), spec("ids", [None, 2], "int64")]),
        "dynamic": (Dynamic, [spec("image", [None, 3, 8, None])]),
        "embedding": (Embedding, [spec("ids", [None, 4], "int64")]),
    }[kind]
    model = layer()
    model.eval()
    paddle.jit.save(model, str(folder / "inference"), input_spec=inputs)


def _write_program(folder: Path, weight: float, bias: float, layout: str) -> None:
    """The formats of Paddle 2, which Paddle 3 still writes when its old program form is switched on."""
    import paddle

    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    constant = paddle.nn.initializer.Constant
    with paddle.pir_utils.OldIrGuard():
        main, start = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, start):
            x = paddle.static.data("x", [-1, 3], "float32")
            y = paddle.static.nn.fc(x, 2, weight_attr=constant(weight), bias_attr=constant(bias))
        executor.run(start)
        prefix = folder / "inference"
        paddle.static.save_inference_model(str(prefix), [x], [y], executor, program=main)
    if layout == "__model__":
        prefix.with_suffix(".pdmodel").rename(folder / "__model__")
        prefix.with_suffix(".pdiparams").rename(folder / "__params__")


if __name__ == "__main__":
    _main()
