"""Objects to apply, correct unless a test makes them wrong, and the CRDs as committed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hack.generate.compose import version_schema

# YAML as it is; tests look into it freely.
Tree = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
GROUP = "/apis/serving.paddlepaddle.org/v1alpha1"
SHA = "sha256:" + "0123456789abcdef" * 4
KINDS = {"PaddleModel": "paddlemodels", "PaddleService": "paddleservices"}


@cache
def crd(plural: str) -> Tree:
    """The committed CRD."""
    document: Tree = yaml.safe_load((ROOT / f"config/crd/{plural}.yaml").read_text())
    return document


def schema(plural: str) -> Tree:
    return version_schema(crd(plural))


def model(name: str = "resnet50", **spec: object) -> Tree:
    """A PaddleModel; a field given as None is left out."""
    fields: Tree = {
        "framework": "paddle",
        "version": "v1.0.0",
        "modelPath": "minio://models/resnet50-v1",
    }
    return _object("PaddleModel", name, fields | spec)


def service(name: str = "ocr", **spec: object) -> Tree:
    """A PaddleService of one model; a field given as None is left out."""
    fields: Tree = {"models": [{"name": "det", "modelRef": {"name": "det"}}]}
    return _object("PaddleService", name, fields | spec)


def _object(kind: str, name: str, spec: Tree) -> Tree:
    return {
        "apiVersion": "serving.paddlepaddle.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
