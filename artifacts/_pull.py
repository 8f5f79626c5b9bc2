"""Bringing the models of a pod to disk: verified, atomically in place, re-used when they are there
already.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifacts._archive import UnpackLimits, disk_error, no_space, single_root, unpack
from artifacts._config import Desired, ModelEntry, load_ca
from artifacts._download import Download, DownloadOptions, Opener, Stop, Stopped
from artifacts._errors import ArtifactError, Reason
from artifacts._http import HttpFiles
from artifacts._local import hash_file, hash_local, list_local, verify
from artifacts._manifest import File, digest_of
from artifacts._place import Placed, boot_id, folder, read_placed, write_placed
from artifacts._policy import UNRESTRICTED
from artifacts._progress import ModelProgress, Progress
from artifacts._s3 import S3Files
from artifacts._source import Credentials, is_tar
from artifacts._transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How a pull goes about it; the defaults are for a pod."""

    download: DownloadOptions = field(default_factory=DownloadOptions)
    limits: UnpackLimits = field(default_factory=UnpackLimits)
    connect_timeout: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """One model in place: `path` is what the runtime opens, `size` in bytes of what was verified."""

    name: str
    digest: str
    content_digest: str
    size: int
    path: Path
    reused: bool = False


def pull(
    desired: Desired,
    dest: Path,
    *,
    progress: Progress,
    stop: Stop,
    options: PullOptions = PullOptions(),
    env: Mapping[str, str] | None = None,
) -> tuple[Pulled, ...]:
    """Pulls every model of `desired`, the most important first. Blocks; call it from a thread of its own.

    Raises the ArtifactError of the first model that fails, naming it, or Stopped. Models that are in place
    stay.
    """
    ordered = sorted(desired.models, key=lambda m: -m.priority)
    trackers = {m.name: progress.model(m.name, m.version, m.digest) for m in ordered}
    pulled = []
    for entry in ordered:
        tracker = trackers[entry.name]
        try:
            pulled.append(pull_model(entry, dest, tracker=tracker, stop=stop, options=options, env=env))
        except ArtifactError as error:
            tracker.fail(error.reason.value, error.message)
            named = error.message if len(ordered) == 1 else f"model {entry.name}: {error.message}"
            raise ArtifactError(error.reason, named, retryable=error.retryable) from error
    return tuple(pulled)


def pull_model(
    entry: ModelEntry,
    dest: Path,
    *,
    tracker: ModelProgress,
    stop: Stop,
    options: PullOptions = PullOptions(),
    env: Mapping[str, str] | None = None,
) -> Pulled:
    """Pulls one model to <dest>/<uid>/<digest12>, or verifies it in place (pvc, file). Blocks.

    What appears under its final name is complete and verified. A pull that was cut keeps its parts for the
    next one; one whose content is wrong leaves nothing behind. Raises ArtifactError or Stopped.
    """
    final = folder(entry, dest)
    part = final.with_name(f".{final.name}.part")

    def check() -> None:
        if stop.requested:
            raise Stopped

    try:
        if entry.source.local:
            return _pull_local(entry, final, part, tracker, options, check)
        placed = _reusable(final, entry, check)
        if placed is not None:
            tracker.begin(placed.size, placed.size)
            tracker.finish(placed.content_digest, placed.size)
            return _pulled(entry, final, placed, reused=True)
        return _pull_remote(entry, final, part, tracker, stop, options, env, check)
    except OSError as error:
        raise disk_error(error, dest) from error


def _reusable(final: Path, entry: ModelEntry, check: Callable[[], None]) -> Placed | None:
    """The pointer of what is in place, when that is certainly whole."""
    placed = read_placed(final)
    if placed is None or placed.digest != entry.digest:
        return None
    boot = boot_id()
    for path, size, sha256 in placed.files:
        target = final / path
        if target.is_symlink() or not target.is_file() or target.stat().st_size != size:
            return None
        if placed.boot != boot and hash_file(target, on_bytes=lambda _: None, check=check) != sha256:
            return None
    if placed.boot != boot:
        write_placed(final, replace(placed, boot=boot))
    return placed


