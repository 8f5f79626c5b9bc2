"""What an earlier worker measured with the same network, so that the next one need not measure again.

A new version of a model mostly has new weights for the program it had. Engine, threads and batching then stay
as they are: measured while others work they would come out by chance, and measuring costs those others most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.signature import Wire
from runtime.worker.batching import Batchability
from runtime.worker.formats import ModelFiles
from runtime.worker.pir import fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """The other engine of a pair: it runs batches of `rows` and more."""

    engine: str
    threads: int
    rows: int

    def to_wire(self) -> Wire:
        return {"engine": self.engine, "threads": self.threads, "rows": self.rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An earlier worker's choice. `candidates` is what it chose from, for whoever asks why."""

    engine: str
    threads: int
    second: Second | None
    batching: Batchability
    candidates: Mapping[str, float]

    @classmethod
    def of(cls, report: Mapping[str, object], key: str) -> Known | None:
        """What the READY report of an earlier worker says, if that was of the same `key`."""
        if not key or report.get("key") != key:
            return None
        second, candidates = report["second"], report["candidates"]
        assert isinstance(candidates, Mapping)
        return cls(
            engine=str(report["engine"]),
            threads=int(str(report["threads"])),
            second=Second(**second) if isinstance(second, Mapping) else None,
            batching=Batchability.from_wire(report["batching"]),
            candidates=candidates,
        )


def key_of(files: ModelFiles, asked: object) -> str:
    """Names the network and what was `asked` of it (JSON). "" is no key: for ONNX, whose file has the weights
    too, and for what cannot be read, which loading will say.
    """
    if files.onnx:
        return ""
    try:
        program = fingerprint(files.model) if files.format == "pir" else _digest(files.model)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""
    return hashlib.sha256(json.dumps([program, asked], sort_keys=True).encode()).hexdigest()


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
