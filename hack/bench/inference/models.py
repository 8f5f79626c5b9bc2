"""The two models of the benchmark: LeNet-size from the tests' exporter, and PP-OCRv4 recognition."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from hack.demo.model import fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """`folders` are two versions with the same program; `row` is a request's input named `input`."""

    name: str
    folders: tuple[Path, Path]
    input: str
    row: NDArray[numpy.float32]
    fixed: bool  # whether the file says all dimensions but the first

    @property
    def folder(self) -> Path:
        return self.folders[0]


def lenet() -> Model:
    """Imported by name: the exporter is written against paddle's own types, which the type checker is not to
    follow from here.
    """
    support = importlib.import_module("tests.support.models")
    first, second = support.export([support.Net(kind="lenet"), support.Net(kind="lenet", seed=5)])
    row = numpy.random.default_rng(1).random((1, 28, 28), dtype="float32")
    return Model(name="LeNet", folders=(first, second), input="image", row=row, fixed=True)


def recognition(folder: Path) -> Model:
    """Twice the same files: there is one version of it."""
    folders = (folder / "recognition1", folder / "recognition2")
    for target in folders:
        target.mkdir(exist_ok=True)
        for name, content in fetch().files.items():
            (target / name).write_bytes(content)
    row = numpy.full((3, 48, 320), 0.5, dtype="float32")
    return Model(name="PP-OCR recognition", folders=folders, input="x", row=row, fixed=False)
