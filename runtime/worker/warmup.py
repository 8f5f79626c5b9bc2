"""Warm-up: the first runs of a model, with the user's samples or with inputs made from the signature."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy

from runtime.codec.tensors import flatten, size_of, to_bytes
from runtime.datatypes import BY_NAME
from runtime.errors import ModelError, Reason, RequestError, summarise
from runtime.signature import Signature, TensorSpec
from runtime.worker.backend import Array, Backend, InvalidInput
from runtime.worker.recorded import Recording, recorded

# Lengths tried for a dynamic dimension that nobody declared: what images and sequences usually have, then
# what they accept. Engines are compared at this length, so it should be like the real ones.
_GUESSES_IMAGE = (224, 64, 32, 1)
_GUESSES_OTHER = (16, 1, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    samples: Sequence[object] = ()
    from_file: str = ""
    runs: int = 3
    batch_sizes: Sequence[int] = (1,)
    timeout: float = 120.0

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> Options:
        samples, sizes = raw.get("samples", ()), raw.get("batchSizes", (1,))
        assert isinstance(samples, Sequence)
        assert isinstance(sizes, Sequence)
        return cls(
            samples=samples,
            from_file=str(raw.get("fromFile", "")),
            runs=int(str(raw.get("runs", 3))),
            batch_sizes=tuple(int(size) for size in sizes),
            timeout=float(str(raw.get("timeoutSeconds", 120.0))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`median` in seconds of the runs of the smallest batch, without the first run; `output_bytes` of the
    largest.

    `output_rows` are the rows that gave them. `sample` is the first input that was run, None with a `note`:
    no input could be made, and it says what to give.
    """

    median: float = 0.0
    runs: int = 0
    output_bytes: int = 0
    output_rows: int = 1
    sample: Sequence[Array] | None = None
    note: str = ""


def find_sample(
    backend: Backend, signature: Signature, options: Options, folder: Path
) -> Sequence[Array] | None:
    """The user's first sample, else an input made from the signature that the network takes, else None.

    Raises ModelError(WarmUpFailed) when the user's is not usable.
    """
    given = _given(signature, options, folder)
    if given:
        return given[0]
    for guess in _guesses(signature):
        made = [_made(tensor, guess) for tensor in signature.inputs]
        try:
            backend.run(made)
        except (InvalidInput, RuntimeError, OSError, SystemError):
            continue  # the network does not take these lengths; that says nothing about real requests
        return made
    return None


def warm(
    backend: Backend, signature: Signature, options: Options, folder: Path, sample: Sequence[Array] | None
) -> Measured:
    """Runs every sample of the user (or the one that was found) with every batch size.

    Raises ModelError(WarmUpFailed) when one of them fails.
    """
    samples = _given(signature, options, folder) or ([sample] if sample is not None else [])
    if samples:
        return _measure(backend, signature, samples, options)
    return Measured(
        note="not warmed up: no input fits its dynamic shape; give spec.inputs with shapes or warmUp.samples"
    )


def recordings(signature: Signature, options: Options, folder: Path) -> list[Recording]:
    """The outputs that were recorded with the user's samples. Raises ModelError for a sample that is not
    usable.
    """
    found = []
    for index, sample in enumerate([*options.samples, *_from_file(options.from_file, folder)]):
        where = f"warmUp.samples[{index}]"
        recording = recorded(signature, sample, _sample(signature, sample, where), where)
        if recording is not None:
            found.append(recording)
    return found


def _given(signature: Signature, options: Options, folder: Path) -> list[Sequence[Array]]:
    samples = [*options.samples, *_from_file(options.from_file, folder)]
    return [_sample(signature, sample, f"warmUp.samples[{i}]") for i, sample in enumerate(samples)]


