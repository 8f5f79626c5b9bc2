"""LitServe: it reads JSON only, so the tensor is base64 in it; bytes out, one process, batches."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping

from hack.bench.inference.peer_model import BATCH, PORT, SHAPE, Model, Rows

import litserve  # type: ignore[import-not-found]  # isort: skip  # only in its own environment
import numpy  # isort: skip
from starlette.responses import Response  # type: ignore[import-not-found]  # isort: skip


class Served(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request: Mapping[str, str]) -> Rows:
        return numpy.frombuffer(b64decode(request["x"]), dtype="float32").reshape(SHAPE)

    def batch(self, inputs: list[Rows]) -> Rows:
        return numpy.stack(inputs)

    def predict(self, x: Rows) -> Rows:
        return self.model(x)

    def unbatch(self, output: Rows) -> list[Rows]:
        return list(output)

    def encode_response(self, output: Rows) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    served = Served(max_batch_size=BATCH, batch_timeout=int(os.environ["BENCH_WAIT"]) / 1000)
    server = litserve.LitServer(served, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, log_level="error", generate_client_file=False)
