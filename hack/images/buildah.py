"""buildah and skopeo with a storage of our own: nothing here touches a container engine of this machine."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

DEBIAN_PACKAGES = ("buildah", "skopeo", "mmdebstrap")


class BuildError(Exception):
    """A build step failed; the text is one line for a person."""


def cache() -> Path:
    """The folder of everything that image builds keep."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "paddle-operator" / "images"


def ensure_tools() -> None:
    """Installs the Debian packages that are missing, when root; else says which."""
    missing = [name for name in DEBIAN_PACKAGES if shutil.which(name) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildError(f"building images needs {', '.join(missing)}: install these Debian packages as root")
    print(f"images: installing the Debian packages {', '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"], environment=environment)
    run([*apt, "install", "-y", "--no-install-recommends", *missing], environment=environment)


def run(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = 1800.0
) -> str:
    """Runs a command; its output goes to the build log, and its end to the error when it fails."""
    log = cache() / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"\n$ {' '.join(command)}\n".encode())
        sink.flush()
        start = sink.tell()
        try:
            result = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=sink, env=environment, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"{command[0]} did not end within {timeout:.0f} s; see {log}") from None
        sink.write(result.stdout)
    if result.returncode != 0:
        with log.open("rb") as source:
            source.seek(start)
            lines = source.read().decode(errors="replace").strip().splitlines()
        print("\n".join(lines[-25:]), file=sys.stderr)
        raise BuildError(f"{' '.join(command[:2])} failed with exit code {result.returncode}; see {log}")
    return result.stdout.decode(errors="replace")


class Store:
    """An image storage in the cache folder, and an OCI layout of the finished images beside it.

    The layout holds every layer once, uncompressed: a layer that is there is never written again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache()
        self.root = self.folder / "storage"
        self.run_root = self.folder / "run"
        self.layout = self.folder / "oci"

    def _buildah(self, *arguments: str) -> str:
        storage = ["--root", str(self.root), "--runroot", str(self.run_root), "--storage-driver", "overlay"]
        environment = {**os.environ, "STORAGE_DRIVER": "overlay", "TMPDIR": str(self.temporary())}
        return run(["buildah", *storage, *arguments], environment=environment)

    def _unmount(self) -> None:
        """The overlay driver leaves its folder mounted on itself; nobody could delete the cache then."""
        overlay = str(self.root / "overlay")
        # os.path.ismount does not see a folder that is mounted on itself.
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for _ in range(mounted.count(overlay)):
            # It may be in use by a build of somebody else's: then that one's end takes it away.
            subprocess.run(["umount", overlay], capture_output=True, check=False, timeout=30)

    def temporary(self) -> Path:
        folder = self.folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def names(self) -> list[str]:
        """The names of all images of the storage."""
        listed = json.loads(self._buildah("images", "--json") or "[]") or []
        return [name for entry in listed for name in entry.get("names") or []]

    def exists(self, image: str) -> bool:
        return image in self.names()

    def keep_only(self, image: str) -> None:
        """Removes the images of the same repository with other tags."""
        repository = image.rpartition(":")[0]
        for name in self.names():
            if name != image and name.rpartition(":")[0] == repository:
                self._buildah("rmi", "--force", name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One user at a time: builds of two processes would work on the same names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("images: waiting for another build to end", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self._unmount()

    def build(
        self,
        *,
        dockerfile: Path,
        context: Path,
        tags: Sequence[str],
        target: str = "",
        arguments: Mapping[str, str] | None = None,
        stages: Mapping[str, str] | None = None,
        layers: bool = False,
    ) -> None:
        """Builds one target. `stages` replaces stages by finished images; `layers` keeps each step's layer.

        The machine's certificates are mounted for the build only, so that nothing of it gets into a layer;
        times in layers are 0, so that equal content has an equal digest.
        """
        command = ["build", "--isolation", "chroot", "--format", "oci", "--timestamp", "0"]
        command += [f"--layers={'true' if layers else 'false'}"]
        command += ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        command += ["-f", str(dockerfile)]
        for name, value in (arguments or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        for name, image in (stages or {}).items():
            command += ["--build-context", f"{name}=container-image://{image}"]
        if target:
            command += ["--target", target]
        for tag in tags:
            command += ["-t", tag]
        self._buildah(*command, str(context))

    def publish(self, image: str) -> str:
        """Copies an image into the OCI layout under its own name; returns its manifest's digest."""
        source = f"containers-storage:[overlay@{self.root}+{self.run_root}]{image}"
        self.layout.mkdir(parents=True, exist_ok=True)
        run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-oci-accept-uncompressed-layers",
                source,
                f"oci:{self.layout}:{image}",
            ]
        )
        self.sweep()
        return str(self.descriptor(image)["digest"])

    def descriptor(self, image: str) -> dict[str, object]:
        """The manifest descriptor of a published image."""
        index = json.loads((self.layout / "index.json").read_text())
        for entry in index["manifests"]:
            if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == image:
                return {"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"]}
        raise KeyError(image)

    def blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.layout / "blobs" / algorithm / value

    def blobs(self, digest: str) -> list[str]:
        """The digests of everything that a published image consists of, the manifest first."""
        manifest = json.loads(self.blob(digest).read_text())
        return [digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]

    def sweep(self) -> None:
        """Removes images that lost their name to a newer build, and what no image refers to any more."""
        path = self.layout / "index.json"
        index = json.loads(path.read_text())
        index["manifests"] = [entry for entry in index["manifests"] if entry.get("annotations")]
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(index))
        temporary.replace(path)
        wanted = {digest for entry in index["manifests"] for digest in self.blobs(entry["digest"])}
        for blob in (self.layout / "blobs" / "sha256").iterdir():
            if f"sha256:{blob.name}" not in wanted:
                blob.unlink()

    def prune(self) -> None:
        """Removes half-built containers, and images without a name (kept steps of earlier builds)."""
        self._buildah("rm", "--all")
        self._buildah("rmi", "--prune", "--force")
