"""The predictor alone in a loop: what is left when there is no server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy

from runtime.worker.formats import find
from runtime.worker.paddle_backend import PaddleBackend, signature_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="bare")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--shape", required=True, help="of a row, comma separated")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    files = find(options.model, "paddle")
    backend = PaddleBackend(files, signature_of(files), engine=options.engine, threads=options.threads)
    shape = (options.rows, *(int(d) for d in options.shape.split(",")))
    inputs = [numpy.full(shape, 0.5, dtype="float32")]
    for _ in range(3):
        backend.run(inputs)
    runs = 0
    start = perf_counter()
    while (now := perf_counter()) - start < options.seconds:
        backend.run(inputs)
        runs += 1
    print(json.dumps({"rate": runs * options.rows / (now - start)}))
    backend.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
