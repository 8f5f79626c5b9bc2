"""Two engines with one model: for tiny networks one is quicker with single rows, the other with many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.signature import Signature
from runtime.worker.backend import Array, Backend

# Below this gain the memory for a second engine is not worth it.
_WORTH = 0.8


class Pair:
    """Runs of `threshold` rows or more go to `many`, the others to `few`, whose name and signature it has."""

    def __init__(self, few: Backend, many: Backend, threshold: int) -> None:
        self.engine = few.engine
        self.signature: Signature = few.signature
        self.threshold = threshold
        self._few = few
        self._many = many

    @property
    def note(self) -> str:
        return f"{self._many.engine} from {self.threshold} rows"

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        first = inputs[0]
        backend = self._many if first.ndim and len(first) >= self.threshold else self._few
        return backend.run(inputs)

    def close(self) -> None:
        self._few.close()
        self._many.close()


def threshold(few: Mapping[int, float], many: Mapping[int, float]) -> int | None:
    """From how many rows on `many` is quicker, by the lines through two measurements of each (rows ->
    seconds, the first for 1 row); None when it is not by so much that it is worth it.
    """
    top = max(many)
    if top == 1 or 1 not in few or 1 not in many:
        return None
    at_top = few.get(top, top * few[1])
    if many[top] > at_top * _WORTH:
        return None

    def line(points: Mapping[int, float], last: float, rows: int) -> float:
        return points[1] + (last - points[1]) * (rows - 1) / (top - 1)

    return next(rows for rows in range(2, top + 1) if line(many, many[top], rows) < line(few, at_top, rows))
