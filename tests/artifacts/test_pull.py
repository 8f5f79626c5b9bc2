"""Pulling whole models from a real object store."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import (
    ArtifactError,
    Desired,
    File,
    Progress,
    Reason,
    Stop,
    digest_of,
    locate,
    pull,
)
from tests.artifacts.pulling import QUICK, fails, http_entry, noise, pinned, run, sha, tree
from tests.artifacts.servers import CuttingProxy, FileServer
from tests.support.objectstore import ACCESS_KEY, ObjectStore, free_ports


async def test_prefix(store: ObjectStore, tmp_path: Path) -> None:
    data = noise(1_234_567)
    model = await pinned(store, "p", {"p/inference.json": b"{}", "p/d/w.bin": data, "p/empty": b""})
    done = run(model, tmp_path)
    where = tmp_path / "uid-1" / model.digest[5:17]
    assert done.path == where == locate(model, tmp_path)
    assert (where / "d/w.bin").read_bytes() == data
    assert tree(tmp_path) == [
        f"uid-1/{where.name}/{n}" for n in (".artifact.json", "d/w.bin", "empty", "inference.json")
    ]
    expected = [
        File("", f.path, f.size, "", h)
        for f, h in zip(model.source.files, map(sha, (data, b"", b"{}")), strict=True)
    ]
    assert done.content_digest == digest_of(expected)
    assert done.content_digest.startswith("sha256:")
    assert (done.size, done.reused) == (len(data) + 2, False)
    assert json.loads((where / ".artifact.json").read_text())["contentDigest"] == done.content_digest
    # Again: nothing is fetched, which credentials that would be refused show.
    assert run(model, tmp_path, env={}) == replace(done, reused=True)


async def test_a_damaged_copy_is_pulled_again(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await pinned(store, "dam", {"dam/a": b"aaaa", "dam/b": b"bbbb"})
    where = run(model, tmp_path).path
    (where / "a").unlink()
    assert not run(model, tmp_path).reused
    (where / "a").write_bytes(b"aaa")
    assert not run(model, tmp_path).reused
    (where / ".artifact.json").write_text("{}")
    assert not run(model, tmp_path).reused
    (where / "a").write_bytes(b"xxxx")  # the same size: only a new boot makes it doubtful
    assert run(model, tmp_path).reused
    monkeypatch.setattr("artifacts._pull.boot_id", lambda: "another boot")
    assert not run(model, tmp_path).reused
    assert (where / "a").read_bytes() == b"aaaa"
    monkeypatch.setattr("artifacts._pull.boot_id", lambda: "a third boot")
    assert run(model, tmp_path).reused


@pytest.mark.parametrize("name", ["m.tar", "m.tgz"])
async def test_tar(store: ObjectStore, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz" if name == "m.tgz" else "w") as tar:
        for path, data in (("rec_infer/inference.json", b"{}"), ("rec_infer/w", noise(5000))):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    model = await pinned(store, f"tar/{name}", {f"tar/{name}": packed.getvalue()})
    done = run(model, tmp_path)
    assert tree(done.path) == ["inference.json", "w"]
    assert done.path.name == "rec_infer"
    assert locate(model, tmp_path) == done.path
    assert run(model, tmp_path).reused
    assert not [p for p in (tmp_path / "uid-1").iterdir() if p.name.endswith(".part")]


async def test_an_unsafe_tar_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"), io.BytesIO(b""))
    model = await pinned(store, "evil.tar", {"evil.tar": packed.getvalue()})
    assert fails(model, tmp_path).reason is Reason.UNSAFE_ARCHIVE
    assert tree(tmp_path) == []
    with pytest.raises(ArtifactError, match="nothing was pulled"):
        locate(model, tmp_path)


async def test_resume_after_cuts(store: ObjectStore, tmp_path: Path) -> None:
    data = noise(3_000_000)
    with CuttingProxy(store.port, lambda passed: passed % 700_000 > 634_464) as proxy:
        model = await pinned(store, "cut", {"cut/w": data}, endpoint=proxy.endpoint)
        proxy.passed = proxy.cuts = 0
        done = run(model, tmp_path)
        assert proxy.cuts > 1
        assert proxy.passed < 2 * len(data)
    assert (done.path / "w").read_bytes() == data


async def test_resume_by_another_process(store: ObjectStore, tmp_path: Path) -> None:
    data = noise(3_000_000)
    with CuttingProxy(store.port, lambda passed: passed > 1_500_000) as proxy:
        model = await pinned(store, "again", {"again/w": data}, endpoint=proxy.endpoint)
        error = fails(model, tmp_path)
        assert error.reason is Reason.ENDPOINT_UNREACHABLE
        assert error.retryable
    names = tree(tmp_path)
    assert any(".part/ledger/" in n for n in names)
    assert not any(n.endswith(".artifact.json") for n in names)
    with CuttingProxy(store.port, lambda _: False) as proxy:
        moved = replace(model, source=replace(model.source, endpoint=proxy.endpoint))
        done = run(moved, tmp_path)
        assert proxy.passed < 2_300_000
    assert (done.path / "w").read_bytes() == data


async def test_content_that_changed(store: ObjectStore, tmp_path: Path) -> None:
    model = await pinned(store, "chg", {"chg/w": b"old!"})
    store.put("pull", "chg/w", b"new!")
    error = fails(model, tmp_path)
    assert error.reason is Reason.CONTENT_CHANGED
    assert "'chg/w'" in error.message
    assert tree(tmp_path) == []


async def test_what_the_store_refuses(store: ObjectStore, tmp_path: Path) -> None:
    model = await pinned(store, "ref", {"ref/w": b"1234"})
    bad = {"M_ACCESS_KEY_ID": ACCESS_KEY, "M_SECRET_ACCESS_KEY": "wrong"}
    assert fails(model, tmp_path, env=bad).reason is Reason.INVALID_CREDENTIALS
    assert fails(model, tmp_path, env={}).reason is Reason.ACCESS_DENIED
    assert fails(model, tmp_path, env={"M_ACCESS_KEY_ID": "x"}).reason is Reason.SECRET_INVALID
    for change, reason in (
        ({"bucket": "nope-nope"}, Reason.KEY_NOT_FOUND),  # this store does not tell the two apart here
        ({"files": (File("ref/none", "w", 4, "e"),)}, Reason.KEY_NOT_FOUND),
        ({"endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"}, Reason.ENDPOINT_UNREACHABLE),
    ):
        wrong = replace(model, source=replace(model.source, **change))
        assert fails(wrong, tmp_path).reason is reason


async def test_checksums(store: ObjectStore, tmp_path: Path) -> None:
    model = await pinned(store, "sum", {"sum/w": b"1234", "sum/v": b"5678"})
    files = model.source.files
    wrong = replace(
        model, source=replace(model.source, files=(files[0], replace(files[1], sha256="ab" * 32)))
    )
    error = fails(wrong, tmp_path)
    assert error.reason is Reason.CHECKSUM_MISMATCH
    for said in ("'w'", "sha256:" + "ab" * 32, "sha256:" + sha(b"1234")):
        assert said in error.message
    assert tree(tmp_path) == []
    assert fails(replace(model, checksum="ab" * 32), tmp_path).reason is Reason.CHECKSUM_MISMATCH
    assert tree(tmp_path) == []
    right = run(model, tmp_path).content_digest.removeprefix("sha256:")
    assert run(replace(model, uid="u2", checksum=right), tmp_path).content_digest == f"sha256:{right}"
    single = replace(model, uid="u3", source=replace(model.source, files=files[1:]))
    assert fails(replace(single, checksum="ab" * 32), tmp_path).reason is Reason.CHECKSUM_MISMATCH
    run(replace(single, checksum=sha(b"1234")), tmp_path)


def test_a_folder_that_is_not_writable(files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = fails(http_entry(files, {"w": b"1234"}), tmp_path / "file")
    assert error.reason is Reason.PULL_FAILED


def test_several_models(files: FileServer, tmp_path: Path) -> None:
    one = http_entry(files, {"a": b"1"}, name="one", uid="u1", priority=1)
    two = http_entry(files, {"b": b"2"}, name="two", uid="u2", priority=2)
    progress = Progress("rev")
    desired = Desired(service="s", namespace="d", revision="rev", models=(one, two))
    done = pull(desired, tmp_path, progress=progress, stop=Stop(), options=QUICK, env={})
    assert [p.name for p in done] == ["two", "one"]
    del files.files["/a"]
    gone = replace(desired, models=(replace(one, uid="u3"), two))
    progress = Progress("rev")
    with pytest.raises(ArtifactError, match="model one: ") as caught:
        pull(gone, tmp_path, progress=progress, stop=Stop(), options=QUICK, env={})
    assert caught.value.reason is Reason.KEY_NOT_FOUND
    assert progress.snapshot()["stage"] == "Failed"
