"""A model's signature: the inputs and outputs it really has, and how they compare with what was declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from runtime.datatypes import BY_NAME
from runtime.errors import ModelError, Reason, bad_request

Wire: TypeAlias = dict[str, object]


class Declared(Protocol):
    """An input or output as the user wrote it in the model's spec."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, V2 datatype and shape of one tensor; -1 is a dimension of any length of at least 1."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_wire(self) -> Wire:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> TensorSpec:
        shape = raw["shape"]
        assert isinstance(shape, Sequence)
        return cls(str(raw["name"]), str(raw["datatype"]), tuple(int(d) for d in shape))

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises a 400 naming this input when `shape` does not fit."""
        mine = self.shape
        if len(shape) != len(mine):
            raise bad_request(
                f"input {self.name!r}: shape {list(shape)} has {len(shape)} dimensions, "
                f"the model expects {list(mine)}"
            )
        for got, want in zip(shape, mine, strict=True):
            if got != want and want >= 0:
                raise bad_request(
                    f"input {self.name!r}: shape {list(shape)} does not fit, the model expects {list(mine)}"
                )
            if got < 1:
                raise bad_request(
                    f"input {self.name!r}: shape {list(shape)} has a dimension below 1; send some data"
                )


@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs and outputs in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_wire(self) -> Wire:
        return {"inputs": [t.to_wire() for t in self.inputs], "outputs": [t.to_wire() for t in self.outputs]}

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> Signature:
        def side(name: str) -> tuple[TensorSpec, ...]:
            items = raw[name]
            assert isinstance(items, Sequence)
            return tuple(TensorSpec.from_wire(item) for item in items)

        return cls(side("inputs"), side("outputs"))


def narrowed(real: Signature, inputs: Sequence[Declared], outputs: Sequence[Declared]) -> Signature:
    """The real signature with dynamic dimensions narrowed to declared lengths.

    Nothing declared on a side means nothing to check there. Raises ModelError(SchemaMismatch) naming the
    first difference: a missing or unknown name, another datatype, another shape.
    """
    return Signature(
        _narrow("inputs", real.inputs, inputs) if inputs else real.inputs,
        _narrow("outputs", real.outputs, outputs) if outputs else real.outputs,
    )


def _narrow(side: str, real: Sequence[TensorSpec], declared: Sequence[Declared]) -> tuple[TensorSpec, ...]:
    by_name = {tensor.name: tensor for tensor in declared}
    names = ", ".join(tensor.name for tensor in real)
    known = {tensor.name for tensor in real}
    for name in by_name:
        if name not in known:
            raise _mismatch(
                f"{side}: {name!r} is declared, but the model has {names or 'none'}; correct the name"
            )
    result = []
    for tensor in real:
        want = by_name.get(tensor.name)
        if want is None:
            raise _mismatch(f"{side}: the model has {tensor.name!r}, which is not declared; add it")
        if want.datatype != tensor.datatype:
            raise _mismatch(
                f"{side}: {tensor.name!r} is declared {want.datatype}, the model has {tensor.datatype}"
            )
        if not want.shape:
            result.append(tensor)
            continue
        fits = len(want.shape) == len(tensor.shape) and all(
            mine in (-1, declared_dim) for mine, declared_dim in zip(tensor.shape, want.shape, strict=True)
        )
        if not fits:
            raise _mismatch(
                f"{side}: {tensor.name!r} is declared with shape {list(want.shape)}, "
                f"the model has {list(tensor.shape)}"
            )
        result.append(TensorSpec(tensor.name, tensor.datatype, tuple(want.shape)))
    return tuple(result)


def _mismatch(message: str) -> ModelError:
    return ModelError(Reason.SCHEMA_MISMATCH, message)


def check_successor(old: Signature, new: Signature) -> None:
    """Raises ModelError(SignatureChanged) when a client of `old` could not be served by `new`.

    Every input must be there with its datatype and take what it took before: a dimension that was open stays
    open. Every output must be there with its datatype and as many dimensions; those that were fixed stay.
    """
    for side, before, after in (
        ("input", old.inputs, new.inputs),
        ("output", old.outputs, new.outputs),
    ):
        now = {tensor.name: tensor for tensor in after}
        for tensor in before:
            other = now.pop(tensor.name, None)
            if other is None:
                raise _changed(f"{side} {tensor.name!r} is gone; the new version has {sorted(now) or 'none'}")
            if other.datatype != tensor.datatype:
                raise _changed(f"{side} {tensor.name!r} was {tensor.datatype} and is {other.datatype}")
            if not _takes(tensor.shape, other.shape, output=side == "output"):
                raise _changed(f"{side} {tensor.name!r} was {list(tensor.shape)}, is {list(other.shape)}")
        if now and side == "input":
            raise _changed(f"input {min(now)!r} is new, and requests do not have it")


def _takes(old: Sequence[int], new: Sequence[int], *, output: bool) -> bool:
    if len(old) != len(new):
        return False
    if output:
        return all(now in (was, -1) or was == -1 for was, now in zip(old, new, strict=True))
    return all(now in (was, -1) for was, now in zip(old, new, strict=True))


def _changed(message: str) -> ModelError:
    return ModelError(Reason.SIGNATURE_CHANGED, message)


def check_servable(signature: Signature) -> Signature:
    """Refuses at load what no request could carry: no inputs, or string tensors."""
    if not signature.inputs:
        raise ModelError(Reason.LOAD_FAILED, "the model has no inputs; export it with an input specification")
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.datatype == "BYTES" or tensor.datatype not in BY_NAME:
            raise ModelError(
                Reason.LOAD_FAILED,
                f"{tensor.name!r} has datatype {tensor.datatype}, which is not served; use a numeric type",
            )
    return signature
