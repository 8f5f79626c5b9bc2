"""Names, labels and metadata that every child of a PaddleService carries. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import controller_runtime as ctrl

from ..kinds import (
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_REVISION,
    LABEL_ROLE,
    LABEL_SERVICE,
    PADDLE_SERVICE,
    ROLE_SERVER,
)
from .wire import JSON

LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True, slots=True)
class Owner:
    """The PaddleService that children belong to."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> ctrl.Key:
        return ctrl.Key(self.namespace, self.name)

    def reference(self) -> JSON:
        return {
            "apiVersion": PADDLE_SERVICE.api_version,
            "kind": PADDLE_SERVICE.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An object to be on the server, with the kind whose path it lives under."""

    kind: ctrl.Kind
    body: JSON = field(hash=False)

    @property
    def key(self) -> ctrl.Key:
        metadata = self.body["metadata"]
        assert isinstance(metadata, dict)
        return ctrl.Key(str(metadata["namespace"]), str(metadata["name"]))


def child_name(service: str, revision: str) -> str:
    return f"{service}-{revision}"


def selector(service: str, revision: str = "") -> dict[str, str]:
    """The labels that choose the serving pods of a service, or of one of its revisions."""
    chosen = {LABEL_SERVICE: service, LABEL_ROLE: ROLE_SERVER}
    return chosen | {LABEL_REVISION: revision} if revision else chosen


def labels(service: str, revision: str = "") -> dict[str, str]:
    shared = {
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_NAME: "paddle-service",
        LABEL_INSTANCE: service,
    }
    return shared | selector(service, revision)


def metadata(
    owner: Owner, name: str, *, revision: str = "", annotations: Mapping[str, str] | None = None
) -> JSON:
    body: JSON = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner.name, revision),
        "ownerReferences": [owner.reference()],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return body


def rendered(kind: ctrl.Kind, meta: JSON, **parts: object) -> Rendered:
    body: JSON = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
    return Rendered(kind=kind, body=body | parts)
