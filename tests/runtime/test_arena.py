from __future__ import annotations

import fcntl
import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.arena import ALIGN, Arena, ArenaFull, Block

SIZE = 64 * ALIGN


@settings(max_examples=50)
@given(st.lists(st.one_of(st.integers(0, SIZE // 3), st.none()), max_size=60), st.randoms())
def test_blocks_never_overlap_and_all_space_comes_back(steps: list[int | None], random: object) -> None:
    arena = Arena(SIZE)
    live: list[Block] = []
    for step in steps:
        if step is None:
            if live:
                live.pop(random.randrange(len(live))).release()  # type: ignore[attr-defined]
        else:
            try:
                live.append(arena.allocate(step))
            except ArenaFull:
                continue
        spans = sorted((block.offset, block.offset + block.nbytes) for block in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert all(start % ALIGN == 0 and end <= SIZE for start, end in spans)
        assert arena.outstanding == len(live)
    for block in live:
        block.release()
    assert arena.free == SIZE
    assert arena.allocate(SIZE).offset == 0
    with pytest.raises(RuntimeError, match="1 arena blocks"):
        arena.close()


def test_a_block_lives_until_its_last_reference() -> None:
    arena = Arena(SIZE)
    block = arena.allocate(10)
    block.acquire()
    block.release()
    assert arena.outstanding == 1
    block.release()
    assert arena.outstanding == 0
    with pytest.raises(RuntimeError, match="released twice"):
        block.release()
    with pytest.raises(RuntimeError, match="freed before"):
        block.acquire()
    arena.close()
    arena.close()


def test_full_says_how_much_is_free() -> None:
    arena = Arena(SIZE)
    block = arena.allocate(SIZE - ALIGN)
    with pytest.raises(ArenaFull, match=f"{ALIGN} of {SIZE} are free"):
        arena.allocate(ALIGN + 1)
    block.release()
    arena.close()


def test_the_memory_is_shared_sealed_and_nameless() -> None:
    arena = Arena(SIZE)
    arena.write(128, b"hello")
    assert os.pread(arena.fd, 5, 128) == b"hello"
    assert arena.read(128, 5) == b"hello"
    assert fcntl.fcntl(arena.fd, 1034) == 7  # F_GET_SEALS: no shrink, no grow, no more seals
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fd, 1)
    arena.close()
