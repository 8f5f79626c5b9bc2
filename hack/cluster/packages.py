"""Debian packages that a node needs: named, then installed, only those whose programs are missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hack.cluster.console import ClusterError, Console

# Looked for as programs, so that a containerd or runc from elsewhere is used and never replaced.
NEEDED: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",  # takes away the empty tables that iptables leaves
    "conntrack": "conntrack",
    "socat": "socat",  # port-forward of containerd 1.x
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
}
CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
POLICY = Path("/usr/sbin/policy-rc.d")


def missing(*, which: Callable[[str], str | None] = shutil.which, cni: str | None = None) -> list[str]:
    """Debian packages to install."""
    packages = {package for program, package in NEEDED.items() if which(program) is None}
    if (cni if cni is not None else cni_folder()) == "":
        packages.add("containernetworking-plugins")
    return sorted(packages)


def cni_folder() -> str:
    """The folder that holds every CNI plugin we use; empty when there is none."""
    for folder in CNI_FOLDERS:
        if all((Path(folder) / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    return ""


def ensure(*, console: Console) -> None:
    """Install what is missing. Must be root. Starts no service: the node runs a containerd of its own."""
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"missing here: {', '.join(wanted)} (Debian's names): install them and try again")
    console.say(f"installing Debian packages: {', '.join(wanted)}")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "--quiet=2"]
    with _no_services():
        for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *wanted]):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=900.0,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
            if done.returncode and "install" in command:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise ClusterError(f"apt-get could not install {', '.join(wanted)}: {reason}")
    left = missing()
    if left:
        raise ClusterError(
            f"{', '.join(left)} installed, but its programs are not on PATH: add /usr/sbin to PATH"
        )


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts a package's services unless this script says no; an existing script is left to decide."""
    ours = not os.path.lexists(POLICY)
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
