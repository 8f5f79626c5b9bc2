"""May requests of this model share a run? Probed with rows that differ, never assumed; and is it worth it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy
from numpy.typing import NDArray

from runtime.signature import Signature, Wire
from runtime.worker.backend import Array, Backend, InvalidInput

DEFAULT_ROWS = 8
_PROBED = (2, 3)
# How far a row of a batch may lie from the same row alone, relative to the largest value of that output:
# other batch sizes take other paths through the engine, and those round differently.
_TOLERANCE = {2: 1e-2, 4: 1e-3, 8: 1e-6}
# A batch counts as no slower when its rows take at most this much longer than single ones.
_NO_SLOWER = 1.05
_REFUSED = (InvalidInput, RuntimeError, OSError, SystemError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batchability:
    """`max_rows` 1 means never joined, and `reason` says why. `seconds` is measured, by rows; `difference`
    the largest between a row alone and in a batch (0 when nothing was probed).
    """

    max_rows: int = 1
    reason: str = ""
    difference: float = 0.0
    seconds: dict[int, float] = field(default_factory=dict)

    def to_wire(self) -> Wire:
        return {
            "maxRows": self.max_rows,
            "reason": self.reason,
            "difference": self.difference,
            "seconds": {str(rows): seconds for rows, seconds in self.seconds.items()},
        }

    @classmethod
    def from_wire(cls, raw: object) -> Batchability:
        assert isinstance(raw, Mapping)
        return cls(
            max_rows=int(raw["maxRows"]),
            reason=str(raw["reason"]),
            difference=float(raw["difference"]),
            seconds={int(rows): float(seconds) for rows, seconds in raw["seconds"].items()},
        )


def probe(
    backend: Backend,
    signature: Signature,
    sample: Sequence[Array] | None,
    *,
    wanted: int | None,
    one: float,
    until: float,
    clock: Callable[[], float] = perf_counter,
) -> Batchability:
    """Runs 1, 2 and 3 different rows and compares; then times a full batch.

    `wanted` is the user's maxBatchSize; None asks for up to 8 rows, if a batch of 8 is no slower for each row
    than 8 single runs. `one` is the measured time of one row; nothing is started that would pass `until`.
    """
    if wanted == 1:
        return Batchability(reason="maxBatchSize is 1", seconds=_known(one))
    if sample is None:
        return Batchability(reason="not probed: no input to warm up with")
    fixed = next((t for t in (*signature.inputs, *signature.outputs) if t.shape[:1] != (-1,)), None)
    if fixed is not None:
        return Batchability(
            reason=f"the first dimension of {fixed.name!r} is fixed, {list(fixed.shape)}", seconds=_known(one)
        )
    if clock() + 6 * one > until:
        return Batchability(reason="not probed: the warm-up has no time left for it", seconds=_known(one))
    rows = [_variant(sample, index) for index in range(max(_PROBED))]
    try:
        reason, difference = _compare(backend, signature, rows)
        if reason:
            return Batchability(reason=reason, difference=difference, seconds=_known(one))
        target = wanted or DEFAULT_ROWS
        seconds = _known(one) | _timed(backend, rows, target, one, until, clock)
    except _REFUSED as error:
        return Batchability(reason=f"a batch was refused: {error}"[:300], seconds=_known(one))
    together = seconds.get(target)
    if wanted is None:
        if together is None:
            reason = "not measured: the warm-up has no time left for it"
            return Batchability(reason=reason, difference=difference, seconds=seconds)
        if together > target * one * _NO_SLOWER:
            reason = (
                f"{target} rows take {together * 1e3:.3g} ms and one {one * 1e3:.3g} ms: not faster together"
            )
            return Batchability(reason=reason, difference=difference, seconds=seconds)
    return Batchability(max_rows=target, difference=difference, seconds=seconds)


def confirm(
    backend: Backend, signature: Signature, sample: Sequence[Array] | None, known: Batchability
) -> Batchability:
    """What is known of this network, once its batches were compared with these weights too; not timed, but a
    full batch has run. Where it cannot be confirmed requests are not joined.
    """
    if known.max_rows == 1 or sample is None:
        return known
    rows = [_variant(sample, index) for index in range(max(_PROBED))]
    try:
        reason, difference = _compare(backend, signature, rows)
        if not reason:
            backend.run(_joined(rows, known.max_rows))
    except _REFUSED as error:
        reason, difference = f"a batch was refused: {error}"[:300], 0.0
    if reason:
        return Batchability(reason=reason, difference=difference, seconds=known.seconds)
    return replace(known, difference=difference)


def _joined(rows: Sequence[Sequence[Array]], count: int) -> list[Array]:
    """A batch of `count` rows, these in turn."""
    return [
        numpy.ascontiguousarray(numpy.concatenate([rows[i % len(rows)][k] for i in range(count)]))
        for k in range(len(rows[0]))
    ]


def _known(one: float) -> dict[int, float]:
    return {1: one} if one > 0 else {}


def _variant(sample: Sequence[NDArray[Any]], index: int) -> list[Array]:
    """The sample's first row, changed so that every index gives another one; whole numbers only change
    places, because another number might be no valid index.
    """
    changed = []
    for array in sample:
        row = numpy.ascontiguousarray(array[:1])
        if row.dtype.kind == "f":
            ramp = numpy.linspace(1.0, 1.0 - 0.25 * index, row.size, dtype=row.dtype).reshape(row.shape)
            changed.append(numpy.multiply(row, ramp) if index else row)
        else:
            changed.append(numpy.roll(row, index))
    return changed


def _compare(backend: Backend, signature: Signature, rows: Sequence[Sequence[Array]]) -> tuple[str, float]:
    """Why the outputs do not fit row by row ("" when they do), and the largest difference."""
    single = [[numpy.array(output) for output in backend.run(row)] for row in rows]
    largest = 0.0
    for count in _PROBED:
        joined = [numpy.concatenate(parts) for parts in zip(*rows[:count], strict=True)]
        for index, (spec, output) in enumerate(zip(signature.outputs, backend.run(joined), strict=True)):
            if output.shape != (count, *single[0][index].shape[1:]) or len(single[0][index]) != 1:
                return f"{count} rows give {spec.name!r} the shape {list(output.shape)}", largest
            for row in range(count):
                difference, allowed = distance(output[row : row + 1], single[row][index])
                largest = max(largest, difference)
                if not difference <= allowed:
                    return f"row {row} of {spec.name!r} differs by {difference:.3g} from a run alone", largest
    return "", largest


def distance(one: Array, other: Array) -> tuple[float, float]:
    """The largest difference of two tensors of the same shape, and how large it may be."""
    if one.size == 0:
        return 0.0, 0.0
    if one.dtype.kind != "f":
        return float(numpy.count_nonzero(one != other)), 0.0
    a, b = one.astype("float64"), other.astype("float64")
    both = numpy.isfinite(a) & numpy.isfinite(b)
    if not numpy.array_equal(numpy.isfinite(a), numpy.isfinite(b)):
        return float("inf"), 0.0
    a, b = a[both], b[both]
    if a.size == 0:
        return 0.0, 0.0
    scale = max(float(numpy.abs(b).max()), 1e-3)
    return float(numpy.abs(a - b).max()), scale * _TOLERANCE[one.dtype.itemsize]


def _timed(
    backend: Backend,
    rows: Sequence[Sequence[Array]],
    target: int,
    one: float,
    until: float,
    clock: Callable[[], float],
) -> dict[int, float]:
    """The quicker of two or more runs of `target` rows, after one that does not count; {} without the
    time.
    """
    if clock() + 3 * target * one > until:
        return {}
    joined = _joined(rows, target)
    backend.run(joined)
    best = float("inf")
    for _ in range(8):
        start = clock()
        backend.run(joined)
        end = clock()
        best = min(best, end - start)
        if end - start > 0.02 or end > until:
            break
    return {target: best}
