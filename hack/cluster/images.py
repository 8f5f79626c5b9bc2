"""Images of one static program each, written as docker-archives, and the import of archives into containerd.

No engine and no base image is involved, so the node's own images (the pause tool, CoreDNS) exist before
anything else does. Archives are reproducible: the same program gives the same image.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.cluster import paths
from hack.cluster.console import ClusterError, Console

LOADED = paths.CONTAINERD_ROOT / "loaded.json"
"""Reference -> digests of what was imported: the configuration's, as an archive names it, and the manifest's,
as containerd does. Beside the content that it speaks of."""

IMPORT_DEADLINE = 600.0


def architecture() -> str:
    """This machine's architecture in the words of images."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def write_archive(
    target: Path, *, reference: str, files: Mapping[str, Path], entrypoint: Sequence[str], user: str = "65532"
) -> None:
    """Write a docker-archive of one layer with ``files`` (path in the image -> file here), atomically."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, path in sorted(files.items()):
            _add(tar, name, path.read_bytes(), mode=0o755)
    content = layer.getvalue()
    configuration = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": user, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
        "history": [{"created_by": "paddle-operator hack/cluster"}],
    }
    encoded = json.dumps(configuration, sort_keys=True).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".new")
    with tarfile.open(temporary, mode="w") as tar:
        _add(tar, "layer.tar", content, mode=0o644)
        _add(tar, name, encoded, mode=0o644)
        _add(tar, "manifest.json", json.dumps(manifest).encode(), mode=0o644)
    temporary.rename(target)


def write_program(name: str, reference: str) -> Path:
    """The archive of an image that holds and runs one program of the cache; written when out of date."""
    archive, program = paths.CACHE / "images" / f"node-{name}.tar", paths.BIN / name
    if not archive.exists() or archive.stat().st_mtime < program.stat().st_mtime:
        write_archive(archive, reference=reference, files={name: program}, entrypoint=[f"/{name}"])
    return archive


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def describe(archive: Path) -> dict[str, str]:
    """Reference -> configuration digest of every tagged image in a docker-archive.

    Raises ClusterError when the file is none.
    """
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            images = json.load(member) if member else []
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        raise ClusterError(
            f"{archive} is no docker-archive ({error}): save it with --format docker-archive"
        ) from error
    found = {}
    for image in images:
        digest = Path(image["Config"]).name.removesuffix(".json")
        found.update({full_reference(tag): digest for tag in image.get("RepoTags") or []})
    if not found:
        raise ClusterError(f"{archive} holds no tagged image: give it a name and a tag when saving it")
    return found


def full_reference(reference: str) -> str:
    """The reference as the container runtime spells it: ``a:1`` is ``docker.io/library/a:1``."""
    first, slash, _ = reference.partition("/")
    if not slash:
        return f"docker.io/library/{reference}"
    if "." in first or ":" in first or first == "localhost":
        return reference
    return f"docker.io/{reference}"


def ctr(*arguments: str, timeout: float = 30.0) -> str:
    """Run ctr against the cluster's containerd. Raises ClusterError with its last line."""
    command = [
        "ctr",
        "--address",
        str(paths.CONTAINERD_SOCKET),
        "--namespace",
        paths.CONTAINERD_NAMESPACE,
        *arguments,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"ctr {arguments[0]} did not end in {timeout:.0f} s: see {paths.LOG}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ClusterError(f"ctr {' '.join(arguments[:2])} failed: {reason}")
    return done.stdout


def parse_list(table: str) -> dict[str, str]:
    """Reference -> manifest digest from `ctr images list`."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def load_archive(archive: Path, *, console: Console) -> None:
    """Import a docker-archive; nothing happens when the very same images are there already."""
    wanted = describe(archive)
    try:
        loaded: dict[str, list[str]] = json.loads(LOADED.read_text())
    except (OSError, ValueError):
        loaded = {}
    present = parse_list(ctr("images", "list"))
    if all(
        name in present and loaded.get(name) == [digest, present[name]] for name, digest in wanted.items()
    ):
        return
    begun = console.elapsed
    ctr("images", "import", "--snapshotter", "overlayfs", str(archive), timeout=IMPORT_DEADLINE)
    present = parse_list(ctr("images", "list"))
    loaded |= {name: [digest, present.get(name, "")] for name, digest in wanted.items()}
    LOADED.write_text(json.dumps(loaded, indent=1))
    console.say(f"imported {', '.join(wanted)} in {console.elapsed - begun:.1f} s")
