"""Which bytes of a file are there already: what makes a cut download go on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from artifacts._manifest import File


class Ledger:
    """A set of half-open byte ranges, kept sorted, disjoint and within [0, size). Not thread-safe."""

    __slots__ = ("_ranges", "size")

    def __init__(self, size: int, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.size = size
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add(start, end)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        return tuple(self._ranges)

    @property
    def done(self) -> int:
        """How many bytes are there."""
        return sum(end - start for start, end in self._ranges)

    @property
    def complete(self) -> bool:
        return self.done == self.size

    @property
    def prefix(self) -> int:
        """How many bytes are there from the start without a hole."""
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def add(self, start: int, end: int) -> None:
        """Marks [start, end) as there; ranges that touch become one."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"[{start}, {end}) is not within [0, {self.size})")
        if start == end:
            return
        kept = []
        for s, e in self._ranges:
            if e < start or s > end:
                kept.append((s, e))
            else:
                start, end = min(s, start), max(e, end)
        kept.append((start, end))
        self._ranges = sorted(kept)

    def missing(self, chunk: int) -> list[tuple[int, int]]:
        """What is not there, in order, in pieces of at most `chunk` bytes."""
        holes: list[tuple[int, int]] = []
        position = 0
        for start, end in [*self._ranges, (self.size, self.size)]:
            while position < start:
                step = min(position + chunk, start)
                holes.append((position, step))
                position = step
            position = end
        return holes


def save(path: Path, ledger: Ledger, file: File, boot: str) -> None:
    """Writes the ledger with the identity of what it counts, atomically."""
    raw = {"identity": _identity(file, boot), "ranges": ledger.ranges}
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(raw), encoding="ascii")
    os.replace(temporary, path)


def load(path: Path, file: File, boot: str) -> Ledger:
    """The ledger at `path`; an empty one when it counts other content, another boot's writes, or is
    damaged.
    """
    try:
        raw = json.loads(path.read_text(encoding="ascii"))
        if raw["identity"] == _identity(file, boot):
            return Ledger(file.size, [(int(start), int(end)) for start, end in raw["ranges"]])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Ledger(file.size)


def _identity(file: File, boot: str) -> list[object]:
    # Without an ETag or hash nothing says that the rest of the file belongs to the same content.
    unsure = "" if file.etag or file.sha256 else os.urandom(8).hex()
    return [file.key, file.size, file.etag, file.sha256, boot, unsure]
