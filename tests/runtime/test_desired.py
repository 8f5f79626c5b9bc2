"""models.yaml, watched: what is a change, and which file holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from artifacts import ArtifactError
from runtime.desired import ConfigFile, Fixed
from runtime.spec import from_argument
from tests.runtime.reloading import Config, desired, model


def test_a_change_is_told_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.write(model(tmp_path, "v1.0.0"))
    source = ConfigFile(config.path, tmp_path)
    assert [source.changed() for _ in range(3)] == [False] * 3
    config.write(model(tmp_path, "v2.0.0"))
    assert [source.changed() for _ in range(4)] == [False, True, False, False]
    (target,) = source.read()
    assert (target.spec.version, source.revision) == ("v2.0.0", "r1")
    plain = tmp_path / "plain.yaml"
    plain.write_text("half")
    source = ConfigFile(plain, tmp_path)
    for length in (10, 20, 30):  # each look finds it longer: it is still being written
        plain.write_text("x" * length)
        assert not source.changed()
    assert source.changed()


def test_a_file_that_goes_is_a_change_and_cannot_be_read(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.write(model(tmp_path, "v1.0.0"))
    source = ConfigFile(config.path, tmp_path)
    config.path.unlink()
    assert [source.changed() for _ in range(3)] == [False, True, False]
    with pytest.raises(ArtifactError, match=r"models\.yaml"):
        source.read()


@pytest.mark.parametrize("word", ["", "no-such", "../escape", "x" * 64, "\u00e4", "a b"])
def test_a_word_without_a_file_is_the_base(tmp_path: Path, word: str) -> None:
    config = Config(tmp_path)
    config.write(model(tmp_path, "v1.0.0"))
    (tmp_path / "word").write_text(word)
    assert ConfigFile(config.path, tmp_path, release=tmp_path / "word").path == config.path
    assert ConfigFile(config.path, tmp_path, release=tmp_path / "none").path == config.path


def test_the_word_chooses_the_file(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.write(model(tmp_path, "v1.0.0"))
    word = tmp_path / "word"
    source = ConfigFile(config.path, tmp_path, release=word)
    other = tmp_path / "models-ab12.yaml"
    other.write_text(yaml.safe_dump({**desired([model(tmp_path, "v2.0.0")]), "revision": "ab12"}))
    assert not source.changed()
    word.write_text("ab12\n")
    assert [source.changed() for _ in range(3)] == [False, True, False]
    assert source.read()[0].spec.version == "v2.0.0"
    assert source.revision == "ab12"


def test_targets_are_compared_by_what_they_are_made_of(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.write(model(tmp_path, "v1.0.0"))
    source = ConfigFile(config.path, tmp_path)
    (one,), (same,) = source.read(), source.read()
    assert one.identity == same.identity
    assert not one.pinned
    config.write(model(tmp_path, "v1.0.0", priority=5))
    assert source.read()[0].identity != one.identity
    fixed = Fixed([from_argument(f"m={tmp_path}")])
    assert not fixed.changed()
    assert fixed.read()[0].identity == fixed.read()[0].identity
