"""Requests to the model: JSON as a person would send it, binary tensors as a program would. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = "Inference-Header-Content-Length"
INPUT = "x"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: path below the service's URL, headers and body."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def as_json(tensor: NDArray[np.float32]) -> Request:
    """`/predict`, values to four digits: enough for pixels, and half the size."""
    values = np.round(tensor.astype(np.float64), 4).tolist()
    body = json.dumps({"inputs": {INPUT: values}}, separators=(",", ":")).encode()
    return Request("/predict", {"Content-Type": "application/json"}, body)


def from_json(body: bytes) -> tuple[NDArray[np.float32], str]:
    """The first output and the version that answered."""
    document = json.loads(body)
    output = next(iter(document["outputs"].values()))
    return np.asarray(output, dtype=np.float32), str(document.get("model_version", ""))


def as_binary(model: str, tensor: NDArray[np.float32]) -> Request:
    """The Open Inference Protocol's binary form: a JSON header, then the values as they lie in memory."""
    content = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": INPUT,
                    "datatype": "FP32",
                    "shape": list(tensor.shape),
                    "parameters": {"binary_data_size": len(content)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER: str(len(header))}
    return Request(f"/v2/models/{model}/infer", headers, header + content)


def from_binary(body: bytes, header_length: int) -> tuple[NDArray[np.float32], str]:
    """The first output and the version that answered."""
    document = json.loads(body[:header_length])
    output = document["outputs"][0]
    size = int(output["parameters"]["binary_data_size"])
    values = np.frombuffer(body[header_length : header_length + size], dtype="<f4")
    return values.reshape(output["shape"]), str(document.get("model_version", ""))
