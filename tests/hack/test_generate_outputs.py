"""Writing, checking, and that what is committed is current."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hack.generate import __main__ as command
from hack.generate.outputs import differences, outputs, write

ROOT = Path(__file__).resolve().parents[2]
ROLE = Path("config/rbac/cluster/role.yaml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with the real sources and nothing generated."""
    for sources in ("config/crd/src", "runtime/grpc/protos"):
        shutil.copytree(ROOT / sources, tmp_path / sources)
    return tmp_path


def test_what_is_committed_is_current() -> None:
    assert command.main(["--check"]) == 0


def test_writing_makes_the_check_pass_and_a_second_run_writes_nothing(root: Path) -> None:
    wanted = outputs(root, ())
    assert next(differences(root, wanted)).problem == "does not exist"
    assert set(write(root, wanted)) == set(wanted)
    assert list(differences(root, outputs(root, ()))) == []
    assert write(root, wanted) == []


def test_an_edited_file_is_named(root: Path) -> None:
    wanted = outputs(root, ())
    write(root, wanted)
    edited = root / "api/v1alpha1/common.py"
    edited.write_text(edited.read_text() + "# by hand\n")
    assert [str(found) for found in differences(root, wanted)] == [
        "api/v1alpha1/common.py: differs from what its sources give; run make generate"
    ]


def test_a_stale_file_is_named_and_removed(root: Path) -> None:
    wanted = outputs(root, ())
    write(root, wanted)
    stale = root / "docs/reference/gone.md"
    stale.write_text("# Gone\n")
    assert [str(found) for found in differences(root, wanted)] == [
        "docs/reference/gone.md: nothing generates it any more; run make generate"
    ]
    assert write(root, wanted) == [Path("docs/reference/gone.md")]
    assert not stale.exists()


def test_the_command_writes_checks_and_fails_with_the_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROOT", root)
    assert command.main(["--check"]) == 1
    assert f"{ROLE}: does not exist; run make generate" in capsys.readouterr().err
    assert command.main([]) == 0
    assert f"wrote {ROLE}" in capsys.readouterr().out
    assert command.main(["--check"]) == 0


def test_a_wrong_source_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "config/crd/src/broken.yaml").write_text(
        "kind: CustomResourceDefinition\nspec: {$ref: artifact.yaml#Nothing}\n"
    )
    monkeypatch.setattr(command, "ROOT", root)
    assert command.main([]) == 1
    assert capsys.readouterr().err == (
        "config/crd/src: broken.yaml: artifact.yaml#Nothing does not exist: "
        "define Nothing in config/crd/src/artifact.yaml\n"
    )
