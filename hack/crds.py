"""CRDs of other projects that tests install: from Go modules, pinned by version and hash, cached as JSON.

python -m hack.crds        # fetches what is not in the cache, prints the files
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from .cluster import paths
from .cluster.binaries import find_go
from .cluster.console import Console

#: Seconds that the module proxy has.
DEADLINE = 300.0


class CrdError(Exception):
    """Why a CRD is not to be had; one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crd:
    """name: of the CustomResourceDefinition in `file` of the Go module. sum: of the module, as in go.sum."""

    name: str
    module: str
    version: str
    sum: str
    file: str

    @property
    def cached(self) -> Path:
        mark = hashlib.sha256(f"{self.module} {self.version} {self.sum} {self.file}".encode()).hexdigest()
        return paths.CACHE / "crds" / f"{self.name}-{mark[:12]}.yaml"  # JSON is YAML


HTTP_ROUTE = Crd(
    name="httproutes.gateway.networking.k8s.io",
    module="sigs.k8s.io/gateway-api",
    version="v1.4.0",
    sum="h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
    file="config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
)
VIRTUAL_SERVICE = Crd(
    name="virtualservices.networking.istio.io",
    module="istio.io/api",
    version="v1.28.0",
    sum="h1:0fYY9G03CAdFwE/fCkpr0v7kKsy+Hz9OCCjLNBNLbnU=",
    file="kubernetes/customresourcedefinitions.gen.yaml",
)


def fetch(crd: Crd) -> Path:
    """The CRD as a file of its own. Raises CrdError naming what is missing."""
    if crd.cached.exists():
        return crd.cached
    crd.cached.parent.mkdir(parents=True, exist_ok=True)
    with (crd.cached.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes begin at once
        if not crd.cached.exists():
            document = _document(crd, _download(crd))
            temporary = crd.cached.with_suffix(".part")
            temporary.write_text(json.dumps(document))
            temporary.rename(crd.cached)
    return crd.cached


def _download(crd: Crd) -> Path:
    """The module's folder, once its hash is what it should be."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    command = [str(find_go(Console())), "mod", "download", "-json", f"{crd.module}@{crd.version}"]
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
            env=environment,
            cwd=empty,
        )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = {"Error": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
    if told.get("Error") or done.returncode:
        raise CrdError(f"{crd.module}@{crd.version} could not be downloaded ({told.get('Error')})")
    if told["Sum"] != crd.sum:
        raise CrdError(
            f"{crd.module}@{crd.version} is {told['Sum']}, not {crd.sum}: not the module that was read"
        )
    return Path(told["Dir"])


def _document(crd: Crd, folder: Path) -> object:
    """The one document of that name; the others of the file are not parsed."""
    for text in (folder / crd.file).read_text().split("\n---\n"):
        if f"\n  name: {crd.name}\n" in text:
            return _undescribed(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    raise CrdError(f"{crd.module}@{crd.version}: {crd.file} has no {crd.name}")


def _undescribed(value: object) -> object:
    """Without descriptions, two thirds of it: every test process parses what is left."""
    if isinstance(value, dict):
        words = isinstance(value.get("description"), str)
        return {k: _undescribed(v) for k, v in value.items() if not (words and k == "description")}
    return [_undescribed(item) for item in value] if isinstance(value, list) else value


def main() -> int:
    try:
        for crd in (HTTP_ROUTE, VIRTUAL_SERVICE):
            print(fetch(crd))
    except CrdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
