"""The model as every peer has it: the same files, the same predictor. For the peers' environments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A folder with paddle and nothing else: the other packages are the peer's own.
sys.path.append(os.environ["BENCH_PACKAGES"])

import numpy
from numpy.typing import NDArray

from runtime.worker.formats import find
from runtime.worker.paddle_backend import PaddleBackend, signature_of

Rows = NDArray[numpy.float32]

SHAPE = tuple(int(d) for d in os.environ["BENCH_SHAPE"].split(","))
PORT = int(os.environ["BENCH_PORT"])
BATCH = 8  # rows that are run together at most, as with ours


class Model:
    """Made where it runs: a predictor has one thread."""

    def __init__(self) -> None:
        files = find(Path(os.environ["BENCH_MODEL"]), "paddle")
        threads = int(os.environ["BENCH_THREADS"])
        self.signature = signature_of(files)
        self._backend = PaddleBackend(
            files, self.signature, engine=os.environ["BENCH_ENGINE"], threads=threads
        )
        for rows in range(1, BATCH + 1):
            self(numpy.zeros((rows, *SHAPE), dtype="float32"))

    def __call__(self, rows: Rows) -> Rows:
        (output,) = self._backend.run([numpy.ascontiguousarray(rows)])
        return output  # type: ignore[return-value]  # the models of the benchmark answer with FP32
