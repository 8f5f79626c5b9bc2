"""Which model a folder holds: exactly one candidate, or an error that says what was found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import ModelError, Reason

Format = Literal["pir", "pdmodel", "__model__", "onnx"]

_MOST_FILES = 10_000
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`params` is the weights file, a folder of one file for each variable, or None (no weights, or ONNX)."""

    format: Format
    model: Path
    params: Path | None

    @property
    def onnx(self) -> bool:
        return self.format == "onnx"


def find(path: Path, framework: str) -> ModelFiles:
    """The one model of `framework` (paddle or onnx) at `path`, a folder or a file.

    Raises ModelError: AmbiguousModel lists the candidates, UnknownModelFormat says what is there instead,
    CorruptModel names a file that is missing beside the model.
    """
    if path.is_file():
        folder, files = path.parent, [path]
    elif path.is_dir():
        folder, files = path, list(_files(path))
    else:
        raise ModelError(Reason.UNKNOWN_MODEL_FORMAT, f"{path} does not exist")
    found = [c for file in files if (c := _candidate(file)) is not None]
    wanted = [c for c in found if c.onnx == (framework == "onnx")]
    if len(wanted) > 1:
        names = ", ".join(_relative([c.model for c in wanted], folder))
        raise ModelError(
            Reason.AMBIGUOUS_MODEL, f"more than one model: {names}; keep exactly one in the folder"
        )
    if not wanted:
        raise ModelError(Reason.UNKNOWN_MODEL_FORMAT, _nothing(framework, found, files, folder))
    chosen = wanted[0]
    if chosen.format == "pdmodel" and chosen.params is None:
        missing = chosen.model.with_suffix(".pdiparams").name
        raise ModelError(Reason.CORRUPT_MODEL, f"{missing} is missing beside {chosen.model.name}")
    return chosen


def _files(folder: Path) -> Iterator[Path]:
    seen = 0
    for base, folders, names in os.walk(folder):
        depth = len(Path(base).relative_to(folder).parts)
        folders[:] = sorted(n for n in folders if not n.startswith(".")) if depth < _DEEPEST else []
        for name in sorted(names):
            if name.startswith("."):
                continue
            seen += 1
            if seen > _MOST_FILES:
                raise ModelError(
                    Reason.UNKNOWN_MODEL_FORMAT, f"more than {_MOST_FILES} files; this is no model folder"
                )
            yield Path(base, name)


def _candidate(file: Path) -> ModelFiles | None:
    if file.suffix == ".json":
        params = _if_file(file.with_suffix(".pdiparams"))
        # A label or configuration file is JSON too: weights of the same name or the head of a program tell.
        if params is not None or _looks_like_pir(file):
            # When a .pdmodel of the same name is there, both are candidates: neither is a better guess.
            return ModelFiles("pir", file, params) if _looks_like_pir(file) or not _pdmodel(file) else None
    elif file.suffix == ".pdmodel":
        return ModelFiles("pdmodel", file, _if_file(file.with_suffix(".pdiparams")))
    elif file.name == "__model__":
        return ModelFiles("__model__", file, _if_file(file.with_name("__params__")) or file.parent)
    elif file.suffix == ".onnx":
        return ModelFiles("onnx", file, None)
    return None


def _pdmodel(file: Path) -> bool:
    return file.with_suffix(".pdmodel").is_file()


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _looks_like_pir(file: Path) -> bool:
    with open(file, "rb") as stream:
        head = stream.read(512)
    return b'"base_code"' in head or b'"program"' in head


def _relative(paths: Sequence[Path], folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in paths)


def _nothing(framework: str, found: Sequence[ModelFiles], files: Sequence[Path], folder: Path) -> str:
    expected = {
        "paddle": "inference.json or inference.pdmodel with inference.pdiparams, or __model__",
        "onnx": "one .onnx file",
    }[framework]
    if found:
        other = "onnx" if framework == "paddle" else "paddle"
        there = ", ".join(_relative([c.model for c in found], folder))
        return f"framework is {framework}, but the folder holds {there}; set framework to {other}"
    names = _relative(files, folder)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"no {framework} model (expected {expected}); found {shown or 'an empty folder'}"
