"""KServe's Python server: V2 with binary tensors. It has no batching of its own, and predicts on its loop."""

from __future__ import annotations

from hack.bench.inference.peer_model import PORT, Model

import kserve  # type: ignore[import-not-found]  # isort: skip  # only in its own environment


class Served(kserve.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("m")
        self.model = Model()
        self.output = self.model.signature.outputs[0].name
        self.ready = True

    def predict(
        self, payload: kserve.InferRequest, headers: object = None, response_headers: object = None
    ) -> kserve.InferResponse:
        rows = self.model(payload.inputs[0].as_numpy())
        output = kserve.InferOutput(self.output, list(rows.shape), "FP32")
        output.set_data_from_numpy(rows, binary_data=True)
        return kserve.InferResponse(
            payload.id,
            "m",
            [output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    server = kserve.ModelServer(
        http_port=PORT, workers=1, enable_grpc=False, enable_latency_logging=False, access_log_format=None
    )
    server.start([Served()])
