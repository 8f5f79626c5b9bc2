"""The contenders: what each is built from, and how it is started. Built once, into the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-operator" / "bench"


class PeerError(Exception):
    """A contender cannot be built; one line with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`command` holds the fields {kubeconfig}, {namespace} and {workers}; KUBECONFIG is set as well."""

    name: str
    version: str
    command: Sequence[str]
    environment: Mapping[str, str]

    def start(self, kubeconfig: Path, namespace: str, workers: int, log: Path) -> subprocess.Popen[bytes]:
        """Start it, its output in `log`."""
        fields = {"kubeconfig": str(kubeconfig), "namespace": namespace, "workers": str(workers)}
        command = [part.format(**fields) for part in self.command]
        environment = {**os.environ, **self.environment, "KUBECONFIG": str(kubeconfig)}
        with log.open("ab") as output:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def ours() -> Contender:
    """In an environment of its own with what the library needs, from the hashed ours-requirements.txt."""
    environment = _environment("ours", HERE / "ours-requirements.txt")
    module = "hack.bench.control_plane.ours"
    options = ("--kubeconfig={kubeconfig}", "--namespace={namespace}", "--workers={workers}")
    # Compiled once, as Go's is, also where PYTHONDONTWRITEBYTECODE is set.
    compiled = {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(CACHE / "pyc"),
    }
    python = str(environment / "bin" / "python")
    _call([python, "-c", f"import {module}"], ROOT, "ours", compiled)
    version = f"Python {sys.version.split()[0]}, uvloop {metadata.version('uvloop')}"
    return Contender(
        name="ours",
        version=version,
        command=(python, "-m", module, *options),
        environment=compiled,
    )


def go() -> Contender:
    """Built with the Go on PATH from the versions in go/go.mod."""
    folder = HERE / "go"
    compiler = shutil.which("go")
    if compiler is None:
        raise PeerError("go: not on PATH; install Go 1.26 or newer, or pass --contenders ours,kopf")
    program = CACHE / f"go-sample-{_digest(sorted(folder.iterdir()))}"
    if not program.exists():
        print("building the Go contender (some minutes the first time)", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        _call([compiler, "build", "-trimpath", "-o", str(program), "."], folder, "the Go contender")
    found = re.search(r"sigs\.k8s\.io/controller-runtime (v\S+)", (folder / "go.mod").read_text())
    toolchain = subprocess.run([compiler, "env", "GOVERSION"], capture_output=True, text=True, check=True)
    options = ("-kubeconfig-file={kubeconfig}", "-namespace={namespace}", "-workers={workers}")
    version = f"controller-runtime {found[1] if found else '?'}, {toolchain.stdout.strip()}"
    return Contender(name="go", version=version, command=(str(program), *options), environment={})


def kopf() -> Contender:
    """In an environment of its own, from the hashed kopf-peer/requirements.txt; uvloop as kopf advises."""
    folder = HERE / "kopf-peer"
    requirements = folder / "requirements.txt"
    environment = _environment("kopf", requirements)
    found = re.search(r"^kopf==(\S+)", requirements.read_text(), re.MULTILINE)
    command = (str(environment / "bin" / "kopf"), "run", "--standalone", "--namespace={namespace}")
    return Contender(
        name="kopf",
        version=f"kopf {found[1] if found else '?'}",
        command=(*command, "--quiet", str(folder / "main.py")),
        environment={"PYTHONPATH": ""},
    )


def _environment(name: str, requirements: Path) -> Path:
    environment = CACHE / f"{name}-{_digest([requirements])}"
    if not (environment / ".ready").exists():
        print(f"installing the environment of {name}", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "venv", "--clear", str(environment)], HERE, name)
        pip = (str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check")
        _call([*pip, "--require-hashes", "-r", str(requirements)], HERE, name)
        (environment / ".ready").touch()
    return environment


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _call(
    command: Sequence[str], folder: Path, what: str, environment: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"{what}: {command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