def _measure(
    backend: Backend, signature: Signature, samples: Sequence[Sequence[Array]], options: Options
) -> Measured:
    durations: list[float] = []
    largest = runs = 0
    largest_rows = 1
    dynamic = all(tensor.shape and tensor.shape[0] == -1 for tensor in signature.inputs)
    sizes = sorted(set(options.batch_sizes)) if dynamic else [0]
    for size in sizes or [0]:
        for index, sample in enumerate(samples):
            inputs = [_rows(array, size) for array in sample] if size else list(sample)
            for run in range(max(1, options.runs) + 1):
                start = perf_counter()
                try:
                    outputs = backend.run(inputs)
                except (InvalidInput, RuntimeError, OSError, SystemError, MemoryError) as error:
                    raise ModelError(
                        Reason.WARM_UP_FAILED,
                        f"sample {index} with {size or 'its own'} rows: {summarise(error)}",
                    ) from None
                runs += 1
                if run and size == (sizes or [0])[0]:
                    durations.append(perf_counter() - start)
            nbytes = sum(array.nbytes for array in outputs)
            if nbytes > largest:
                largest, largest_rows = nbytes, size or (len(inputs[0]) if inputs[0].ndim else 1)
    return Measured(
        median=statistics.median(durations),
        runs=runs,
        output_bytes=largest,
        output_rows=largest_rows,
        sample=samples[0],
    )


def _rows(array: Array, size: int) -> Array:
    """The sample repeated or cut to `size` rows."""
    repeats = -(-size // len(array))
    return numpy.ascontiguousarray(numpy.concatenate([array] * repeats)[:size])


def _guesses(signature: Signature) -> Iterator[int]:
    if all(d > 0 for tensor in signature.inputs for d in tensor.shape[1:]):
        yield 1
    else:
        images = any(len(tensor.shape) >= 4 for tensor in signature.inputs)
        yield from _GUESSES_IMAGE if images else _GUESSES_OTHER


def _made(tensor: TensorSpec, guess: int) -> Array:
    """Zeros for whole numbers (a valid index anywhere), a half for the others (no denormals)."""
    shape = [d if d > 0 else (1 if axis == 0 else guess) for axis, d in enumerate(tensor.shape)]
    kind = BY_NAME[tensor.datatype]
    return numpy.full(shape, 0.5 if kind.group == "float" else 0, dtype=kind.numpy)


def _from_file(name: str, folder: Path) -> list[object]:
    """The samples of a JSON file beside the model: a list of them, or one."""
    if not name:
        return []
    base = folder if folder.is_dir() else folder.parent
    path = (base / name).resolve()
    if not path.is_relative_to(base.resolve()):
        raise ModelError(Reason.WARM_UP_FAILED, f"warmUp.fromFile {name!r} is outside the model's folder")
    if not path.is_file():
        there = ", ".join(sorted(item.name for item in base.glob("*.json"))[:5]) or "none"
        message = f"warmUp.fromFile {name!r} is not in the model's folder; JSON files there: {there}"
        raise ModelError(Reason.WARM_UP_FAILED, message)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(Reason.WARM_UP_FAILED, f"warmUp.fromFile {name!r}: {error}") from None
    return content if isinstance(content, list) else [content]


def _sample(signature: Signature, sample: object, where: str) -> list[Array]:
    """Arrays from one request body: {"inputs": {name: values}}, the V2 list, or only the mapping."""
    inputs = sample.get("inputs", sample) if isinstance(sample, Mapping) else sample
    if isinstance(inputs, list):
        inputs = {str(item.get("name")): item for item in inputs if isinstance(item, Mapping)}
    if not isinstance(inputs, Mapping):
        raise ModelError(Reason.WARM_UP_FAILED, f"{where} is no request body; write inputs: {{name: values}}")
    arrays = []
    for tensor in signature.inputs:
        if tensor.name not in inputs:
            raise ModelError(Reason.WARM_UP_FAILED, f"{where} has no input {tensor.name!r}")
        try:
            arrays.append(_array(tensor, inputs[tensor.name]))
        except RequestError as error:
            raise ModelError(Reason.WARM_UP_FAILED, f"{where}: {error.message}") from None
    return arrays


def _array(tensor: TensorSpec, value: object) -> Array:
    values, declared = value, None
    if isinstance(value, Mapping):
        values, declared = value.get("data"), value.get("shape")
    shape, flat = flatten(tensor.name, values, max(1, len(tensor.shape)))
    if isinstance(declared, list):
        shape = tuple(int(d) for d in declared)
    tensor.check_shape(shape)
    data = to_bytes(tensor.name, flat, tensor.datatype)
    if len(data) != size_of(tensor.datatype, shape):
        raise RequestError(400, f"input {tensor.name!r}: {len(flat)} values do not fill shape {list(shape)}")
    return numpy.frombuffer(data, dtype=BY_NAME[tensor.datatype].numpy).reshape(shape)
