"""mosec: bytes in, bytes out, one process, batches."""

from __future__ import annotations

import os

from hack.bench.inference.peer_model import BATCH, SHAPE, Model, Rows

import numpy  # isort: skip  # the line above says where it is
from mosec import Server, Worker  # type: ignore[import-not-found]  # isort: skip  # only in its own environment


class Inference(Worker):  # type: ignore[misc]
    def __init__(self) -> None:
        self.model = Model()

    def deserialize(self, data: bytes) -> Rows:
        return numpy.frombuffer(data, dtype="float32").reshape(SHAPE)

    def serialize(self, data: Rows) -> bytes:
        return data.tobytes()

    def forward(self, data: list[Rows]) -> list[Rows]:
        return list(self.model(numpy.stack(data)))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=BATCH, max_wait_time=int(os.environ["BENCH_WAIT"]))
    server.run()
