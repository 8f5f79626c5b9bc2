"""What a source holds at one moment: files, sizes, hashes, and the digest that names them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from artifacts._errors import invalid
from artifacts._fields import Fields
from artifacts._source import SCHEMES, Scheme, Source, check_endpoint, check_path

Archive = Literal["none", "tar"]
ARCHIVES: tuple[Archive, ...] = get_args(Archive)
MAX_FILES = 10_000

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """One file: `key` at the source, `path` where it lands, `size` in bytes, unquoted `etag`, `sha256` in
    hex or "".
    """

    key: str
    path: str
    size: int
    etag: str = ""
    sha256: str = ""


def digest_of(files: Iterable[File]) -> str:
    """The identity of a set of files: "sha256:…" when every file has one, else "etag:…"; "" for no files.

    The hash covers sorted lines of path, size and sha256 (or ETag). Order and keys do not matter.
    """
    chosen = sorted(files, key=lambda f: f.path)
    if not chosen:
        return ""
    kind = "sha256" if all(f.sha256 for f in chosen) else "etag"
    lines = "".join(f"{f.path}\t{f.size}\t{f.sha256 or f.etag}\n" for f in chosen)
    return f"{kind}:{hashlib.sha256(lines.encode('utf-8', 'surrogatepass')).hexdigest()}"


def parse_checksum(text: str, *, field: str = "spec.checksum") -> str:
    """The 64 hex digits of "sha256:<hex>" (the prefix may be left out), "" for "". Raises InvalidSource."""
    digits = text.removeprefix("sha256:").lower()
    if text and not _HEX.fullmatch(digits):
        raise invalid(field, text, "write sha256: and 64 hex digits")
    return digits


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSource:
    """The `source` block of models.yaml: everything a pod needs to fetch exactly the resolved files."""

    scheme: Scheme
    endpoint: str = ""
    region: str = ""
    bucket: str = ""
    path_style: bool = True
    archive: Archive = "none"
    root: str = ""
    files: tuple[File, ...] = ()

    @property
    def local(self) -> bool:
        """Whether the files are read in place (pvc, file) instead of being copied."""
        return self.scheme in ("pvc", "file")

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    def to_wire(self) -> dict[str, object]:
        return {
            "scheme": self.scheme,
            "endpoint": self.endpoint,
            "region": self.region,
            "bucket": self.bucket,
            "pathStyle": self.path_style,
            "archive": self.archive,
            "root": self.root,
            "files": [
                {"key": f.key, "path": f.path, "size": f.size}
                | ({"etag": f.etag} if f.etag else {})
                | ({"sha256": f.sha256} if f.sha256 else {})
                for f in self.files
            ],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> PinnedSource:
        """Checked from the wire. Raises InvalidSource naming the field, its value and the remedy."""
        scheme = fields.choice("scheme", SCHEMES)
        source = cls(
            scheme=scheme,
            endpoint=fields.text("endpoint", ""),
            region=fields.text("region", ""),
            bucket=fields.text("bucket", ""),
            path_style=fields.boolean("pathStyle", True),
            archive=fields.choice("archive", ARCHIVES, "none"),
            root=fields.text("root", ""),
            files=tuple(_file(item) for item in fields.items("files")),
        )
        fields.finish()
        if source.local:
            if not source.root.startswith("/"):
                raise invalid(fields.at("root"), source.root, f"{scheme} needs an absolute path")
            return source
        check_endpoint(source.endpoint, field=fields.at("endpoint"))
        if scheme == "s3" and not source.bucket:
            raise invalid(fields.at("bucket"), source.bucket, "s3 needs a bucket")
        if not source.files or len(source.files) > MAX_FILES:
            raise invalid(fields.at("files"), len(source.files), f"there must be 1 to {MAX_FILES} files")
        paths = [f.path for f in source.files]
        taken = {p for p in paths if paths.count(p) > 1} if len(set(paths)) < len(paths) else set()
        if taken:
            raise invalid(fields.at("files"), min(taken), "two files land at the same path")
        if source.archive == "tar" and len(source.files) != 1:
            raise invalid(fields.at("files"), len(source.files), "an archive has exactly one file")
        return source


def _file(fields: Fields) -> File:
    file = File(
        key=fields.text("key"),
        path=check_path(fields.text("path"), field=fields.at("path")),
        size=fields.integer("size", minimum=0),
        etag=fields.text("etag", ""),
        sha256=parse_checksum(fields.text("sha256", ""), field=fields.at("sha256")),
    )
    fields.finish()
    return file


@dataclass(frozen=True, slots=True)
class Manifest:
    """The outcome of resolve(). pvc and file sources have no files and the digest "" until a pod has read
    them.
    """

    source: Source
    archive: Archive
    files: tuple[File, ...]
    digest: str
    size: int

    @classmethod
    def of(cls, source: Source, files: Iterable[File], archive: Archive = "none") -> Manifest:
        ordered = tuple(sorted(files, key=lambda f: f.path))
        return cls(source, archive, ordered, digest_of(ordered), sum(f.size for f in ordered))

    @property
    def resolved(self) -> bool:
        """False for pvc and file: only a pod that mounts them can say what they hold."""
        return self.source.scheme not in ("pvc", "file")

    def pin(self, *, root: str | None = None) -> PinnedSource:
        """The source as a pod gets it; `root` overrides where a pvc or file source is mounted."""
        source = self.source
        return PinnedSource(
            scheme=source.scheme,
            endpoint=source.endpoint,
            region=source.region,
            bucket=source.bucket,
            path_style=source.path_style,
            archive=self.archive,
            root=source.root if root is None else root,
            files=self.files,
        )

    def to_wire(self, *, root: str | None = None) -> dict[str, object]:
        """The `source` mapping of models.yaml."""
        return self.pin(root=root).to_wire()

    def with_sha256(self, path: str, sha256: str) -> Manifest:
        """The same manifest with one file's hash known; its digest follows."""
        files = (replace(f, sha256=sha256) if f.path == path else f for f in self.files)
        return Manifest.of(self.source, files, self.archive)
