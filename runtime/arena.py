"""The memory that front and workers share: one memfd for each model, allocated by the front alone.

A memfd has no name, so nothing is left behind when a process is killed, and its pages count only once
touched.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from bisect import insort

ALIGN = 64

_F_ADD_SEALS = 1033
_SEAL_SIZE = 0x1 | 0x2 | 0x4  # no more seals, no shrinking, no growing


class ArenaFull(Exception):
    """No free stretch is long enough; the caller answers 429."""


class Block:
    """A stretch of the arena with a reference count: 1 when allocated, returned to the arena at 0."""

    __slots__ = ("_arena", "nbytes", "offset", "refs")

    def __init__(self, arena: Arena, offset: int, nbytes: int) -> None:
        self._arena = arena
        self.offset = offset
        self.nbytes = nbytes
        self.refs = 1

    def acquire(self) -> Block:
        if self.refs < 1:
            raise RuntimeError(f"block at {self.offset} was freed before")
        self.refs += 1
        return self

    def release(self) -> None:
        """Raises RuntimeError when there is nothing left to release."""
        if self.refs < 1:
            raise RuntimeError(f"block at {self.offset} is released twice")
        self.refs -= 1
        if self.refs == 0:
            self._arena._free(self)


class Arena:
    """First-fit allocation, so that low addresses are used again and the touched part stays small.

    Not thread-safe: the front's loop owns it. `close` raises when blocks are still out: that is a leak.
    """

    def __init__(self, size: int, *, name: str = "arena") -> None:
        self.size = size
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, _F_ADD_SEALS, _SEAL_SIZE)
        self._map = mmap.mmap(self.fd, size)
        self.view = memoryview(self._map)
        self._holes: list[tuple[int, int]] = [(0, size)]  # (offset, length), sorted, never touching
        self.outstanding = 0

    def allocate(self, nbytes: int) -> Block:
        """A block of at least `nbytes`, aligned to 64 bytes. Raises ArenaFull."""
        length = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        for index, (offset, free) in enumerate(self._holes):
            if free >= length:
                if free == length:
                    del self._holes[index]
                else:
                    self._holes[index] = (offset + length, free - length)
                self.outstanding += 1
                return Block(self, offset, length)
        raise ArenaFull(f"{nbytes} bytes do not fit; {self.free} of {self.size} are free")

    @property
    def free(self) -> int:
        return sum(length for _, length in self._holes)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.view[offset : offset + len(data)] = data

    def read(self, offset: int, nbytes: int) -> bytes:
        return bytes(self.view[offset : offset + nbytes])

    def _free(self, block: Block) -> None:
        self.outstanding -= 1
        insort(self._holes, (block.offset, block.nbytes))
        merged: list[tuple[int, int]] = []
        for offset, length in self._holes:
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((offset, length))
        self._holes = merged

    def close(self) -> None:
        """Idempotent. Raises RuntimeError when a block was never released."""
        if self.fd < 0:
            return
        self.view.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1
        if self.outstanding:
            raise RuntimeError(f"{self.outstanding} arena blocks were never released")
