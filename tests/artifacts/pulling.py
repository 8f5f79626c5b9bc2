"""What the tests of pulling share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import (
    ArtifactError,
    Credentials,
    File,
    Manifest,
    ModelEntry,
    Progress,
    Pulled,
    PullOptions,
    Source,
    Stop,
    parse_uri,
    pull_model,
    resolve,
)
from artifacts._download import DownloadOptions
from tests.artifacts.conftest import LOOPBACK
from tests.artifacts.servers import FileServer, etag
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore

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


def http_entry(files: FileServer, content: Mapping[str, bytes], **changes: object) -> ModelEntry:
    files.files |= {f"/{name}": data for name, data in content.items()}
    listed = tuple(File(n, n, len(d), "" if not files.etags else etag(d)) for n, d in content.items())
    return entry(Manifest.of(parse_uri(f"{files.endpoint}/x"), listed), credentials_env="", **changes)
