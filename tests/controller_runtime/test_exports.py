"""The public names: sorted, all there, none by accident."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from pathlib import Path

import controller_runtime as ctrl
from controller_runtime import testing


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_all_is_sorted_and_complete() -> None:
    imported = {
        name
        for name, value in vars(ctrl).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    imported -= {"annotations"}
    assert ctrl.__all__ == sorted(ctrl.__all__, key=_order)
    assert set(ctrl.__all__) == imported


def test_testing_exports() -> None:
    assert testing.__all__ == sorted(testing.__all__, key=_order)
    for name in testing.__all__:
        assert hasattr(testing, name)


def test_no_module_is_longer_than_400_lines() -> None:
    package = Path(ctrl.__file__).parent
    lengths = {path.name: len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_public_class_and_function_says_what_it_guarantees() -> None:
    silent = []
    for path in Path(ctrl.__file__).parent.rglob("*.py"):
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        public = [node for node in classes if node.name in ctrl.__all__]
        silent += [node.name for node in public if ast.get_docstring(node) is None]
    assert silent == []


def test_importing_it_does_not_import_kubernetes_asyncio_or_cryptography() -> None:
    code = (
        "import sys, controller_runtime\n"
        "print([name for name in ('kubernetes_asyncio', 'cryptography', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(ctrl.__file__).parent.parent,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
