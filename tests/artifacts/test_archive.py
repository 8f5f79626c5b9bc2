from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts import ArtifactError, Reason
from artifacts._archive import UnpackLimits, disk_error, single_root, unpack

LIMITS = UnpackLimits(members=50, size=10_000_000, ratio=20, ratio_floor=100_000)


def member(
    name: str, data: bytes = b"data", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o4777
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def write(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_plain_files(tmp_path: Path, mode: str) -> None:
    path = write(
        tmp_path / "m.tar",
        [
            member("./", kind=tarfile.DIRTYPE),
            member("./m/", kind=tarfile.DIRTYPE),
            member("./m/a.json", b"{}"),
            member("m/deep/b.bin", b"\0" * 5000),
            member("empty", b""),
        ],
        mode=mode,
    )
    into = tmp_path / "into"
    into.mkdir()
    assert unpack(path, into, limits=LIMITS) == (("empty", 0), ("m/a.json", 2), ("m/deep/b.bin", 5000))
    assert (into / "m/a.json").read_bytes() == b"{}"
    assert (into / "m/a.json").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    "members",
    [
        [member("../x")],
        [member("/etc/x")],
        [member("a/../../x")],
        [member("a\\b")],
        [member("a\nb")],
        [member(".artifact.json")],
        [member("l", kind=tarfile.SYMTYPE, link="/etc/passwd")],
        [member("l", kind=tarfile.SYMTYPE, link="x")],
        [member("a"), member("l", kind=tarfile.LNKTYPE, link="a")],
        [member("d", kind=tarfile.CHRTYPE)],
        [member("d", kind=tarfile.BLKTYPE)],
        [member("d", kind=tarfile.FIFOTYPE)],
        [member("a"), member("a")],
        [member("a"), member("./a")],
        [member("a"), member("a/b")],
        [member("a/b"), member("a")],
        [member("a"), member("a", kind=tarfile.DIRTYPE)],
        [member(f"f{i}") for i in range(51)],
        [member("x" * 300)],
    ],
    ids=lambda m: m[-1][0].name[:12] + m[-1][0].type.decode("latin1"),
)
def test_unsafe_members(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    path = write(tmp_path / "m.tar", members)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArtifactError, match=r"archive 'm\.tar'") as caught:
        unpack(path, into, limits=LIMITS)
    assert caught.value.reason is Reason.UNSAFE_ARCHIVE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["into", "m.tar"]


def test_size_bombs(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tgz", [member("zeros", b"\0" * 5_000_000)], mode="w:gz")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArtifactError, match="unpacks to more than"):
        unpack(path, into, limits=LIMITS)
    assert list(into.iterdir()) == []
    liar = tarfile.TarInfo("liar")
    liar.size = 2**40
    (tmp_path / "liar.tar").write_bytes(liar.tobuf() + b"x" * 512)
    with pytest.raises(ArtifactError, match="unpacks to more than"):
        unpack(tmp_path / "liar.tar", into, limits=LIMITS)


def test_header_bomb(tmp_path: Path) -> None:
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, 500_000_000
    with gzip.open(tmp_path / "m.tgz", "wb") as out:
        out.write(pax.tobuf() + b"\0" * 10_000_000)
    with pytest.raises(ArtifactError, match="header of") as caught:
        unpack(tmp_path / "m.tgz", tmp_path, limits=LIMITS)
    assert caught.value.reason is Reason.UNSAFE_ARCHIVE


def test_sparse_files(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "m.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(ArtifactError) as caught:
        unpack(tmp_path / "m.tar", tmp_path, limits=LIMITS)
    assert caught.value.reason is Reason.UNSAFE_ARCHIVE


@given(st.integers(0, 10_239), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_cut_anywhere_is_an_error(tmp_path: Path, cut: int, zipped: bool) -> None:
    path = write(tmp_path / "m.tar", [member("a", b"x" * 700), member("b", b"y" * 700)])
    data = path.read_bytes()
    assert len(data) == 10_240
    if zipped:
        data = gzip.compress(data, mtime=0)
        cut = cut % len(data)
    elif cut >= 3584:  # two headers, two files of two blocks, the first block of zeros
        cut = 0  # only padding is cut
    path.write_bytes(data[:cut])
    into = tmp_path / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    with pytest.raises(ArtifactError) as caught:
        unpack(path, into, limits=LIMITS)
    assert caught.value.reason is Reason.UNSAFE_ARCHIVE


@given(st.binary(max_size=2000), st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_noise_never_gets_out(tmp_path: Path, noise: bytes, at: int) -> None:
    path = write(tmp_path / "m.tar", [member("a", b"x" * 700), member("d/b", b"y" * 700)])
    data = path.read_bytes()
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    into = tmp_path / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    reason: Reason | None = None
    try:
        unpack(path, into, limits=LIMITS)
    except ArtifactError as error:
        reason = error.reason
    assert reason in (None, Reason.UNSAFE_ARCHIVE, Reason.NO_FILES)
    assert not [p for p in into.rglob("*") if p.is_symlink()]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["into", "m.tar"]


def test_nothing_inside(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tar", [member("d", kind=tarfile.DIRTYPE)])
    with pytest.raises(ArtifactError) as caught:
        unpack(path, tmp_path, limits=LIMITS)
    assert caught.value.reason is Reason.NO_FILES


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    path = write(tmp_path / "m.tar", [member("a")])
    with pytest.raises(ArtifactError, match="1 MiB are needed") as caught:
        unpack(path, tmp_path, limits=LIMITS)
    assert caught.value.reason is Reason.NO_SPACE


def test_a_check_stops_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tar", [member("a")])

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(path, tmp_path, limits=LIMITS, check=check)


@pytest.mark.parametrize(
    ("paths", "root"),
    [(["m/a", "m/b/c"], "m"), (["m/d/a", "m/d/b"], "m/d"), (["a", "m/b"], "."), (["a"], "."), ([], ".")],
)
def test_roots(paths: list[str], root: str) -> None:
    assert single_root(paths) == root


def test_disk_errors() -> None:
    assert disk_error(OSError(28, "No space"), Path("/x")).reason is Reason.NO_SPACE
    denied = disk_error(PermissionError(13, "Permission denied", "/x/y"), Path("/x"))
    assert "/x/y is not writable" in denied.message
    assert not denied.retryable
    assert disk_error(OSError(5, "I/O error"), Path("/x")).reason is Reason.PULL_FAILED
