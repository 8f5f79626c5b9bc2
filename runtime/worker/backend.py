"""What every engine offers, and the rules for the native object behind it."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy
from numpy.typing import NDArray

from runtime.signature import Signature

Array: TypeAlias = NDArray[numpy.generic]
T = TypeVar("T")


class Backend(Protocol):
    """A loaded model. One thread uses it, the one that made it. `close` may be called twice."""

    @property
    def engine(self) -> str: ...
    @property
    def signature(self) -> Signature: ...
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Inputs and outputs in the signature's order, C-contiguous. Raises InvalidInput, or what the engine
        raises.
        """
        ...

    def close(self) -> None: ...


class InvalidInput(Exception):
    """The engine says the input does not fit the network (a dynamic shape it cannot take, an index out of
    range).
    """


class Counters:
    """Native handles made and released in this process; equal when nothing leaks."""

    created = 0
    destroyed = 0


class Handle(Generic[T]):
    """The only owner of one native object.

    `close()` releases it, once; using it afterwards, or from another thread than its maker's, raises
    RuntimeError. An owner that forgets to close is caught by a finalizer, which releases and warns.
    """

    __slots__ = ("__weakref__", "_finalizer", "_native", "_thread", "name")

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self.name = name
        self._thread = threading.get_ident()
        self._native: list[T] = [make()]
        Counters.created += 1
        # The list, not self, is what the finalizer holds: it must not keep its own owner alive.
        self._finalizer = weakref.finalize(self, _release, self._native, name)

    def get(self) -> T:
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"{self.name} belongs to another thread; a predictor has exactly one")
        if not self._native:
            raise RuntimeError(f"{self.name} is closed")
        return self._native[0]

    @property
    def closed(self) -> bool:
        return not self._native

    def close(self) -> None:
        if self._native:
            self._finalizer.detach()
            self._native.clear()
            Counters.destroyed += 1


def _release(native: list[T], name: str) -> None:
    if native:
        native.clear()
        Counters.destroyed += 1
        warnings.warn(f"{name} was never closed; released by the finalizer", ResourceWarning, stacklevel=1)
