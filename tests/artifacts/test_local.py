"""Models that are verified where they are."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import (
    ArtifactError,
    File,
    ModelEntry,
    PinnedSource,
    Reason,
    digest_of,
    locate,
)
from tests.artifacts.pulling import fails, run, sha, tree


def local(root: Path, **changes: object) -> ModelEntry:
    source = PinnedSource(scheme="pvc", root=str(root))
    made = ModelEntry(name="m", uid="u", version="v1.0.0", digest="", framework="paddle", source=source)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_local_folder(tmp_path: Path) -> None:
    root, dest = tmp_path / "root", tmp_path / "dest"
    (root / "d").mkdir(parents=True)
    (root / "lost+found").mkdir()
    (root / "a").write_bytes(b"a")
    (root / "d/b").write_bytes(b"b")
    wanted = digest_of([File("", "a", 1, "", sha(b"a")), File("", "d/b", 1, "", sha(b"b"))]).removeprefix(
        "sha256:"
    )
    assert locate(local(root), dest) == root
    model = local(root, checksum=wanted)
    with pytest.raises(ArtifactError, match="nothing was pulled"):
        locate(model, dest)
    done = run(model, dest)
    assert done.content_digest == f"sha256:{wanted}"
    assert done.path == locate(model, dest) == root
    assert tree(dest) == [f"u/{wanted[:12]}/.artifact.json"]
    (root / "SHA256SUMS").write_text(f"{sha(b'a')}  a\n{sha(b'b')}  d/b\n")
    assert run(model, dest) == done
    (root / "d/b").write_bytes(b"x")
    error = fails(model, dest)
    assert error.reason is Reason.CHECKSUM_MISMATCH
    assert "'d/b'" in error.message


def test_local_file(tmp_path: Path) -> None:
    root = tmp_path / "m.onnx"
    root.write_bytes(b"onnx")
    assert run(local(root, checksum=sha(b"onnx")), tmp_path / "dest").path == root
    assert fails(local(root, checksum="ab" * 32), tmp_path / "dest").reason is Reason.CHECKSUM_MISMATCH


def test_local_tar(tmp_path: Path) -> None:
    root = tmp_path / "m.tar"
    with tarfile.open(root, "w") as tar:
        info = tarfile.TarInfo("m/a")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"a"))
    model = local(root, checksum=sha(root.read_bytes()))
    done = run(model, tmp_path / "dest")
    assert tree(done.path) == ["a"]
    assert locate(model, tmp_path / "dest") == done.path
    root.write_bytes(b"no tar")
    assert fails(local(root), tmp_path / "dest").reason is Reason.UNSAFE_ARCHIVE


def test_local_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "dest"
    assert fails(local(tmp_path / "none"), dest).reason is Reason.KEY_NOT_FOUND
    empty = tmp_path / "empty"
    empty.mkdir()
    assert fails(local(empty), dest).reason is Reason.NO_FILES
    (empty / "link").symlink_to("/etc/passwd")
    assert fails(local(empty), dest).reason is Reason.INVALID_SOURCE
    assert fails(local(empty / "link"), dest).reason is Reason.INVALID_SOURCE
    (empty / "link").unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(empty / "s"))
        assert fails(local(empty), dest).reason is Reason.INVALID_SOURCE
    (empty / "s").unlink()
    (empty / "a").write_bytes(b"a")

    def denied(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(empty / "a"))

    monkeypatch.setattr("artifacts._local.hash_file", denied)
    assert fails(local(empty), dest).reason is Reason.ACCESS_DENIED
    monkeypatch.setattr(os, "scandir", denied)
    assert fails(local(empty), dest).reason is Reason.ACCESS_DENIED
    monkeypatch.undo()
    monkeypatch.setattr("artifacts._local.MAX_FILES", 0)
    assert "more than 0 files" in fails(local(empty), dest).message
