"""What a run costs: seconds = a + b x rows, learnt for each shape. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping

_DECAY = 0.95  # of what was seen before, with each observation: the last 20 runs count for most
_MOST_SHAPES = 256


class Cost:
    """An exponentially weighted least-squares line with a >= 0 and b >= 0.

    While all runs had the same number of rows, the share of b is the last one known (1 at first: twice the
    rows, twice the time).
    """

    __slots__ = ("_n", "_nn", "_nt", "_share", "_t", "_weight")

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        self._share = 1.0

    def observe(self, rows: int, seconds: float) -> None:
        self._weight = self._weight * _DECAY + 1.0
        self._n = self._n * _DECAY + rows
        self._t = self._t * _DECAY + seconds
        self._nn = self._nn * _DECAY + rows * rows
        self._nt = self._nt * _DECAY + rows * seconds
        n, t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - n * n
        if spread > 0.01 and t > 0:
            slope = (self._nt / self._weight - n * t) / spread
            self._share = min(1.0, max(0.0, slope * n / t))

    @property
    def known(self) -> bool:
        return self._weight > 0

    def seconds(self, rows: int) -> float:
        """0 while nothing is known."""
        if not self._weight:
            return 0.0
        n, t = self._n / self._weight, self._t / self._weight
        return t * (1.0 + self._share * (rows / n - 1.0))


class Costs:
    """One Cost for each shape, the least recently used forgotten; a new shape is guessed from all of them.

    The first run of a shape is not counted: engines prepare their kernels in it.
    """

    def __init__(self) -> None:
        self._all = Cost()
        self._shapes: OrderedDict[Hashable, Cost] = OrderedDict()

    def reset(self, measured: Mapping[int, float]) -> None:
        """Starts again from what the warm-up measured: rows -> seconds."""
        self._all = Cost()
        self._shapes.clear()
        for rows, seconds in sorted(measured.items(), reverse=True):
            self._all.observe(rows, seconds)

    def observe(self, shape: Hashable, rows: int, seconds: float) -> None:
        cost = self._shapes.get(shape)
        if cost is None:
            self._shapes[shape] = Cost()
            if len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
            return
        self._shapes.move_to_end(shape)
        cost.observe(rows, seconds)
        self._all.observe(rows, seconds)

    def seconds(self, shape: Hashable, rows: int) -> float:
        cost = self._shapes.get(shape)
        return (cost if cost is not None and cost.known else self._all).seconds(rows)
