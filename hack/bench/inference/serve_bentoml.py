"""BentoML: JSON, the only form its HTTP server takes arrays in; one process, adaptive batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hack.bench.inference.peer_model import BATCH, Model

import bentoml  # type: ignore[import-not-found]  # isort: skip  # only in its own environment
import numpy  # isort: skip


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Served:
    def __init__(self) -> None:
        # It calls from a pool of threads, and a predictor has one.
        self.thread = ThreadPoolExecutor(1)
        self.model = self.thread.submit(Model).result()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60000)  # type: ignore[untyped-decorator]
    def infer(self, x: numpy.ndarray) -> numpy.ndarray:
        return self.thread.submit(self.model, x.astype("float32")).result()
