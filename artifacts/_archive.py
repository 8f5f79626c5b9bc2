"""Unpacking a tar that someone else wrote, without believing anything it says."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from artifacts._errors import ArtifactError, Reason
from artifacts._manifest import MAX_FILES
from artifacts._source import check_path

_BLOCK = 1024 * 1024
_MAX_HEADER = 1024 * 1024  # extended headers are read into memory whole


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """What an archive may become: members, bytes in all, and bytes as a multiple of its own size."""

    members: int = MAX_FILES
    size: int = 256 * 1024**3
    ratio: int = 100
    ratio_floor: int = 64 * 1024**2  # below this, the ratio does not matter


class _Bounded:
    """A file that refuses to be read in one go beyond what a header may be."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > 2 * _MAX_HEADER:
            raise _unsafe(f"it has a header of {size} bytes")
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()


def _unsafe(what: str) -> ArtifactError:
    return ArtifactError(Reason.UNSAFE_ARCHIVE, what)


def unpack(
    archive: Path, into: Path, *, limits: UnpackLimits, check: Callable[[], None] = lambda: None
) -> tuple[tuple[str, int], ...]:
    """Unpacks a .tar or .tar.gz into the empty folder `into`; returns (path, size) of its files, sorted.

    Plain files and folders only: a link, device, sparse file, absolute name, '..', a name used twice, too
    many members or too many bytes raise UnsafeArchive, a full disk NoSpace, nothing inside NoFiles. Owners,
    modes and times are not taken over. `check` is called between blocks and may raise to stop. What was
    unpacked before an error stays in `into`, which the caller throws away.
    """
    name = archive.name
    limit = min(limits.size, max(limits.ratio_floor, limits.ratio * archive.stat().st_size))
    try:
        with open(archive, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            inner = cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb") if zipped else raw)
            bounded = cast("BinaryIO", _Bounded(inner))
            with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as tar:
                found = _members(tar, into, limits.members, limit, check)
                # The reader takes whatever is no header for the end; only a block of zeros is one.
                bounded.seek(tar.offset)
                if bounded.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
                    raise _unsafe(
                        "it is cut short or damaged after its last readable member: upload it again"
                    )
                bounded.read(_MAX_HEADER)  # the rest, so that gzip checks its own sum
    except ArtifactError as error:
        raise ArtifactError(error.reason, f"archive {name!r}: {error.message}") from None
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise _unsafe(f"archive {name!r} is damaged or no tar ({error}): upload it again") from None
    except OSError as error:
        raise disk_error(error, into) from None
    if not found:
        raise ArtifactError(Reason.NO_FILES, f"archive {name!r} has no files: pack the model's files into it")
    return tuple(sorted(found))


def _members(
    tar: tarfile.TarFile, into: Path, most: int, limit: int, check: Callable[[], None]
) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    files: set[str] = set()
    folders: set[str] = set()
    total = 0
    for count, member in enumerate(tar, 1):
        check()
        if count > most:
            raise _unsafe(f"it has more than {most} members: pack fewer files")
        path = member.name.removeprefix("./").rstrip("/")
        if member.isdir() and path in ("", "."):
            continue
        try:
            check_path(path)
        except ArtifactError:
            raise _unsafe(
                f"member {member.name[:200]!r} has a name that leads outside or is reserved"
            ) from None
        parents = {path[: i or None] for i, c in enumerate(path) if c == "/"}
        if parents & files or path in files or (path in folders and not member.isdir()):
            raise _unsafe(f"member {member.name[:200]!r} is there twice, or is both a file and a folder")
        folders |= parents
        if member.isdir():
            folders.add(path)
            os.makedirs(into / path, exist_ok=True)
            continue
        if not member.isreg() or member.issparse():
            raise _unsafe(
                f"member {member.name[:200]!r} is a link, device or sparse file: pack plain files only"
            )
        total += member.size
        if member.size < 0 or total > limit:
            raise _unsafe(f"it unpacks to more than {limit} bytes: pack it with less compression or split it")
        free = shutil.disk_usage(into).free
        if member.size > free:
            raise no_space(member.size, free, into)
        files.add(path)
        _write(tar, member, into / path, check)
        found.append((path, member.size))
    return found


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, check: Callable[[], None]) -> None:
    os.makedirs(target.parent, exist_ok=True)
    source = tar.extractfile(member)
    left = member.size
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        while left > 0:
            check()
            block = source.read(min(_BLOCK, left)) if source is not None else b""
            if not block:
                raise _unsafe(f"member {member.name[:200]!r} is cut short: upload the archive again")
            out.write(block)
            left -= len(block)


def single_root(paths: list[str]) -> str:
    """The folder below which everything lies ("." when there is none): what `tar -czf x.tgz model/` adds."""
    common = os.path.commonpath([os.path.dirname(p) for p in paths]) if paths else ""
    return common or "."


def no_space(needed: int, free: int, where: Path) -> ArtifactError:
    mib = 1024 * 1024
    return ArtifactError(
        Reason.NO_SPACE,
        f"{where} has {free // mib} MiB free, but {-(-needed // mib)} MiB are needed: raise the volume's size"
        " limit or use a node with more disk",
    )


def disk_error(error: OSError, where: Path) -> ArtifactError:
    """What a failed write means."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ArtifactError(
            Reason.NO_SPACE, f"{where} is full: raise the volume's size limit or free disk space"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text = (
            f"{error.filename or where} is not writable ({error.strerror}): correct the volume or its fsGroup"
        )
        return ArtifactError(Reason.PULL_FAILED, text, retryable=False)
    return ArtifactError(Reason.PULL_FAILED, f"{error.filename or where}: {error.strerror or error}")
