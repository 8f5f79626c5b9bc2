"""The peer's server: the same model, the same predictor, bytes in and bytes out. Runs in its environment."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
from mosec import Server, Worker  # type: ignore[import-not-found]  # only in its own environment

from runtime.worker.formats import find
from runtime.worker.paddle_backend import PaddleBackend, signature_of

MODEL = Path(os.environ["BENCH_MODEL"])
ENGINE = os.environ["BENCH_ENGINE"]
THREADS = int(os.environ["BENCH_THREADS"])
SHAPE = tuple(int(d) for d in os.environ["BENCH_SHAPE"].split(","))


class Inference(Worker):  # type: ignore[misc]
    """One process, as ours: batches of up to 8."""

    def __init__(self) -> None:
        files = find(MODEL, "paddle")
        self.backend = PaddleBackend(files, signature_of(files), engine=ENGINE, threads=THREADS)
        for rows in range(1, 9):
            self.backend.run([numpy.zeros((rows, *SHAPE), dtype="float32")])

    def deserialize(self, data: bytes) -> numpy.ndarray:
        return numpy.frombuffer(data, dtype="float32").reshape(SHAPE)

    def serialize(self, data: numpy.ndarray) -> bytes:
        return data.tobytes()

    def forward(self, data: list[numpy.ndarray]) -> list[numpy.ndarray]:
        return list(self.backend.run([numpy.stack(data)])[0])


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=8, max_wait_time=int(os.environ["BENCH_WAIT"]))
    server.run()
