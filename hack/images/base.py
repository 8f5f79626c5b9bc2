"""The base image where no registry can be reached: Debian by mmdebstrap, kept by the hash of its inputs."""

import tempfile
from pathlib import Path

from hack.images import inputs, names
from hack.images.buildah import BuildError, Store, run

SUITE = "bookworm"  # python3 is 3.11, the oldest that we support
PACKAGES = ("python3", "ca-certificates")
# Files that no program needs; copyright notices stay.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
INCLUDED = ("/usr/share/doc/*/copyright",)


def command(target: Path) -> list[str]:
    options = [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED]
    options += [f"--dpkgopt=path-include={path}" for path in INCLUDED]
    # What differs from run to run or tells of this machine.
    leftovers = ("/var/log/*", "/var/cache/ldconfig/*", "/etc/hostname", "/etc/resolv.conf")
    hooks = ["--customize-hook=rm -rf " + " ".join(f"$1{path}" for path in leftovers)]
    include = f"--include={','.join(PACKAGES)}"
    return ["mmdebstrap", "--variant=minbase", include, *options, *hooks, SUITE, str(target)]


def name() -> str:
    """The base image's name: its tag is the hash of what it is made of."""
    key = inputs.digest(paths=["hack/images/addons/Dockerfile.base"], texts=command(Path("base.tar")))
    return f"{names.BASE}:{key}"


def ensure(store: Store, *, rebuild: bool = False) -> str:
    """Builds the base if the store has none with these inputs (about one minute); returns its name."""
    image = name()
    if not rebuild and store.exists(image):
        return image
    print(f"images: Debian {SUITE} base with {', '.join(PACKAGES)} (about 1 min, once)", flush=True)
    with tempfile.TemporaryDirectory(dir=store.temporary()) as folder:
        archive = Path(folder) / "base.tar"
        run(command(archive))
        if not archive.is_file():
            raise BuildError("mmdebstrap left no archive")
        store.build(
            dockerfile=inputs.ROOT / "hack/images/addons/Dockerfile.base", context=Path(folder), tags=[image]
        )
    return image
