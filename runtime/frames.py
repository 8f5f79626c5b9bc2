"""The wire form between front and worker: one SEQPACKET message each way for a batch, tensors in the arena.

Header `<HBBIIHHQ`: magic, version, op, sequence, generation, rows, number of tensors, send time (ns,
monotonic). Then for each tensor `<BBHQQ` + int64 dims: datatype code, number of dims, index, offset and
length in the arena. What follows is the op's payload: JSON, or for DONE three u64 (copy-in, run and copy-out
in ns).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod

from runtime.datatypes import BY_CODE

MAGIC = 0x5044
VERSION = 1
MAX_FRAME = 64 * 1024  # a socket buffer holds two of them with room; larger things go through the arena
MAX_DIMS = 16
MAX_ROWS = 0xFFFF
WINDOW = 0xFFFF  # index of the tensor that names the region where outputs may be written

_HEADER = struct.Struct("<HBBIIHHQ")
_TENSOR = struct.Struct("<BBHQQ")
TIMES = struct.Struct("<QQQ")


class Op(IntEnum):
    """Front to worker: LOAD, RUN, STATS, SHUTDOWN. Worker to front: the others (STATS answers STATS)."""

    LOAD = 1
    WARM = 2
    RUN = 3
    STATS = 4
    SHUTDOWN = 5
    READY = 16
    DONE = 17
    ERROR = 18
    PROGRESS = 19


class FrameError(ValueError):
    """A message that is not a frame; the peer is broken and is not spoken to again."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: `offset` and `nbytes` within the arena."""

    datatype: int
    index: int
    offset: int
    nbytes: int
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    op: Op
    seq: int
    generation: int = 0
    rows: int = 0
    tensors: Sequence[Tensor] = ()
    payload: bytes = b""
    sent_ns: int = 0


def pack(frame: Frame) -> bytes:
    """The message for a frame. Raises FrameError when it would be larger than MAX_FRAME."""
    parts = [
        _HEADER.pack(
            MAGIC,
            VERSION,
            frame.op,
            frame.seq & 0xFFFFFFFF,
            frame.generation,
            frame.rows,
            len(frame.tensors),
            frame.sent_ns,
        )
    ]
    for t in frame.tensors:
        parts.append(_TENSOR.pack(t.datatype, len(t.dims), t.index, t.offset, t.nbytes))
        parts.append(struct.pack(f"<{len(t.dims)}q", *t.dims))
    parts.append(frame.payload)
    message = b"".join(parts)
    if len(message) > MAX_FRAME:
        raise FrameError(f"a frame of {len(message)} bytes is larger than {MAX_FRAME}")
    return message


def unpack(message: bytes, arena_size: int) -> Frame:
    """The frame in a message. Raises FrameError on anything malformed, also on a tensor outside the arena."""
    if not _HEADER.size <= len(message) <= MAX_FRAME:
        raise FrameError(f"a message of {len(message)} bytes is no frame")
    magic, version, op, seq, generation, rows, count, sent_ns = _HEADER.unpack_from(message)
    if magic != MAGIC or version != VERSION:
        raise FrameError(f"magic {magic:#x} version {version} is not {MAGIC:#x} version {VERSION}")
    at = _HEADER.size
    tensors = []
    for _ in range(count):
        if at + _TENSOR.size > len(message):
            raise FrameError("the frame ends within a tensor")
        datatype, ndim, index, offset, nbytes = _TENSOR.unpack_from(message, at)
        at += _TENSOR.size
        if datatype not in BY_CODE or ndim > MAX_DIMS or at + 8 * ndim > len(message):
            raise FrameError(f"tensor {index}: datatype {datatype} with {ndim} dims is not readable")
        dims = struct.unpack_from(f"<{ndim}q", message, at)
        at += 8 * ndim
        if offset + nbytes > arena_size:
            raise FrameError(f"tensor {index}: {offset}+{nbytes} is outside an arena of {arena_size} bytes")
        if index != WINDOW and (min(dims, default=0) < 0 or prod(dims) * BY_CODE[datatype].size != nbytes):
            raise FrameError(f"tensor {index}: {nbytes} bytes do not hold {list(dims)}")
        tensors.append(Tensor(datatype, index, offset, nbytes, dims))
    try:
        kind = Op(op)
    except ValueError:
        raise FrameError(f"op {op} is unknown") from None
    return Frame(kind, seq, generation, rows, tuple(tensors), message[at:], sent_ns)
