"""The pointer file."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts import _place as place


def test_pointers(tmp_path: Path) -> None:
    assert place.read_placed(tmp_path) is None
    placed = place.Placed(
        root="m", digest="d", content_digest="c", size=1, files=(("m/a", 1, "s"),), boot="b"
    )
    place.write_placed(tmp_path, placed)
    assert place.read_placed(tmp_path) == placed
    assert place.boot_id() != ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [".artifact.json"]


def test_boot_id_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "_BOOT_ID", tmp_path / "none")
    assert place.boot_id() == ""
