"""What an image is made of, as one hash: equal inputs need no build."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(paths: Iterable[str], *, root: Path = ROOT) -> list[Path]:
    """The files under `paths` (files or folders, relative to `root`), sorted, byte code apart."""
    found: list[Path] = []
    for name in paths:
        path = root / name
        if path.is_dir():
            found += (f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{name}: an image is made of it, but it is not in {root}")
    return sorted(found)


def digest(*, paths: Iterable[str] = (), texts: Iterable[str] = (), root: Path = ROOT) -> str:
    """16 hex digits over the names, contents and executable bits of `paths`, and over `texts`."""
    total = hashlib.sha256()
    for text in texts:
        total.update(b"text\0" + text.encode() + b"\0")
    for file in files(paths, root=root):
        executable = b"x" if file.stat().st_mode & 0o100 else b"-"
        content = hashlib.sha256(file.read_bytes()).digest()
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + executable + content)
    return total.hexdigest()[:16]


def dependency_part(dockerfile: str) -> str:
    """The Dockerfile up to the stage that adds our own code (`FROM deps AS ...`): what `deps` hangs on.

    Instructions of the `code` stage are left out too, since they change nothing in `deps`.
    """
    kept: list[str] = []
    skipping = False
    for line in dockerfile.splitlines():
        if line.startswith("FROM deps AS "):
            break
        if line.startswith("FROM "):
            skipping = line.endswith(" AS code")
        if not skipping and not line.startswith("#"):
            kept.append(line)
    return "\n".join(kept)
