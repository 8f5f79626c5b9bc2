"""Brings finished images to where the cluster runs: our own node's containerd, or kind's."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hack.cluster import images as cluster_images
from hack.cluster import paths
from hack.cluster.console import ClusterError
from hack.images import archive
from hack.images.build import Built
from hack.images.buildah import BuildError, Store

KEEP = 8
"""Contents of one image that stay on the node: revisions that are scaled to zero may come back."""


def running() -> bool:
    return paths.CONTAINERD_SOCKET.exists()


def listed() -> dict[str, str]:
    """Image name -> manifest digest on the node."""
    lines = cluster_images.ctr("images", "list").splitlines()[1:]
    return {columns[0]: columns[2] for columns in (line.split() for line in lines) if len(columns) > 2}


def load(store: Store, built: Sequence[Built]) -> list[str]:
    """Imports what the node lacks; returns the names that it now has. Seconds for a code change."""
    try:
        return _load(store, built)
    except ClusterError as error:
        raise BuildError(str(error)) from None


def _load(store: Store, built: Sequence[Built]) -> list[str]:
    there = listed()
    present: set[str] | None = None
    loaded: list[str] = []
    for entry in built:
        tags = (entry.name, entry.pinned)
        if all(there.get(tag) == entry.digest for tag in tags):
            continue
        if present is None:
            present = set(cluster_images.ctr("content", "list", "--quiet").split())
        started = time.monotonic()
        moved = _import(store, dict.fromkeys(tags, entry.digest), present)
        present.update(store.blobs(entry.digest))
        seconds = time.monotonic() - started
        print(f"images: {entry.name} loaded in {seconds:.1f} s ({moved / 1e6:.1f} MB moved)", flush=True)
        loaded += tags
    if loaded:
        _forget_old(store.folder / "loaded.json", built)
    return loaded


def _import(store: Store, tags: dict[str, str], present: set[str]) -> int:
    command = ["ctr", "--address", str(paths.CONTAINERD_SOCKET), "--namespace", paths.CONTAINERD_NAMESPACE]
    command += ["images", "import", "--snapshotter", "overlayfs", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            moved = archive.write(store, process.stdin, images=tags, present=present)
            process.stdin.close()
        except BrokenPipeError:
            moved = 0  # ctr ended early and says why
        message = process.stderr.read().decode(errors="replace").strip()
        try:
            code = process.wait(timeout=600.0)
        except subprocess.TimeoutExpired:
            process.kill()
            raise BuildError("the import into containerd did not end within 600 s") from None
    if code != 0:
        last = (message.splitlines() or ["no message"])[-1]
        raise BuildError(f"the import into containerd failed: {last}")
    return moved


def _forget_old(record: Path, built: Sequence[Built]) -> None:
    """Removes contents from the node that were replaced more than `KEEP` builds ago."""
    try:
        history: dict[str, list[str]] = json.loads(record.read_text())
    except (OSError, ValueError):
        history = {}
    for entry in built:
        tags = [tag for tag in history.get(entry.name, []) if tag != entry.pinned] + [entry.pinned]
        for tag in tags[:-KEEP]:
            cluster_images.ctr("images", "remove", tag)
        history[entry.name] = tags[-KEEP:]
    record.write_text(json.dumps(history, indent=1))


def load_kind(built: Sequence[str], *, cluster: str = "paddle") -> None:
    """Loads images that docker built into a kind cluster."""
    subprocess.run(["kind", "load", "docker-image", "--name", cluster, *built], check=True, timeout=1800)


def build_with_docker(
    dockerfile: str, name: str, *, target: str, arguments: dict[str, str], root: Path
) -> None:
    """Builds one image with docker from the official base image; for `CLUSTER=kind`."""
    command = ["docker", "build", "--file", dockerfile, "--target", target, "--tag", name]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    print(f"images: docker build {name}", flush=True)
    subprocess.run([*command, "."], cwd=root, check=True, timeout=3600)
