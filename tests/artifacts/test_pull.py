"""Pulling from a real object store and from HTTP servers that behave badly."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import socket
import tarfile
import threading
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import (
    ArtifactError,
    Credentials,
    Desired,
    File,
    Manifest,
    ModelEntry,
    PinnedSource,
    Progress,
    Pulled,
    PullOptions,
    Reason,
    Source,
    Stop,
    Stopped,
    digest_of,
    locate,
    parse_uri,
    pull,
    pull_model,
    resolve,
)
from artifacts import _place as place
from artifacts._download import DownloadOptions
from tests.artifacts.conftest import LOOPBACK
from tests.artifacts.servers import CertificateAuthority, CuttingProxy, FileServer, etag
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore, free_ports

ENV = {"M_ACCESS_KEY_ID": ACCESS_KEY, "M_SECRET_ACCESS_KEY": SECRET_KEY}
QUICK = PullOptions(
    download=DownloadOptions(chunk=100_000, attempts=4, backoff=0.001, backoff_limit=0.01, stall_timeout=5.0),
    connect_timeout=2.0,
)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(manifest: Manifest, **changes: object) -> ModelEntry:
    made = ModelEntry(
        name="m",
        uid="uid-1",
        version="v1.0.0",
        digest=manifest.digest,
        framework="paddle",
        source=manifest.pin(),
        credentials_env="M",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def pinned(store: ObjectStore, key: str, files: Mapping[str, bytes], endpoint: str = "") -> ModelEntry:
    store.put_all("pull", files)
    source = Source("s3", endpoint or store.endpoint, "pull", key)
    return entry(await resolve(source, Credentials(ACCESS_KEY, SECRET_KEY), policy=LOOPBACK))


def run(
    model: ModelEntry,
    dest: Path,
    *,
    options: PullOptions = QUICK,
    stop: Stop | None = None,
    env: object = ENV,
) -> Pulled:
    tracker = Progress("rev").model(model.name, model.version, model.digest)
    assert isinstance(env, dict)
    return pull_model(model, dest, tracker=tracker, stop=stop or Stop(), options=options, env=env)


def fails(model: ModelEntry, dest: Path, *, options: PullOptions = QUICK, env: object = ENV) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        run(model, dest, options=options, env=env)
    return caught.value


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


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


def http_entry(files: FileServer, content: Mapping[str, bytes], **changes: object) -> ModelEntry:
    files.files |= {f"/{name}": data for name, data in content.items()}
    listed = tuple(File(n, n, len(d), "" if not files.etags else etag(d)) for n, d in content.items())
    return entry(Manifest.of(parse_uri(f"{files.endpoint}/x"), listed), credentials_env="", **changes)


@pytest.mark.parametrize("ranges", [True, False])
def test_http(files: FileServer, tmp_path: Path, ranges: bool) -> None:
    files.ranges = ranges
    data = noise(750_000)
    model = http_entry(files, {"w": data, "small": b"s"})
    done = run(model, tmp_path)
    assert (done.path / "w").read_bytes() == data
    sent = [headers for _, path, headers in files.requests if path == "/w"]
    assert all(h["If-Match"] == f'"{etag(data)}"' for h in sent)
    assert any("Range" in h for h in sent)


@pytest.mark.parametrize("ranges", [True, False])
def test_http_cut(files: FileServer, tmp_path: Path, ranges: bool) -> None:
    files.ranges = ranges
    files.body_limit = [1000, 50_000, 0]
    data = noise(350_000)
    assert (run(http_entry(files, {"w": data}), tmp_path).path / "w").read_bytes() == data
    assert files.body_limit == []


def test_http_resumes_without_ranges(files: FileServer, tmp_path: Path) -> None:
    """What an earlier attempt left is of no use to a server that sends the whole file only; the result is
    right.
    """
    data = noise(350_000)
    model = http_entry(files, {"w": data})
    files.body_limit = [60_000] * 50
    assert fails(
        model, tmp_path, options=replace(QUICK, download=replace(QUICK.download, attempts=1))
    ).retryable
    files.body_limit, files.ranges = [], False
    assert (run(model, tmp_path).path / "w").read_bytes() == data


def test_http_statuses_that_pass(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": b"1234"})
    files.statuses["/w"] = [503, 429]
    run(model, tmp_path)
    files.statuses["/w"] = [503] * 10
    assert fails(replace(model, uid="u2"), tmp_path).reason is Reason.ENDPOINT_UNREACHABLE
    assert len(files.statuses["/w"]) == 6
    files.statuses["/w"] = [403]
    assert fails(replace(model, uid="u3"), tmp_path).reason is Reason.ACCESS_DENIED


def test_http_other_content(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": noise(250_000)})
    files.files["/w"] = noise(250_000, seed=2)
    assert fails(model, tmp_path).reason is Reason.CONTENT_CHANGED
    files.etags = False
    longer = http_entry(files, {"w": b"1234"})
    files.files["/w"] = b"12345"
    error = fails(longer, tmp_path)
    assert error.reason is Reason.SIZE_MISMATCH
    assert "expected 4 bytes, found 5" in error.message
    in_pieces = http_entry(files, {"w": noise(250_000)})
    files.files["/w"] = noise(250_001)
    assert fails(in_pieces, tmp_path).reason is Reason.SIZE_MISMATCH
    assert tree(tmp_path) == []


def test_weak_etags_are_compared_by_us(files: FileServer, tmp_path: Path) -> None:
    files.weak = True
    model = http_entry(files, {"w": b"1234"})
    weak = replace(model.source.files[0], etag=f'W/"{etag(b"1234")}"')
    model = replace(model, source=replace(model.source, files=(weak,)))
    run(model, tmp_path)
    files.files["/w"] = b"4321"
    assert fails(replace(model, uid="u2"), tmp_path).reason is Reason.CONTENT_CHANGED


def test_stalled(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": b"1234"})
    files.hold = threading.Event()
    impatient = replace(QUICK, download=replace(QUICK.download, stall_timeout=0.1, attempts=2))
    error = fails(model, tmp_path, options=impatient)
    assert error.reason in (Reason.STALLED, Reason.ENDPOINT_UNREACHABLE)
    assert error.reason is Reason.STALLED
    assert "no byte" in error.message
    files.hold.set()
    run(model, tmp_path)


def test_tls(authority: CertificateAuthority, tmp_path: Path) -> None:
    with FileServer(context=authority.server_context()) as files:
        ca = tmp_path / "ca.crt"
        ca.write_text(authority.pem)
        data = noise(350_000)
        model = http_entry(files, {"w": data}, ca_file=str(ca))
        assert (run(model, tmp_path).path / "w").read_bytes() == data
        error = fails(replace(model, uid="u2", ca_file=""), tmp_path)
        assert error.reason is Reason.TLS_ERROR


def stop_when(condition: Callable[[], bool], stop: Stop) -> threading.Thread:
    def watch() -> None:
        ticks = threading.Event()
        while not condition():
            ticks.wait(0.005)
        stop.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("secure", [False, True])
def test_stop_in_the_middle(tmp_path: Path, authority: CertificateAuthority, secure: bool) -> None:
    with FileServer(context=authority.server_context() if secure else None) as files:
        (tmp_path / "ca").write_text(authority.pem)
        data = noise(2_000_000)
        model = http_entry(files, {"w": data}, ca_file=str(tmp_path / "ca") if secure else "")
        files.hold = threading.Event()
        stop = Stop()
        watcher = stop_when(lambda: len(files.requests) >= 2, stop)
        with pytest.raises(Stopped):
            run(
                model,
                tmp_path,
                stop=stop,
                options=replace(QUICK, download=replace(QUICK.download, stall_timeout=60)),
            )
        watcher.join()
        assert not any(n.endswith(".artifact.json") for n in tree(tmp_path))
        files.hold.set()
        assert (run(model, tmp_path).path / "w").read_bytes() == data


def test_no_space(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = http_entry(files, {"w": b"1234"})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 7, 3))
    error = fails(model, tmp_path)
    assert error.reason is Reason.NO_SPACE
    assert files.requests == []
    monkeypatch.undo()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert fails(model, tmp_path).reason is Reason.NO_SPACE
    assert tree(tmp_path) == []


def test_a_folder_that_is_not_writable(files: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = fails(http_entry(files, {"w": b"1234"}), tmp_path / "file")
    assert error.reason is Reason.PULL_FAILED


def test_a_bug_ends_the_pull(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("artifacts._http.HttpFiles.open", broken)
    error = fails(http_entry(files, {"w": b"1234"}), tmp_path)
    assert (error.reason, error.message) == (Reason.PULL_FAILED, "ZeroDivisionError: bug")


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


def test_backoff_grows_and_ends() -> None:
    options = DownloadOptions(backoff=0.5, backoff_limit=10.0, random=lambda: 0.5)
    assert [options.delay(n) for n in (1, 2, 3, 10)] == [0.5, 1.0, 2.0, 10.0]
    assert DownloadOptions(random=lambda: 0.0).delay(9) == 5.0


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
