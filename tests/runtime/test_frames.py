from __future__ import annotations

import struct
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.datatypes import BY_CODE
from runtime.frames import MAX_FRAME, WINDOW, Frame, FrameError, Op, Tensor, pack, unpack

ARENA = 1 << 20

tensors = st.builds(
    lambda code, index, offset, dims: Tensor(
        code, index, offset, prod(dims) * BY_CODE[code].size, tuple(dims)
    ),
    st.sampled_from(sorted(BY_CODE)),
    st.integers(0, WINDOW - 1),
    st.integers(0, ARENA // 2),
    st.lists(st.integers(0, 8), max_size=5),
)
frames = st.builds(
    Frame,
    st.sampled_from(Op),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.lists(tensors, max_size=6).map(tuple),
    st.binary(max_size=64),
    st.integers(0, 2**63),
)


@given(frames)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    assert unpack(pack(frame), ARENA) == frame


@given(st.binary(max_size=200))
def test_noise_is_a_frame_error_or_a_frame(noise: bytes) -> None:
    try:
        unpack(noise, ARENA)
    except FrameError:
        pass


@given(frames, st.data())
def test_a_damaged_frame_never_names_memory_outside_the_arena(frame: Frame, data: st.DataObject) -> None:
    message = bytearray(pack(frame))
    for _ in range(3):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = unpack(bytes(message), ARENA)
    except FrameError:
        return
    for tensor in got.tensors:
        assert tensor.offset + tensor.nbytes <= ARENA
        if tensor.index != WINDOW:
            assert tensor.nbytes == prod(tensor.dims) * BY_CODE[tensor.datatype].size


def test_the_layout_is_the_documented_one() -> None:
    message = pack(Frame(Op.RUN, 5, 6, 7, (Tensor(11, 0, 64, 24, (2, 3)),), b"rest", 8))
    assert message[:28] == struct.pack("<HBBIIHHQ", 0x5044, 1, 3, 5, 6, 7, 1, 8) + message[24:28]
    assert message[24:] == struct.pack("<BBHQQ2q", 11, 2, 0, 64, 24, 2, 3) + b"rest"


def test_too_large_a_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="larger than"):
        pack(Frame(Op.ERROR, 1, payload=b"x" * MAX_FRAME))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor(11, 0, ARENA, 4, (1,)), "outside an arena"),
        (Tensor(11, 0, 0, 8, (1,)), "do not hold"),
        (Tensor(11, 0, 0, 4, (-1, -1)), "do not hold"),
        (Tensor(99, 0, 0, 4, (1,)), "not readable"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tensor: Tensor, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        unpack(pack(Frame(Op.RUN, 1, tensors=(tensor,))), ARENA)


@pytest.mark.parametrize("cut", [10, 30])
def test_a_cut_frame_is_refused(cut: int) -> None:
    message = pack(Frame(Op.RUN, 1, tensors=(Tensor(11, 0, 0, 4, (1,)),)))
    with pytest.raises(FrameError):
        unpack(message[:cut], ARENA)
