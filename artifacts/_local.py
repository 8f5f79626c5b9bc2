"""Files that are read where they are: a mounted claim or a folder of the image."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._manifest import MAX_FILES, File
from artifacts._sums import LIMIT, NAME, parse_sums, require_complete

_BLOCK = 4 * 1024 * 1024


def list_local(root: Path) -> tuple[File, ...]:
    """The files below `root` (or `root` itself when it is a file), without their hashes, sorted by path.

    Links are refused: what they point to can change without the folder changing. Raises KeyNotFound, NoFiles,
    AccessDenied and InvalidSource.
    """
    try:
        mode = os.lstat(root).st_mode
        if stat.S_ISREG(mode):
            return (File(str(root), root.name, os.lstat(root).st_size),)
        if not stat.S_ISDIR(mode):
            raise _linked(root)
        files = sorted(_walk(root, ""), key=lambda f: f.path)
    except FileNotFoundError:
        text = f"{root} is not there: correct the path, or put the model's files on the volume"
        raise ArtifactError(Reason.KEY_NOT_FOUND, text) from None
    except PermissionError as error:
        raise _denied(error, root) from None
    if not [f for f in files if f.path != NAME]:
        raise ArtifactError(Reason.NO_FILES, f"{root} has no files: put the model's files there")
    return tuple(files)


def _denied(error: OSError, root: Path) -> ArtifactError:
    text = f"{error.filename or root} is not readable by user {os.getuid()}: correct its mode or fsGroup"
    return ArtifactError(Reason.ACCESS_DENIED, text)


def _linked(path: Path | str) -> ArtifactError:
    return invalid("root", str(path), "it is a link or no plain file; put plain files there")


def _walk(root: Path, below: str) -> list[File]:
    found: list[File] = []
    with os.scandir(root / below) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if (
                    below == "" and entry.name == "lost+found"
                ):  # an ext4 volume has it, and only root may look
                    continue
                found += _walk(root, f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                found.append(File(str(root / path), path, entry.stat(follow_symlinks=False).st_size))
            else:
                raise _linked(root / path)
            if len(found) > MAX_FILES:
                raise invalid(
                    "root", str(root), f"it has more than {MAX_FILES} files; name a narrower folder"
                )
    return found


def hash_file(path: Path, *, on_bytes: Callable[[int], None], check: Callable[[], None]) -> str:
    """SHA-256 of a file in hex; `check` is called between blocks and may raise to stop."""
    digest = hashlib.sha256()
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as source:
        while count := source.readinto(buffer):
            check()
            digest.update(view[:count])
            on_bytes(count)
    return digest.hexdigest()


def hash_local(
    root: Path, files: tuple[File, ...], *, on_bytes: Callable[[int], None], check: Callable[[], None]
) -> tuple[File, ...]:
    """The files with their hashes, SHA256SUMS left out and held against them. Raises ChecksumMismatch."""
    try:
        hashed = tuple(
            replace(f, sha256=hash_file(Path(f.key), on_bytes=on_bytes, check=check))
            for f in files
            if f.path != NAME
        )
        if any(f.path == NAME and f.size <= LIMIT for f in files):
            sums = parse_sums((root / NAME).read_bytes(), where=str(root / NAME))
            require_complete(hashed, sums, where=str(root / NAME))
            for file in hashed:
                verify(file.path, sums.get(file.path, ""), file.sha256)
    except PermissionError as error:
        raise _denied(error, root) from None
    except OSError as error:
        text = f"{error.filename or root} cannot be read ({error.strerror or error}): check the volume"
        raise ArtifactError(Reason.PULL_FAILED, text) from error
    return hashed


def verify(name: str, expected: str, found: str) -> None:
    """Raises ChecksumMismatch unless nothing was expected or it was found; both are hex."""
    if expected and expected != found:
        raise ArtifactError(
            Reason.CHECKSUM_MISMATCH,
            f"file {name!r}: expected sha256:{expected}, found sha256:{found}: correct the checksum or"
            " the file",
        )
