"""Paddle's predictor on the CPU, native or with oneDNN.

Only Paddle's native library is loaded, not the Python package on top of it: of the 3.4 s that `import
paddle` takes, 2.9 s are training code (0.5 s remain). A release whose library does not start alone falls
back to the package.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from runtime.errors import ModelError, Reason, summarise
from runtime.signature import Signature, TensorSpec, check_servable
from runtime.worker.backend import Array, Handle, InvalidInput
from runtime.worker.formats import ModelFiles
from runtime.worker.pir import read_signature

# Shapes whose compiled primitives oneDNN keeps; without a bound, variable shapes leak.
_ONEDNN_SHAPES = 10

_DESC_TYPES = {
    "BOOL": "BOOL",
    "UINT8": "UINT8",
    "INT8": "INT8",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "FP16": "FP16",
    "BF16": "BF16",
    "FP32": "FP32",
    "FP64": "FP64",
}
# What the predictor can be handed; INT16 and BF16 are types of Paddle but not of its inference tensors.
_FEEDABLE = {"BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "FP64"}


# Every class that Paddle's error codes are turned into, but MemoryError.
_NATIVE_ERRORS = (RuntimeError, ValueError, OSError, IndexError, SystemError)


class _Tensor(Protocol):
    def _copy_from_cpu_bind(self, data: Array) -> None: ...
    def copy_to_cpu(self) -> Array: ...


class _Predictor(Protocol):
    def get_input_names(self) -> list[str]: ...
    def get_output_names(self) -> list[str]: ...
    def get_input_handle(self, name: str) -> _Tensor: ...
    def get_output_handle(self, name: str) -> _Tensor: ...
    def run(self) -> object: ...


Aside = Callable[[Callable[[], _Predictor]], _Predictor]

_library: object | None = None


def library() -> object:
    """Paddle's native module, loaded on the first call."""
    global _library
    if _library is None:
        _library = _load_library()
    return _library


def _load_library() -> object:
    package = importlib.util.find_spec("paddle")
    if package is None or package.origin is None:
        raise ModelError(Reason.LOAD_FAILED, "paddlepaddle is not installed in this image")
    path = Path(package.origin).parent / "base" / "libpaddle.so"
    try:
        spec = importlib.util.spec_from_file_location("libpaddle", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # The part of the package's start-up that the predictor needs: flags from the environment, logging,
        # devices.
        flags = [name[6:] for name in module.globals().keys() if name.startswith("FLAGS_")]  # noqa: SIM118
        module.init_gflags(["--tryfromenv=" + ",".join(flags)])
        module.init_glog("worker")
        module.init_memory_method()
        module.init_devices()
        module.init_tensor_operants()
        module.init_default_kernel_signatures()
    except (ImportError, AttributeError) as error:
        print(f"libpaddle does not start alone ({error}); importing paddle", file=sys.stderr, flush=True)
        return importlib.import_module("paddle.base.core")
    # In this order, as the package does it: the other way round the process may end in a signal.
    atexit.register(module.clear_device_manager)
    atexit.register(module.clear_kernel_factory)
    return module


def signature_of(files: ModelFiles) -> Signature:
    """The signature in the model file. Raises ModelError(CorruptModel) when it cannot be read."""
    if files.format == "pir":
        return check_servable(read_signature(files.model, files.params))
    return check_servable(_program_signature(files.model))


def _program_signature(model: Path) -> Signature:
    core: object = library()
    try:
        # Held until the end: blocks are pointers into it, and nothing else keeps it alive.
        program = core.ProgramDesc(model.read_bytes())  # type: ignore[attr-defined]  # native module
        block = program.block(0)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            Reason.CORRUPT_MODEL, f"{model.name} is not a Paddle program ({summarise(error)})"
        ) from None
    feeds: dict[int, TensorSpec] = {}
    fetches: dict[int, TensorSpec] = {}
    for index in range(block.op_size()):
        op = block.op(index)
        if op.type() not in ("feed", "fetch"):
            continue
        fed = op.type() == "feed"
        name = (op.output("Out") if fed else op.input("X"))[0]
        variable = block.find_var(name.encode())
        kind = str(variable.dtype()).rpartition(".")[2]
        spec = TensorSpec(name, _DESC_TYPES.get(kind, kind), tuple(variable.shape()))
        (feeds if fed else fetches)[op.attr("col")] = spec
    return Signature(tuple(feeds[i] for i in sorted(feeds)), tuple(fetches[i] for i in sorted(fetches)))


