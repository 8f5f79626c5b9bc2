"""A CanaryAnalysis as the PaddleService controller makes it, correct unless a test makes it wrong."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]

START = "2026-11-24T10:00:00Z"


def analysis(
    service: str = "ocr",
    *,
    run: int = 1,
    step: int = 0,
    attempt: int = 1,
    owner_uid: str = "",
    **spec: object,
) -> Tree:
    """A field given as None is left out."""
    fields: Tree = {
        "service": service,
        "run": run,
        "step": step,
        "attempt": attempt,
        "candidate": "bbbbbbbb",
        "baseline": "aaaaaaaa",
        "weight": 5,
        "windowStart": START,
        "models": [{"name": "m", "latencySLAMilliseconds": 200}],
    }
    metadata: Tree = {"name": f"{service}-bbbbbbbb-{run}-{step}-{attempt}"}
    if owner_uid:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "serving.paddlepaddle.org/v1alpha1",
                "kind": "PaddleService",
                "name": service,
                "uid": owner_uid,
                "controller": True,
            }
        ]
    return {
        "apiVersion": "serving.paddlepaddle.org/v1alpha1",
        "kind": "CanaryAnalysis",
        "metadata": metadata,
        "spec": {key: value for key, value in (fields | spec).items() if value is not None},
    }
