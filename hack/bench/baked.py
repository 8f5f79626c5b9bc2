"""The peer: the same runtime image with the model baked in, in a Deployment as one would write it by hand."""

import tempfile
from pathlib import Path

from hack.deploy.kubectl import JSON
from hack.images import build, inputs, names, node
from hack.images.build import Built
from hack.images.buildah import Store

IMAGE = f"{names.REGISTRY}/paddle-runtime-baked:{names.TAG}"
DOCKERFILE = inputs.ROOT / "hack/images/addons/Dockerfile.baked"


def image(files: dict[str, bytes]) -> str:
    """Builds and loads the image (a second or two over the runtime image); returns its name."""
    store = Store()
    with store.locked(), tempfile.TemporaryDirectory(dir=store.temporary()) as folder:
        model = Path(folder) / "model"
        model.mkdir(mode=0o755)
        for name, content in files.items():
            (model / name).write_bytes(content)
        stages = {"runtime": names.RUNTIME}
        store.build(dockerfile=DOCKERFILE, context=Path(folder), tags=[IMAGE], target="baked", stages=stages)
    digest = store.publish(IMAGE)
    node.load(store, [Built(name=IMAGE, key="", digest=digest, size=build.size(store, digest))])
    return IMAGE


def manifests(namespace: str, name: str, image_name: str) -> list[JSON]:
    """Deployment and Service, with the requests, limits and probes that the operator gives its pods."""
    labels = {"app": name}
    metadata = {"name": name, "namespace": namespace}
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}
    container = {
        "name": "server",
        "image": image_name,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-P", "-m", "runtime", "serve", "--model", f"{name}=/opt/model"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": probe,
        "resources": {
            "requests": {"cpu": "250m", "memory": "768Mi"},
            "limits": {"cpu": "1", "memory": "2Gi"},
        },
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": 1001, "runAsGroup": 1001, "runAsNonRoot": True},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]
