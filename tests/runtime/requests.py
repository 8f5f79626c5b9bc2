"""Request bodies that tests share."""

from __future__ import annotations

import json

HEADER = "Inference-Header-Content-Length"


def v2(name: str, datatype: str, shape: list[int], data: object, **extra: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **extra}


X = v2("x", "FP32", [1, 3], [1, 2, 3])


def binary(document: dict[str, object], *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
    return b"".join([head, *blobs]), headers


def blob_input(name: str, datatype: str, shape: list[int], size: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
