"""From a source to a manifest, without downloading: which files, how large, which hashes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._http import get_small, head
from artifacts._manifest import MAX_FILES, File, Manifest, parse_checksum
from artifacts._policy import EndpointPolicy
from artifacts._s3 import S3Listing
from artifacts._source import Credentials, Source, check_path, is_tar
from artifacts._sums import LIMIT, NAME, apply_sums, parse_sums, require_complete
from artifacts._transport import Transport

# Threads that can wait for object stores at once; more callers queue, and their deadline runs on.
_WORKERS = 32
_executor: ThreadPoolExecutor | None = None
_executor_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    global _executor
    with _executor_lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="artifacts")
        return _executor


async def resolve(
    source: Source,
    credentials: Credentials,
    *,
    checksum: str | None = None,
    deadline: float = 10.0,
    policy: EndpointPolicy = EndpointPolicy(),  # noqa: B008 - frozen
) -> Manifest:
    """What `source` holds now: paths, sizes, ETags, hashes and the digest over them. Nothing is downloaded.

    `checksum` ("sha256:…") is of the single file, or of the manifest when there are several. Raises
    ArtifactError with the reason, within `deadline` seconds; ChecksumMismatch when the manifest's digest is
    known and another. pvc and file sources cannot be seen from here: their manifest has no files and the
    digest "".
    """
    import asyncio

    wanted = parse_checksum(checksum or "")
    if source.scheme in ("pvc", "file"):
        return Manifest(source, "tar" if is_tar(source.key) else "none", (), "", 0)
    ends = time.monotonic() + deadline
    transport = Transport(policy=policy, ca_pem=credentials.ca_pem, maxsize=1)
    try:
        async with asyncio.timeout(deadline):
            return await asyncio.get_running_loop().run_in_executor(
                _threads(), resolve_sync, source, credentials, transport, wanted, ends
            )
    except TimeoutError:
        raise _late(source, deadline) from None
    finally:
        # Also when this task is cancelled: the thread must not wait on for an answer that nobody wants.
        transport.abort()


def _late(source: Source, deadline: float) -> ArtifactError:
    return ArtifactError(
        Reason.ENDPOINT_UNREACHABLE,
        f"endpoint {source.endpoint} did not answer within {deadline:g} s: check the address and the network",
    )


def resolve_sync(
    source: Source, credentials: Credentials, transport: Transport, wanted: str, ends: float
) -> Manifest:
    """resolve() in the calling thread; stops at the next request after the monotonic time `ends`."""

    def check() -> None:
        if time.monotonic() > ends:
            raise _late(source, 0)

    check()
    try:
        if source.scheme == "s3":
            manifest = _resolve_s3(source, S3Listing(source, credentials, transport, check))
        else:
            manifest = _resolve_http(source, credentials, transport, check)
    finally:
        transport.close()
    manifest = _demand(manifest, wanted)
    loose = next((f for f in manifest.files if f.size and not f.etag and not f.sha256), None)
    if loose is not None:
        raise invalid(
            "spec.checksum",
            "",
            f"{source.endpoint} gives {loose.path!r} no ETag or date, so it cannot be pinned; set it",
        )
    return manifest


def _demand(manifest: Manifest, wanted: str) -> Manifest:
    """The manifest with the user's checksum in it. Raises ChecksumMismatch when the two cannot both be
    true.
    """
    if not wanted:
        return manifest
    if len(manifest.files) == 1:
        file = manifest.files[0]
        if file.sha256 and file.sha256 != wanted:
            raise ArtifactError(
                Reason.CHECKSUM_MISMATCH,
                f"file {file.key!r}: spec.checksum expects sha256:{wanted}, but {NAME} beside it says"
                f" sha256:{file.sha256}: correct one of them",
            )
        return manifest.with_sha256(file.path, wanted)
    if manifest.digest.startswith("sha256:") and manifest.digest != f"sha256:{wanted}":
        raise ArtifactError(
            Reason.CHECKSUM_MISMATCH,
            f"{manifest.source}: spec.checksum expects sha256:{wanted}, but the manifest of its"
            f" {len(manifest.files)} files is {manifest.digest}: correct spec.checksum or the files",
        )
    return manifest


def _resolve_s3(source: Source, listing: S3Listing) -> Manifest:
    where = f"bucket {source.bucket!r} at {source.endpoint}"
    archive_only = is_tar(source.key)
    if source.wildcard:
        literal = re.split(r"[*?\[]", source.key, maxsplit=1)[0]
        found = _take(f for f in listing.objects(literal) if fnmatchcase(f.key, source.key))
        base = literal[: literal.rfind("/") + 1]
        found = [f for f in found if f.key != base + NAME]
        if not found:
            raise _missing(where, f"object that matches {source.key!r}")
        if len(found) > 1 and (archive_only or all(is_tar(f.key) for f in found)):
            names = ", ".join(f.key for f in found[:5]) + (" …" if len(found) > 5 else "")
            raise ArtifactError(
                Reason.AMBIGUOUS_KEY,
                f"{source.key!r} in {where} matches {len(found)} archives, but must match one: {names}:"
                " write a narrower pattern",
            )
        sums = listing.read_small(base + NAME, limit=LIMIT)
        return _s3_manifest(source, base, found, sums, whole=False)
    if not source.key.endswith("/"):
        single = _exact(source.key, listing)
        if single is not None:
            base = source.key[: source.key.rfind("/") + 1]
            return _s3_manifest(
                source, base, [single], listing.read_small(base + NAME, limit=LIMIT), whole=False
            )
        if archive_only:
            raise _missing(where, f"object {source.key!r}")
    base = source.key.rstrip("/") + "/"
    found = _take(listing.objects(base))
    if not found:
        raise _missing(where, f"object {source.key!r}, and none below {base!r}")
    has_sums = any(f.key == base + NAME for f in found)
    files = [f for f in found if f.key != base + NAME]
    if not files:
        raise ArtifactError(
            Reason.NO_FILES, f"{where} has nothing but {NAME} below {base!r}: upload the model's files"
        )
    return _s3_manifest(
        source, base, files, listing.read_small(base + NAME, limit=LIMIT) if has_sums else None
    )


def _exact(key: str, listing: S3Listing) -> File | None:
    """The object of exactly this name. Listing first, because its errors say what a HEAD's cannot."""
    try:
        first = next(iter(listing.objects(key)), None)
    except ArtifactError as error:
        if error.reason is not Reason.ACCESS_DENIED:
            raise
        try:
            return listing.stat(key)
        except ArtifactError:
            raise error from None
    return first if first is not None and first.key == key else None


