"""prometheus and promtool: those on PATH, else Debian's, unpacked into the cache without installing anything.

``python -m hack.prometheus`` prints the folder that holds both.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from hack.cluster.paths import BIN

PROGRAMS: Final = ("prometheus", "promtool")
TIMEOUT: Final = 300.0


class PrometheusMissing(Exception):
    """The text is one line with the remedy."""


def ensure() -> Path:
    """The folder of both programs. Safe for several processes at once; raises PrometheusMissing."""
    found = [shutil.which(program) for program in PROGRAMS]
    if found[0] and found[1] and Path(found[0]).parent == Path(found[1]).parent:
        return Path(found[0]).parent
    BIN.mkdir(parents=True, exist_ok=True)
    with open(BIN / ".prometheus.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((BIN / program).exists() for program in PROGRAMS):
            _unpack()
    return BIN


def _unpack() -> None:
    if shutil.which("apt-get") is None:
        raise PrometheusMissing("prometheus and promtool are not on PATH: install them (no apt-get here)")
    with tempfile.TemporaryDirectory(dir=BIN) as folder:
        download = ["apt-get", "--quiet=2", "-o", "APT::Sandbox::User=root", "download", "prometheus"]
        said = _run(download, folder)
        if said and os.geteuid() == 0:  # a machine without package lists
            _run(["apt-get", "--quiet=2", "update"], folder)
            said = _run(download, folder)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if not packages:
            raise PrometheusMissing(f"apt-get could not download prometheus: {said}: install it by hand")
        said = _run(["dpkg", "-x", packages[0].name, "."], folder)
        for program in PROGRAMS:
            source = Path(folder, "usr/bin", program)
            if not source.exists():
                raise PrometheusMissing(f"Debian's prometheus has no {program} ({said}): install it by hand")
            source.replace(BIN / program)


def _run(command: list[str], folder: str) -> str:
    """The last line of complaint; "" if it went well."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


if __name__ == "__main__":
    try:
        print(ensure())
    except PrometheusMissing as missing:
        sys.exit(str(missing))
