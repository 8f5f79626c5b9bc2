"""Where requests of one shape lie side by side in the arena, so that a batch needs no gathering."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

from runtime.arena import ALIGN, Arena, Block
from runtime.datatypes import BY_NAME
from runtime.frames import Tensor
from runtime.job import InputTensor


def shape_key(inputs: Sequence[InputTensor]) -> Hashable:
    """What requests must share to run together: all dimensions but the first; None when they cannot.

    Datatypes are the signature's, so they are equal already.
    """
    first = inputs[0].shape[:1]
    if not first or any(tensor.shape[:1] != first for tensor in inputs):
        return None
    return tuple(tensor.shape[1:] for tensor in inputs)


class Rows:
    """Row i of every input, each input's rows contiguous: written once, read by the engine in place.

    Has one reference when made; requests and batches take their own. With `whole` it holds one request
    whose inputs have no common rows.
    """

    __slots__ = ("_arena", "_inputs", "block", "whole")

    def __init__(
        self, arena: Arena, inputs: Sequence[InputTensor], capacity: int, *, whole: bool = False
    ) -> None:
        """Room for `capacity` rows like those of `inputs`. Raises ArenaFull."""
        self._arena = arena
        self.whole = whole
        sizes = [len(tensor.data) if whole else row_bytes(tensor) * capacity for tensor in inputs]
        self.block: Block = arena.allocate(sum(-(-size // ALIGN) * ALIGN for size in sizes))
        offset = self.block.offset
        # Datatype code, place, bytes of a row, its dimensions (all of them with `whole`).
        self._inputs: list[tuple[int, int, int, tuple[int, ...]]] = []
        for tensor, size in zip(inputs, sizes, strict=True):
            code = BY_NAME[tensor.spec.datatype].code
            row = size if whole else row_bytes(tensor)
            self._inputs.append((code, offset, row, tensor.shape if whole else tensor.shape[1:]))
            offset += -(-size // ALIGN) * ALIGN

    def write(self, row: int, inputs: Sequence[InputTensor]) -> None:
        for tensor, (_, offset, size, _) in zip(inputs, self._inputs, strict=True):
            self._arena.write(offset + row * size, tensor.data)

    def move(self, source: int, rows: int, target: int) -> None:
        """Copies rows within the buffer; the two stretches may overlap."""
        view = self._arena.view
        for _, offset, size, _ in self._inputs:
            start = offset + target * size
            # A copy in between: what overlapping assignment does is not promised.
            view[start : start + rows * size] = bytes(
                view[offset + source * size : offset + (source + rows) * size]
            )

    def tensors(self, row: int, rows: int) -> list[Tensor]:
        if self.whole:
            return [
                Tensor(code, index, offset, size, dims)
                for index, (code, offset, size, dims) in enumerate(self._inputs)
            ]
        return [
            Tensor(code, index, offset + row * size, rows * size, (rows, *dims))
            for index, (code, offset, size, dims) in enumerate(self._inputs)
        ]


def row_bytes(tensor: InputTensor) -> int:
    return prod(tensor.shape[1:]) * BY_NAME[tensor.spec.datatype].size
