"""The service port described as an OpenAPI 3.1 document, for this server with its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from runtime.datatypes import BY_NAME
from runtime.signature import Signature, TensorSpec, Wire

_JSON = "application/json"
_BINARY = "application/octet-stream"
_HEADER = "Inference-Header-Content-Length"
# Any request; then those of inference, and of what names a model.
_ALWAYS = (400, 405, 500)
_LARGEST_EXAMPLE = 64
_INFERENCE = (404, 408, 411, 413, 415, 429, 503, 504)
_TEXTS = {
    400: "The request is wrong; `error` names what.",
    404: "No such model or version.",
    405: "Another method is wanted; `Allow` names it.",
    408: "The body came too slowly.",
    411: "Content-Length is missing.",
    413: "The body is too large.",
    415: "The Content-Type is none of ours.",
    429: "No room now; `Retry-After` says when to come again.",
    500: "The model or the server failed.",
    503: "Not ready, or no live worker.",
    504: "Not answered before the deadline.",
}


def document(models: Mapping[str, Signature | None], version: str) -> Wire:
    """`models` are the names served here, each with its signature once that is known."""
    model = {"name": "model", "in": "path", "required": True, "schema": _string(enum=sorted(models))}
    release = {"name": "version", "in": "path", "required": True, "schema": _string(minLength=1)}
    paths: Wire = {
        "/predict": {"post": _predict(models)},
        "/healthz": {"get": _health("Whether every desired model has answered.", "Ready")},
        "/livez": {"get": _get("Whether the server responds.", "Live")},
        "/openapi.json": {"get": _get("This document.", None)},
        "/v2": {"get": _get("The server's name, version and extensions.", "Server")},
        "/v2/health/live": {"get": _get("As /livez.", "Live")},
        "/v2/health/ready": {"get": _health("As /healthz.", "Ready")},
        "/v2/models/stats": {"get": _get("Statistics of all models.", "Statistics")},
        "/v2/repository/index": {"post": _index()},
    }
    for suffix, parameters in (("", [model]), ("/versions/{version}", [model, release])):
        path = f"/v2/models/{{model}}{suffix}"
        for rest, operation in (
            ("", _get("Inputs, outputs and how the model is served.", "Model", 404, 503)),
            ("/ready", _health("Whether the model answers.", "ModelReady", 404)),
            ("/stats", _get("Counts and times since the start.", "Statistics", 404)),
        ):
            paths[path + rest] = {"parameters": parameters, "get": operation}
        paths[f"{path}/infer"] = {"parameters": parameters, "post": _infer()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "paddle-runtime",
            "version": version,
            "description": "Predictions, and the Open Inference Protocol V2. gRPC is on a port of its own.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _predict(models: Mapping[str, Signature | None]) -> Wire:
    name = _string(enum=sorted(models), description="May be left out when there is one model.")
    named = {
        "type": "object",
        "description": "By name: nested lists, or an object with data, shape and datatype.",
        "additionalProperties": {"anyOf": [_ref("Values"), _ref("Described")]},
    }
    schema: Wire = {
        "type": "object",
        "required": ["inputs"] if len(models) == 1 else ["model", "inputs"],
        "properties": {
            "model": name,
            "id": _string(),
            "inputs": {"anyOf": [named, {"type": "array", "minItems": 1, "items": _ref("InputTensor")}]},
        },
    }
    known = {name: signature for name, signature in models.items() if signature is not None}
    examples = {
        name: {"value": {"model": name, "inputs": {t.name: _zeros(t) for t in signature.inputs}}}
        for name, signature in known.items()
        if all(_small(tensor) for tensor in signature.inputs)
    }
    content: Wire = {"schema": schema}
    if examples:
        content["examples"] = examples
    return {
        "summary": "One prediction: inputs by name, outputs by name.",
        "parameters": _headers(),
        "requestBody": {"required": True, "content": {_JSON: content}},
        "responses": {"200": _answer("The outputs.", "Prediction"), **_errors(*_INFERENCE)},
    }


def _small(spec: TensorSpec) -> bool:
    """Fits on a page, and has a JSON form."""
    return prod(max(1, dim) for dim in spec.shape) <= _LARGEST_EXAMPLE and bool(BY_NAME[spec.datatype].letter)


def _zeros(spec: TensorSpec) -> object:
    """Nested lists of the smallest shape that fits."""
    value: object = False if spec.datatype == "BOOL" else 0
    for dim in reversed(spec.shape):
        value = [value] * max(1, dim)
    return value


def _infer() -> Wire:
    length = {
        "name": _HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "Bytes of the JSON part when binary tensors follow it; 0 for a raw body.",
    }
    body: Wire = {_JSON: {"schema": _ref("InferRequest")}, _BINARY: {"schema": _string(format="binary")}}
    answer = _answer("The outputs; binary when asked for.", "InferResponse")
    content = answer["content"]
    assert isinstance(content, dict)
    content[_BINARY] = {"schema": _string(format="binary")}
    return {
        "summary": "One inference of the Open Inference Protocol, as JSON or with binary tensors.",
        "parameters": [*_headers(), length],
        "requestBody": {"required": True, "content": body},
        "responses": {"200": answer, **_errors(*_INFERENCE)},
    }


def _headers() -> list[Wire]:
    return [
        {
            "name": "X-Request-Timeout",
            "in": "header",
            "required": False,
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
            "description": "Seconds that the answer may take.",
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "required": False,
            "schema": _string(pattern="^[!-~]{1,128}$"),
            "description": "Comes back in the answer and stands in the log.",
        },
    ]


def _index() -> Wire:
    ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    return {
        "summary": "The desired models and their states.",
        "requestBody": {"required": False, "content": {_JSON: {"schema": ready}}},
        "responses": {"200": _answer("All, or only those that serve.", "Index"), **_errors(408, 411, 413)},
    }


def _get(summary: str, name: str | None, *codes: int) -> Wire:
    return {"summary": summary, "responses": {"200": _answer("The answer.", name), **_errors(*codes)}}


def _health(summary: str, name: str, *codes: int) -> Wire:
    answers: Wire = {"200": _answer("It is.", name), "503": _answer("Not yet; `error` says why.", name)}
    return {"summary": summary, "responses": answers | _errors(*codes)}


def _answer(description: str, name: str | None) -> Wire:
    schema = _ref(name) if name is not None else {"type": "object"}
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _errors(*codes: int) -> Wire:
    return {str(code): _answer(_TEXTS[code], "Error") for code in sorted({*_ALWAYS, *codes})}


def _ref(name: str) -> Wire:
    return {"$ref": f"#/components/schemas/{name}"}


def _string(**more: object) -> Wire:
    return {"type": "string", **more}


def _object(required: Sequence[str], **properties: object) -> Wire:
    return {"type": "object", "required": list(required), "properties": properties}


_DATATYPE = _string(enum=[name for name in BY_NAME if name != "BYTES"])
_SHAPE: Wire = {"type": "array", "maxItems": 16, "items": {"type": "integer", "minimum": 0}}
_OPEN_SHAPE: Wire = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_FREE: Wire = {"type": "object"}
_COUNT: Wire = {"type": "integer", "minimum": 0}
_DURATION = _object(("count", "ns"), count=_COUNT, ns=_COUNT)
_COMPUTE = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _DURATION)
_SPEC = _object(("name", "datatype", "shape"), name=_string(), datatype=_DATATYPE, shape=_OPEN_SHAPE)

_SCHEMAS: Wire = {
    "Error": _object(("error",), error=_string()),
    "Live": _object(("live",), live={"type": "boolean"}),
    "Ready": _object(("ready",), ready={"type": "boolean"}, error=_string(), reasons=_FREE),
    "ModelReady": _object(("name", "ready"), name=_string(), ready={"type": "boolean"}, error=_string()),
    "Server": _object(
        ("name", "version", "extensions"),
        name=_string(),
        version=_string(),
        extensions={"type": "array", "items": _string()},
    ),
    "Model": _object(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_string(),
        versions={"type": "array", "items": _string()},
        platform=_string(),
        inputs={"type": "array", "items": _SPEC},
        outputs={"type": "array", "items": _SPEC},
        parameters=_FREE,
    ),
    "Values": {
        "anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "array", "items": _ref("Values")}]
    },
    "Described": _object(("data",), data=_ref("Values"), shape=_SHAPE, datatype=_DATATYPE)
    | {"additionalProperties": False},
    "InputTensor": _object(
        ("name", "shape", "datatype"),
        name=_string(),
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_FREE,
        data=_ref("Values"),
    ),
    "InferRequest": _object(
        ("inputs",),
        id=_string(),
        parameters=_object(
            (), timeout={**_COUNT, "description": "Microseconds."}, binary_data_output={"type": "boolean"}
        ),
        inputs={"type": "array", "minItems": 1, "items": _ref("InputTensor")},
        outputs={
            "type": "array",
            "items": _object(
                ("name",), name=_string(), parameters=_object((), binary_data={"type": "boolean"})
            ),
        },
    ),
    "OutputTensor": _object(
        ("name", "shape", "datatype"),
        name=_string(),
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_FREE,
        data={"type": "array"},
    ),
    "InferResponse": _object(
        ("model_name", "id", "outputs"),
        model_name=_string(),
        model_version=_string(),
        id=_string(),
        outputs={"type": "array", "items": _ref("OutputTensor")},
    ),
    "Prediction": _object(
        ("model", "model_version", "id", "outputs"),
        model=_string(),
        model_version=_string(),
        id=_string(),
        outputs=_FREE,
    ),
    "Index": {
        "type": "array",
        "items": _object(
            ("name", "version", "state", "reason"),
            name=_string(),
            version=_string(),
            state=_string(enum=["READY", "LOADING", "UNLOADING", "UNAVAILABLE", "UNKNOWN"]),
            reason=_string(),
        ),
    },
    "Statistics": _object(
        ("model_stats",),
        model_stats={
            "type": "array",
            "items": _object(
                ("name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"),
                name=_string(),
                version=_string(),
                last_inference=_COUNT,
                inference_count=_COUNT,
                execution_count=_COUNT,
                inference_stats=_object(
                    ("success", "fail", "queue", *_COMPUTE),
                    success=_DURATION,
                    fail=_DURATION,
                    queue=_DURATION,
                    **_COMPUTE,
                ),
                batch_stats={
                    "type": "array",
                    "items": _object(("batch_size", *_COMPUTE), batch_size=_COUNT, **_COMPUTE),
                },
            ),
        },
    ),
}
