"""The golden sample: a user's warm-up sample, asked of a new generation the way a client would ask."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping

from runtime.codec import predict
from runtime.errors import ModelError, Reason, RequestError
from runtime.job import OutputTensor
from runtime.model import Model

_SECONDS = 30.0
_RECORDED = ("outputs", "tolerance")
_FLOATS = {"FP32": "f", "FP64": "d"}


async def check(model: Model) -> None:
    """Each of `warmUp.samples` goes through queue, memory and worker, and its answer has to be numbers.

    What was recorded with a sample its worker has compared already, with every engine. Raises
    ModelError(GoldenSampleFailed). A model without samples was only warmed up by its worker.
    """
    for index, sample in enumerate(model.spec.warm_up.samples):
        request = sample if isinstance(sample, Mapping) and "inputs" in sample else {"inputs": sample}
        document = {name: value for name, value in request.items() if name not in _RECORDED}
        try:
            parsed = predict.parse(document, model.known_signature())
            result = await model.submit(parsed.inputs, timeout=_SECONDS, abandoned=lambda: False)
        except RequestError as error:
            raise _failed(f"sample {index}: {error.message}") from None
        for name in _broken(result.outputs):
            raise _failed(f"sample {index}: output {name!r} holds NaN or infinity")


def _broken(outputs: object) -> Iterator[str]:
    assert isinstance(outputs, list)
    for output in outputs:
        assert isinstance(output, OutputTensor)
        letter = _FLOATS.get(output.spec.datatype)
        if letter is not None and not _finite(array(letter, output.data)):
            yield output.spec.name


def _finite(values: array[float]) -> bool:
    # The sum is a fifth of the work, and requests wait for it; only that of very large numbers may overflow.
    return math.isfinite(sum(values)) or all(map(math.isfinite, values))


def _failed(message: str) -> ModelError:
    return ModelError(Reason.GOLDEN_SAMPLE_FAILED, message)
