"""Where a pulled artifact lies: <dest>/<uid>/<digest12>/ with a pointer file, the same for every scheme."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from artifacts._config import ModelEntry
from artifacts._errors import ArtifactError, Reason
from artifacts._source import RESERVED_NAME

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The pointer file. `root` is relative to its folder for copies and absolute for pvc and file sources.

    `boot` is the boot in which the files were written: pages that never reached the disk are lost with the
    boot, so a pointer of another one is believed only after hashing again.
    """

    root: str
    digest: str
    content_digest: str
    size: int
    files: tuple[tuple[str, int, str], ...]  # (path, size, sha256) below the folder, as unpacked
    boot: str = ""


def boot_id() -> str:
    """Names this boot of the machine; "" where the kernel does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def folder(entry: ModelEntry, dest: Path) -> Path:
    """Where the artifact of `entry` has its folder, whether it is there or not."""
    return dest / entry.uid / entry.folder_name


def write_placed(where: Path, placed: Placed) -> None:
    """Writes the pointer into `where`, atomically."""
    raw = {
        "schema": 1,
        "root": placed.root,
        "digest": placed.digest,
        "contentDigest": placed.content_digest,
        "size": placed.size,
        "files": [list(f) for f in placed.files],
        "boot": placed.boot,
    }
    temporary = where / f"{RESERVED_NAME}.tmp"
    temporary.write_text(json.dumps(raw), encoding="utf-8")
    os.replace(temporary, where / RESERVED_NAME)


def read_placed(where: Path) -> Placed | None:
    """The pointer in `where`; None when there is none or it is not one of ours."""
    try:
        raw = json.loads((where / RESERVED_NAME).read_text(encoding="utf-8"))
        return Placed(
            root=str(raw["root"]),
            digest=str(raw["digest"]),
            content_digest=str(raw["contentDigest"]),
            size=int(raw["size"]),
            files=tuple((str(p), int(s), str(h)) for p, s, h in raw["files"]),
            boot=str(raw["boot"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def locate(entry: ModelEntry, dest: str | Path) -> Path:
    """The folder (for a pvc or file source that names one file: the file) with the verified files of `entry`.

    Raises PullFailed when nothing was pulled. A pvc or file source without a checksum is read where it is.
    """
    where = folder(entry, Path(dest))
    placed = read_placed(where)
    if placed is not None:
        return Path(os.path.normpath(where / placed.root))
    if entry.source.local and not entry.checksum:
        return Path(entry.source.root)
    raise ArtifactError(
        Reason.PULL_FAILED,
        f"model {entry.name}: nothing was pulled to {where}: run `python -m artifacts pull` first",
    )
