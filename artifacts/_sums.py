"""SHA256SUMS files, as coreutils writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._manifest import File

NAME = "SHA256SUMS"
LIMIT = 4 * 1024 * 1024

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def parse_sums(data: bytes, *, where: str) -> dict[str, str]:
    """Path to hex digest. Raises InvalidSource naming the line that is not `<64 hex>  <path>`."""
    sums: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise invalid(
                f"{where} line {number}", line, "write <64 hex digits>, two spaces and the file's name"
            )
        sums[match[2].removeprefix("./")] = match[1].lower()
    return sums


def apply_sums(files: Sequence[File], sums: Mapping[str, str]) -> tuple[File, ...]:
    """The files with the hashes that `sums` has for their paths."""
    return tuple(replace(f, sha256=sums.get(f.path, f.sha256)) for f in files)


def require_complete(files: Sequence[File], sums: Mapping[str, str], *, where: str) -> None:
    """Raises KeyNotFound when `sums` lists files that are not there: an upload that is not finished."""
    missing = sorted(set(sums) - {f.path for f in files} - {NAME})
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise ArtifactError(
            Reason.KEY_NOT_FOUND, f"{where} lists files that are not there: {shown}: finish the upload"
        )
