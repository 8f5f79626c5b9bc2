from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import File
from artifacts._ledger import Ledger, load, save

FILE = File("k", "p", 100, "e")
RANGES = st.lists(
    st.tuples(st.integers(0, 64), st.integers(0, 64)).map(lambda r: (min(r), max(r))), max_size=12
)


@given(RANGES, st.integers(1, 70))
def test_against_a_set_of_bytes(ranges: list[tuple[int, int]], chunk: int) -> None:
    ledger, model = Ledger(64), set[int]()
    for start, end in ranges:
        ledger.add(start, end)
        model |= set(range(start, end))
        assert ledger.done == len(model)
    assert ledger.complete == (len(model) == 64)
    assert ledger.prefix == next(i for i in range(65) if i not in model)
    pieces = ledger.missing(chunk)
    assert all(0 < end - start <= chunk for start, end in pieces)
    assert sorted(b for s, e in pieces for b in range(s, e)) == sorted(set(range(64)) - model)
    assert all(a[1] < b[0] for a, b in zip(ledger.ranges, ledger.ranges[1:], strict=False))
    for start, end in pieces:
        ledger.add(start, end)
    assert ledger.complete
    assert ledger.ranges == ((0, 64),)


@pytest.mark.parametrize("bad", [(-1, 2), (5, 4), (0, 101)])
def test_outside(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not within"):
        Ledger(100).add(*bad)


def test_nothing_to_do() -> None:
    assert Ledger(0).complete
    assert Ledger(0).missing(5) == []


@given(RANGES)
def test_saved_and_loaded(tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "0.json"
    save(path, Ledger(100, ranges), FILE, "boot")
    assert load(path, FILE, "boot").ranges == Ledger(100, ranges).ranges


@pytest.mark.parametrize(
    ("file", "boot"),
    [
        (File("k", "p", 100, "other"), "boot"),
        (File("k", "p", 100, "e", "ab" * 32), "boot"),
        (File("k2", "p", 100, "e"), "boot"),
        (FILE, "another boot"),
    ],
)
def test_other_content_starts_anew(tmp_path: Path, file: File, boot: str) -> None:
    save(tmp_path / "0", Ledger(100, [(0, 10)]), FILE, "boot")
    assert load(tmp_path / "0", FILE, "boot").done == 10
    assert load(tmp_path / "0", file, boot).done == 0


def test_without_a_validator_nothing_is_resumed(tmp_path: Path) -> None:
    file = File("k", "p", 100)
    save(tmp_path / "0", Ledger(100, [(0, 10)]), file, "boot")
    assert load(tmp_path / "0", file, "boot").done == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"identity": ["k", 100, "e", "", "boot", ""], "ranges": [[0, 999]]}']
)
def test_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "0").write_text(text)
    assert load(tmp_path / "0", FILE, "boot").done == 0
