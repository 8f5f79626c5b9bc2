"""Cutting a byte stream into lines, whatever their length."""

from __future__ import annotations

from .errors import TransportError


class LineSplitter:
    """Collects chunks and gives back the lines that are complete, without their newline, empty ones dropped.

    A line longer than `limit` bytes raises TransportError: the stream is unusable from there on.
    """

    __slots__ = ("_limit", "_parts", "_size")

    def __init__(self, limit: int = 8 * 1024 * 1024) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, in order."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        longest = max(self._size, max(map(len, lines), default=0))
        if longest > self._limit:
            raise TransportError(f"watch event of more than {self._limit} bytes")
        return [line for line in lines if line]
