"""Images as OCI archives that leave out what the receiver already has.

containerd takes an archive whose manifest names layers that are in its content store already, so a code
change moves some hundred kilobytes instead of Paddle's gigabyte.
"""

import io
import json
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

from hack.images.buildah import Store

NAME = "io.containerd.image.name"


def write(store: Store, sink: IO[bytes], *, images: Mapping[str, str], present: Collection[str] = ()) -> int:
    """Writes `images` (name -> manifest digest) without the layers in `present`; returns the bytes."""
    descriptors: list[dict[str, object]] = []
    wanted: dict[str, Path] = {}
    for name, digest in images.items():
        path = store.blob(digest)
        media_type = json.loads(path.read_text()).get(
            "mediaType", "application/vnd.oci.image.manifest.v1+json"
        )
        descriptors.append(
            {
                "mediaType": media_type,
                "digest": digest,
                "size": path.stat().st_size,
                "annotations": {NAME: name},
            }
        )
        blobs = store.blobs(digest)
        # Manifest and configuration always: they are small, and containerd reads them from the archive.
        wanted.update({blob: store.blob(blob) for blob in blobs[:2]})
        wanted.update({blob: store.blob(blob) for blob in blobs[2:] if blob not in present})
    total = 0
    with tarfile.open(fileobj=sink, mode="w|", bufsize=1 << 20) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode())
        for digest, path in wanted.items():
            entry = tarfile.TarInfo(f"blobs/{digest.replace(':', '/')}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as source:
                tar.addfile(entry, source)
            total += entry.size
    return total


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
