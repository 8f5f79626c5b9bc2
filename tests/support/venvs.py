"""Environments for programs that cannot live beside ours, made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_of(name: str) -> Path:
    """The interpreter of an environment with requirements/<name>.txt, hashes checked."""
    requirements = ROOT / "requirements" / f"{name}.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-operator" / "venvs"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"{name}-{version}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements],
            check=True,
            timeout=900,
        )
        (folder / ".ready").touch()
    return python
