"""The names of our images.

`localhost/` keeps every container engine from looking for them in a registry. Each image has two tags:
`dev`, which moves with every build, and `dev-<12 hex digits>`, which names one content for good; manifests
that must notice a new build (the operator's Deployment) use the second, see `hack.images.state.pinned`.
"""

REGISTRY = "localhost"
TAG = "dev"

BASE = f"{REGISTRY}/paddle-base"  # tagged with the hash of its inputs
OPERATOR = f"{REGISTRY}/paddle-operator:{TAG}"
RUNTIME = f"{REGISTRY}/paddle-runtime:{TAG}"
SEAWEEDFS = f"{REGISTRY}/seaweedfs:{TAG}"
PROMETHEUS = f"{REGISTRY}/prometheus:{TAG}"
ROUTER = f"{REGISTRY}/paddle-router:{TAG}"

ALL = (OPERATOR, RUNTIME, SEAWEEDFS, PROMETHEUS, ROUTER)


def repository(image: str) -> str:
    """`localhost/paddle-runtime:dev` -> `localhost/paddle-runtime`."""
    return image.rpartition(":")[0]
