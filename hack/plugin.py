"""Builds the `kubectl paddle` plugin: one executable file of pure Python.

    python -m hack.plugin [FILE]

In it are `cli` and what that imports of ours. It is imported without any installed package first, so a plugin
that needs one is never built. The same sources give the same bytes.
"""

import io
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / ".local" / "kubectl-paddle"
_SHEBANG = b"#!/usr/bin/env python3\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILES = """
import sys
sys.path.insert(0, sys.argv[1])
import cli.main
for name, module in sorted(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and file.startswith(sys.argv[1]):
        print(file)
"""


class PluginError(Exception):
    """Why there is no plugin; one line."""


def sources(root: Path = ROOT) -> list[Path]:
    """The files that the plugin is made of. Raises PluginError if it needs more than Python itself."""
    command = [sys.executable, "-I", "-S", "-B", "-c", _FILES, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise PluginError(f"cli does not import without packages: {done.stderr.strip().splitlines()[-1]}")
    return [Path(line) for line in done.stdout.splitlines()]


def build(target: Path, root: Path = ROOT) -> int:
    """Writes `target`, executable; its size in bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        main = (root / "cli" / "__main__.py").read_bytes()
        archive.writestr(_entry("__main__.py"), main)
        for path in sources(root):
            archive.writestr(_entry(str(path.relative_to(root))), path.read_bytes())
    target.parent.mkdir(parents=True, exist_ok=True)
    data = _SHEBANG + content.getvalue()
    beside = target.with_name(f".{target.name}.new")
    beside.write_bytes(data)
    beside.chmod(0o755)
    beside.replace(target)
    return len(data)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def main(arguments: Sequence[str]) -> int:
    target = Path(arguments[0]) if arguments else DEFAULT
    try:
        size = build(target)
    except PluginError as error:
        print(f"plugin: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {size / 1024:.0f} KiB; with it on the PATH: kubectl paddle canary -h")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
