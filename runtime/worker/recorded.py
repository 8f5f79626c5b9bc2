"""Outputs that were recorded with the model's samples: what every engine has to answer before it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from runtime.codec.tensors import flatten, size_of, to_bytes
from runtime.datatypes import BY_NAME
from runtime.errors import ModelError, Reason, RequestError, summarise
from runtime.signature import Signature, TensorSpec
from runtime.worker.backend import Array, Backend, InvalidInput
from runtime.worker.batching import distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A sample's inputs, and by name the outputs that were recorded for it. `tolerance` is relative to the
    largest value of an output; None is what engines may differ by (0.1 % for FP32).
    """

    where: str
    inputs: Sequence[Array]
    outputs: Mapping[str, Array]
    tolerance: float | None = None


def recorded(signature: Signature, sample: object, inputs: Sequence[Array], where: str) -> Recording | None:
    """What `sample` says was answered: {"inputs": …, "outputs": {name: values}, "tolerance": 0.01}, values as
    /predict gives them, or V2's list of outputs with data. None when it says nothing. Raises
    ModelError(GoldenSampleFailed) when what it says cannot be an answer of this model.
    """
    if not isinstance(sample, Mapping) or "inputs" not in sample:
        return None
    said = sample.get("outputs")
    if isinstance(said, list):
        named = [item for item in said if isinstance(item, Mapping)]
        said = {str(item.get("name")): item for item in named if "data" in item}
    if not isinstance(said, Mapping) or not said:
        return None
    tensors = {tensor.name: tensor for tensor in signature.outputs}
    for name in said:
        if name not in tensors:
            raise _failed(f"{where} has output {name!r}, the model has {sorted(tensors)}")
    outputs = {name: _array(tensors[name], value, where) for name, value in said.items()}
    tolerance = sample.get("tolerance")
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 <= tolerance <= 1):
        raise _failed(f"{where}: tolerance {tolerance!r} is not between 0 and 1")
    return Recording(where=where, inputs=inputs, outputs=outputs, tolerance=tolerance)


def check(backend: Backend, signature: Signature, recordings: Sequence[Recording]) -> None:
    """Runs each and compares. Raises ModelError(GoldenSampleFailed) that names the first difference."""
    for recording in recordings:
        try:
            answered = backend.run(recording.inputs)
        except (InvalidInput, RuntimeError, OSError, SystemError, MemoryError) as error:
            raise _failed(f"{recording.where}: {summarise(error)}") from None
        for tensor, output in zip(signature.outputs, answered, strict=True):
            wanted = recording.outputs.get(tensor.name)
            if wanted is not None:
                _compare(recording, tensor.name, wanted, output)


def _compare(recording: Recording, name: str, wanted: Array, output: Array) -> None:
    where = f"{recording.where}: output {name!r}"
    if wanted.shape != output.shape:
        raise _failed(f"{where} has the shape {list(output.shape)}, {list(wanted.shape)} was recorded")
    difference, allowed = distance(output, wanted)
    if recording.tolerance is not None and wanted.size and wanted.dtype.kind == "f":
        allowed = recording.tolerance * max(float(numpy.abs(wanted).max()), 1e-3)
    if not difference <= allowed:
        raise _failed(f"{where} differs from what was recorded by {difference:.3g}, {allowed:.3g} is allowed")


def _array(tensor: TensorSpec, value: object, where: str) -> Array:
    values, declared = value, None
    if isinstance(value, Mapping):
        values, declared = value.get("data"), value.get("shape")
    try:
        shape, flat = flatten(tensor.name, values, max(1, len(tensor.shape)))
        if isinstance(declared, list):
            shape = tuple(int(d) for d in declared)
        data = to_bytes(tensor.name, flat, tensor.datatype)
    except (RequestError, ValueError, TypeError) as error:
        said = error.message if isinstance(error, RequestError) else str(error)
        said = said.removeprefix(f"input {tensor.name!r}: ")
        raise _failed(f"{where}: output {tensor.name!r}: {said}") from None
    if len(data) != size_of(tensor.datatype, shape):
        raise _failed(f"{where}: output {tensor.name!r}: {len(flat)} values do not fill {list(shape)}")
    return numpy.frombuffer(data, dtype=BY_NAME[tensor.datatype].numpy).reshape(shape)


def _failed(message: str) -> ModelError:
    return ModelError(Reason.GOLDEN_SAMPLE_FAILED, message)
