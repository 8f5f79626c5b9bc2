"""What the process says of itself: GET /progress for the operator, and the termination message for the
kubelet.
"""

from __future__ import annotations

import json
from pathlib import Path

from runtime.model import Model
from runtime.registry import Registry, Reload
from runtime.signature import Wire

_MOST_BYTES = 4096


def progress(registry: Registry, revision: str) -> Wire:
    """The state of every model; `stage` is that of the one furthest from serving."""
    return {
        "stage": registry.stage.value,
        "revision": revision,
        "message": registry.problem,
        "models": [_model(model, registry.reloads.get(name)) for name, model in registry.models.items()],
    }


def _model(model: Model, reload: Reload | None) -> Wire:
    """What serves, or is to; `reload` is the version that comes after it, while it comes or when it could
    not. While there is nothing that serves, what is being pulled is told as the model itself.
    """
    pulling = reload is not None and reload.state == "Pulling" and not model.serves
    found = _served(model)
    if pulling and reload is not None:
        return {**found, **reload.to_wire()}
    if model.error is not None and reload is not None:
        found |= {"version": reload.version, "digest": reload.digest}
    if reload is not None and model.serves:
        found["reload"] = reload.to_wire()
    return found


def _served(model: Model) -> Wire:
    spec, error = model.spec, model.error
    return {
        "name": spec.name,
        "version": spec.version,
        "digest": spec.digest,
        "contentDigest": spec.content_digest,
        "state": model.stage.value,
        "reason": error.reason.value if error is not None else "",
        "message": error.message if error is not None else model.note,
        "bytesDone": spec.size,
        "bytesTotal": spec.size,
        "bytesPerSecond": 0.0,
        "etaSeconds": 0.0,
        "engine": model.metrics.engine or next((s.engine for s in model.slots if s.engine), ""),
        "warmUpMedianMilliseconds": round(model.metrics.warm_up_median * 1000, 3),
    }


def termination_message(registry: Registry) -> Wire:
    """The last word: the first model that failed, or ok."""
    failed = next((model for model in registry.models.values() if model.error is not None), None)
    error = failed.error if failed is not None else None
    return {
        "result": "failed" if error is not None else "ok",
        "reason": error.reason.value if error is not None else "",
        "message": f"model {failed.spec.name}: {error.message}" if failed is not None and error else "",
        "models": [
            {
                "name": model.spec.name,
                "digest": model.spec.digest,
                "contentDigest": model.spec.content_digest,
                "size": model.spec.size,
            }
            for model in registry.models.values()
        ],
    }


def write_termination(message: Wire, path: Path) -> None:
    """At most 4096 bytes, or the kubelet cuts it within the JSON. Best effort: outside a pod the file is not
    there.
    """
    body = dict(message)
    text = json.dumps(body)
    if len(text.encode()) > _MOST_BYTES:
        body["message"] = str(body.get("message", ""))[:1024]
        text = json.dumps(body)
    if len(text.encode()) > _MOST_BYTES:
        body["models"] = []
        text = json.dumps(body)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        return