class PaddleBackend:
    """One predictor. Names of outputs are the predictor's own. `aside` makes it, in whatever thread: the
    library starts its own ones only at the first run.
    """

    def __init__(
        self,
        files: ModelFiles,
        signature: Signature,
        *,
        engine: str,
        threads: int,
        aside: Aside = lambda make: make(),
    ) -> None:
        self.engine = engine
        self.signature = signature
        for tensor in signature.inputs:
            if tensor.datatype not in _FEEDABLE:
                raise ModelError(
                    Reason.LOAD_FAILED, f"input {tensor.name!r}: Paddle inference takes no {tensor.datatype}"
                )
        try:
            self._handle = Handle(
                f"paddle predictor {files.model.name}",
                lambda: aside(lambda: _predictor(files, engine, threads)),
            )
        except MemoryError as error:
            raise ModelError(Reason.OUT_OF_MEMORY, f"{files.model.name}: {summarise(error)}") from None
        except _NATIVE_ERRORS as error:
            raise _load_error(files, error) from None
        try:
            self._bind(files)
        except _NATIVE_ERRORS as error:
            self.close()
            raise _load_error(files, error) from None
        except ModelError:
            self.close()
            raise

    def _bind(self, files: ModelFiles) -> None:
        """Fetches the handles of inputs and outputs, once."""
        self._inputs: list[_Tensor] = []
        self._outputs: list[_Tensor] = []
        signature = self.signature
        predictor = self._handle.get()
        names = predictor.get_input_names()
        if sorted(names) != sorted(tensor.name for tensor in signature.inputs):
            raise ModelError(
                Reason.CORRUPT_MODEL,
                f"{files.model.name}: the predictor has inputs {names}, the file says otherwise",
            )
        self._inputs = [predictor.get_input_handle(tensor.name) for tensor in signature.inputs]
        self._outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        predictor = self._handle.get()
        for handle, array in zip(self._inputs, inputs, strict=True):
            handle._copy_from_cpu_bind(array)
        try:
            predictor.run()
        except (ValueError, IndexError) as error:
            # Paddle raises these for InvalidArgument and OutOfRange: the network refused what it was given.
            raise InvalidInput(summarise(error)) from None
        return [handle.copy_to_cpu() for handle in self._outputs]

    def close(self) -> None:
        # Tensor handles point into the predictor, so they go first.
        self._inputs = []
        self._outputs = []
        self._handle.close()


def _predictor(files: ModelFiles, engine: str, threads: int) -> _Predictor:
    core: object = library()
    config = core.AnalysisConfig(*_places(files))  # type: ignore[attr-defined]  # native module
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads)
    if engine == "onednn":
        config.enable_mkldnn()
        config.set_mkldnn_cache_capacity(_ONEDNN_SHAPES)
    else:
        # Said explicitly: 3.3 turns it on when nothing is said.
        config.disable_mkldnn()
    predictor: _Predictor = core.create_predictor(config)  # type: ignore[attr-defined]
    return predictor


def _places(files: ModelFiles) -> tuple[str, ...]:
    if files.params is not None and files.params.is_dir():
        return (str(files.params),)
    return (str(files.model), str(files.params) if files.params else "")


def _load_error(files: ModelFiles, error: Exception) -> ModelError:
    text = summarise(error)
    weights = files.params.name if files.params is not None else files.model.name
    if "Cannot read" in text or "is.good()" in str(error) or "parse" in text:
        return ModelError(
            Reason.CORRUPT_MODEL,
            f"{weights} does not hold the weights of {files.model.name} ({text}); is it cut short?",
        )
    return ModelError(Reason.LOAD_FAILED, f"{files.model.name}: {text}")