def _pull_remote(
    entry: ModelEntry,
    final: Path,
    part: Path,
    tracker: ModelProgress,
    stop: Stop,
    options: PullOptions,
    env: Mapping[str, str] | None,
    check: Callable[[], None],
) -> Pulled:
    source, tree, ledgers = entry.source, part / "tree", part / "ledger"
    packed = source.archive == "tar"
    arriving = part / "archive" if packed else tree
    for path in (arriving, ledgers):
        path.mkdir(parents=True, exist_ok=True)
    transport = Transport(
        policy=UNRESTRICTED,  # the pod acts with its user's rights, not the operator's
        ca_pem=load_ca(entry.ca_file),
        connect_timeout=options.connect_timeout,
        read_timeout=options.download.stall_timeout,
        maxsize=options.download.parallel,
    )
    try:
        download = Download(
            source.files,
            into=arriving,
            ledgers=ledgers,
            opener=_opener(entry, transport, Credentials.from_env(entry.credentials_env, env=env)),
            endpoint=source.endpoint,
            options=options.download,
            stop=stop,
            boot=boot_id(),
            on_bytes=tracker.add,
            abort=transport.abort,
        )
        tracker.begin(source.size, download.done)
        # An archive needs its own size once more, at the least, when it is unpacked beside itself.
        needed = source.size - download.done + (source.size if packed else 0)
        free = shutil.disk_usage(part).free
        if needed > free:
            raise no_space(needed, free, part.parent.parent)
        try:
            download.run()
            files = tuple(replace(f, sha256=download.hashes[f.path]) for f in source.files)
            content_digest = _verify(entry, files)
            unpacked = tuple((f.path, f.size, f.sha256) for f in files)
            if packed:
                unpacked = _unpack(arriving / files[0].path, tree, options, check)
        except ArtifactError as error:
            if not error.retryable:
                shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        transport.close()
    placed = Placed(
        root=single_root([path for path, _, _ in unpacked]) if packed else ".",
        digest=entry.digest,
        content_digest=content_digest,
        size=source.size,
        files=unpacked,
        boot=boot_id(),
    )
    _place(tree, final, part, placed)
    tracker.finish(content_digest, source.size)
    return _pulled(entry, final, placed)


def _opener(entry: ModelEntry, transport: Transport, credentials: Credentials) -> Opener:
    source = entry.source
    if source.scheme == "http":
        return HttpFiles(transport, source.endpoint, credentials)
    return S3Files(
        transport,
        credentials,
        endpoint=source.endpoint,
        bucket=source.bucket,
        region=source.region,
        path_style=source.path_style,
    )


def _verify(entry: ModelEntry, files: tuple[File, ...]) -> str:
    """The content digest of `files`, held against what was pinned and demanded. Raises ChecksumMismatch."""
    pinned = {f.path: f.sha256 for f in entry.source.files}
    for file in files:
        verify(file.path, pinned.get(file.path, ""), file.sha256)
    content_digest = digest_of(files)
    if entry.checksum and len(files) == 1:
        verify(files[0].path, entry.checksum, files[0].sha256)
    elif entry.checksum and content_digest != f"sha256:{entry.checksum}":
        raise ArtifactError(
            Reason.CHECKSUM_MISMATCH,
            f"manifest of {len(files)} files ({files[0].path!r} …): expected sha256:{entry.checksum}, found"
            f" {content_digest}: correct spec.checksum or the files",
        )
    return content_digest


def _unpack(
    archive: Path, tree: Path, options: PullOptions, check: Callable[[], None]
) -> tuple[tuple[str, int, str], ...]:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    members = unpack(archive, tree, limits=options.limits, check=check)
    # Hashed so that the files can be believed after the machine was restarted.
    return tuple(
        (path, size, hash_file(tree / path, on_bytes=lambda _: None, check=check)) for path, size in members
    )


def _place(tree: Path, final: Path, part: Path, placed: Placed) -> None:
    """Moves `tree` to its final name in one step; what was there and could not be re-used goes first."""
    write_placed(tree, placed)
    if final.exists():
        shutil.rmtree(final)
    os.rename(tree, final)
    shutil.rmtree(part, ignore_errors=True)


def _pull_local(
    entry: ModelEntry,
    final: Path,
    part: Path,
    tracker: ModelProgress,
    options: PullOptions,
    check: Callable[[], None],
) -> Pulled:
    root = Path(entry.source.root)
    files = list_local(root)
    tracker.begin(sum(f.size for f in files))
    hashed = hash_local(root, files, on_bytes=tracker.add, check=check)
    content_digest = _verify(entry, hashed)
    size = sum(f.size for f in hashed)
    tree = part / "tree"
    shutil.rmtree(part, ignore_errors=True)
    tree.mkdir(parents=True)
    unpacked: tuple[tuple[str, int, str], ...] = ()
    where = str(root)
    if root.is_file() and is_tar(root.name):
        try:
            unpacked = _unpack(root, tree, options, check)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        where = single_root([path for path, _, _ in unpacked])
    placed = Placed(
        root=where,
        digest=entry.digest,
        content_digest=content_digest,
        size=size,
        files=unpacked,
        boot=boot_id(),
    )
    _place(tree, final, part, placed)
    tracker.finish(content_digest, size)
    return _pulled(entry, final, placed)


def _pulled(entry: ModelEntry, final: Path, placed: Placed, *, reused: bool = False) -> Pulled:
    return Pulled(
        name=entry.name,
        digest=placed.digest,
        content_digest=placed.content_digest,
        size=placed.size,
        path=Path(os.path.normpath(final / placed.root)),
        reused=reused,
    )