def _take(files: Iterable[File]) -> list[File]:
    found = list(islice(files, MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise invalid(
            "storage.key", found[0].key, f"more than {MAX_FILES} objects; name a narrower prefix or a tar"
        )
    return found


def _missing(where: str, what: str) -> ArtifactError:
    return ArtifactError(Reason.KEY_NOT_FOUND, f"{where} has no {what}: upload it or correct the key")


def _s3_manifest(
    source: Source, base: str, found: list[File], sums: bytes | None, *, whole: bool = True
) -> Manifest:
    files = tuple(replace(f, path=check_path(f.key.removeprefix(base), field="storage.key")) for f in found)
    if sums is not None:
        where = f"s3://{source.bucket}/{base}{NAME}"
        known = parse_sums(sums, where=where)
        if whole:
            require_complete(files, known, where=where)
        files = apply_sums(files, known)
    return Manifest.of(source, files, "tar" if len(files) == 1 and is_tar(files[0].path) else "none")


def _resolve_http(
    source: Source, credentials: Credentials, transport: Transport, check: Callable[[], None]
) -> Manifest:
    path, _, query = source.key.partition("?")
    base = path[: path.rfind("/") + 1]
    data = (
        get_small(transport, f"{source.endpoint}/{base}{NAME}", credentials, limit=LIMIT)
        if not query
        else None
    )
    where = f"{source.endpoint}/{base}{NAME}"
    if path.endswith("/"):
        if data is None:
            raise ArtifactError(
                Reason.NO_FILES, f"{where} is not there: http has no listing, so a folder needs a {NAME} file"
            )
        names = [check_path(n, field=where) for n in parse_sums(data, where=where) if n != NAME]
    else:
        names = [check_path(path.rsplit("/", 1)[-1], field="spec.modelPath")]
    if not names or len(names) > 1000:
        raise ArtifactError(Reason.NO_FILES, f"{where} lists {len(names)} files: there must be 1 to 1000")
    files = []
    for name in names:
        check()
        key = base + name + (f"?{query}" if query else "")
        found = head(transport, f"{source.endpoint}/{key}", credentials)
        if found.size < 0:
            raise invalid(
                "spec.modelPath", f"{source.endpoint}/{base}{name}", "its server does not say its size"
            )
        files.append(File(key, name, found.size, found.etag))
    pinned = tuple(files)
    if data is not None:
        try:
            pinned = apply_sums(pinned, parse_sums(data, where=where))
        except ArtifactError:
            # A site that answers every path with a page has no list of checksums.
            if path.endswith("/"):
                raise
    return Manifest.of(source, pinned, "tar" if len(pinned) == 1 and is_tar(pinned[0].path) else "none")
