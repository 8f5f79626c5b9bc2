"""Builders for what a PaddleModel's reconciler may observe."""

from datetime import UTC, datetime, timedelta

import controller_runtime as ctrl
from api.v1alpha1 import PaddleModelSpec
from artifacts import EndpointPolicy, File, Manifest
from controllers.kinds import PADDLE_MODEL, PADDLE_SERVICE
from controllers.options import Options
from controllers.paddlemodel.decide import Observed
from controllers.paddlemodel.source import wanted
from controllers.reasons import Reason
from controllers.resolver import Outcome, Rejected, Resolved

OPTIONS = Options(runtime_image="runtime:1", endpoint_policy=EndpointPolicy())
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def model(
    *,
    spec: dict[str, object] | None = None,
    status: dict[str, object] | None = None,
    generation: int = 1,
    uid: str = "u-1",
) -> ctrl.Object:
    body = {"framework": "paddle", "version": "v1.0.0", "modelPath": "minio://models/lenet-v1"} | (spec or {})
    return ctrl.Object(
        {
            "apiVersion": PADDLE_MODEL.api_version,
            "kind": "PaddleModel",
            "metadata": {
                "name": "lenet",
                "namespace": "default",
                "uid": uid,
                "generation": generation,
                "resourceVersion": "5",
            },
            "spec": body,
            "status": status or {},
        },
        PADDLE_MODEL,
    )


def manifest(of: ctrl.Object, *, etag: str = "e1", path: str = "inference.json") -> Manifest:
    question = wanted(PaddleModelSpec.model_validate(of.spec), OPTIONS)
    files = [File(key=f"lenet-v1/{path}", path=path, size=10, etag=etag)]
    return Manifest.of(question.source, files)


def resolved(of: ctrl.Object, **files: str) -> Resolved:
    return Resolved(manifest(of, **files), 0.0)


def rejected(reason: Reason, message: str) -> Rejected:
    return Rejected(reason, message, 0.0, 2.0)


def observe(of: ctrl.Object, outcome: Outcome | None = None, service: ctrl.Object | None = None) -> Observed:
    spec = PaddleModelSpec.model_validate(of.spec)
    return Observed(model=of, spec=spec, wanted=wanted(spec, OPTIONS), outcome=outcome, service=service)


def service_from(
    body: dict[str, object], *, phase: str, owner: str = "u-1", message: str = "", observed: int = 1
) -> ctrl.Object:
    """The applied body as the API server and the PaddleService controller would have it."""
    raw = dict(body)
    metadata = dict(raw["metadata"])  # type: ignore[call-overload]
    raw["metadata"] = metadata | {"uid": "s-1", "generation": 1, "resourceVersion": "9"}
    if owner != "u-1":
        reference = {
            "apiVersion": "x/v1",
            "kind": "PaddleModel",
            "name": "lenet",
            "uid": owner,
            "controller": True,
        }
        raw["metadata"]["ownerReferences"] = [reference]  # type: ignore[index]
    raw["status"] = {
        "phase": phase,
        "observedGeneration": observed,
        "message": message,
        "url": "http://lenet.default.svc",
        "updatedRevision": "abcd1234",
        "display": {"ready": "1/1", "canary": ""},
        "replicas": 1,
        "readyReplicas": 1,
        "models": [{"name": "lenet", "contentDigest": "sha256:ff"}],
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if phase == "Ready" else "False",
                "reason": "Serving" if phase == "Ready" else "CorruptModel",
                "message": message,
            },
            {"type": "Available", "status": "True", "reason": "Serving", "message": ""},
        ],
    }
    return ctrl.Object(raw, PADDLE_SERVICE)


def condition(status: dict[str, object], type_: str) -> dict[str, object] | None:
    listed = status["conditions"]
    assert isinstance(listed, list)
    return next((item for item in listed if item["type"] == type_), None)
