"""The pod template of a revision. Pure.

Every pod passes the Pod Security level "restricted", its init container too. `pull` brings the files and
leaves; `server` serves them. Both get the same image, so a node pulls one image, once.

A `pvc://` model is read in place: its claim is mounted read-only. A `file://` model is a path inside the
runtime image: host folders are never mounted, because no restricted namespace would let such a pod in.
"""

from collections.abc import Mapping

from artifacts import PVC_MOUNT

from ..kinds import (
    ANNOTATION_RELEASE,
    CONTAINER_PULL,
    CONTAINER_SERVER,
    LABEL_MANAGED_BY,
    PORT_ADMIN,
    PORT_GRPC,
    PORT_HTTP,
)
from . import quantity
from .config import CONFIG_FILE, CONFIG_FOLDER, ca_path, credentials_env
from .desired import Desired
from .meta import Owner, child_name, labels, selector
from .wire import JSON, integer, mapping, maps, plain, text

#: Seconds between SIGTERM and SIGKILL: connections are drained in this time.
GRACE_PERIOD = 60
USER = 1001
#: Below CONFIG_FOLDER, in pods that change their models in place.
RELEASE_FILE = "release"

_REQUESTS: Mapping[str, str] = {"cpu": "250m", "memory": "512Mi"}
_LIMITS: Mapping[str, str] = {"cpu": "2", "memory": "2Gi"}

_RESTRICTED: JSON = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def resources(desired: Desired) -> JSON:
    """Requests and limits: the user's, completed by defaults that never contradict them."""
    limits = dict(mapping(desired.resources.get("limits")))
    requests = dict(mapping(desired.resources.get("requests")))
    for name, default in _LIMITS.items():
        if name not in limits:
            limits[name] = _larger(default, requests.get(name))
    for name, default in _REQUESTS.items():
        if name not in requests:
            requests[name] = _smaller(default, limits[name])
    if desired.gpu:
        resource = text(desired.gpu.get("resourceName")) or "nvidia.com/gpu"
        count = str(integer(desired.gpu.get("count"), 1))
        limits[resource] = requests[resource] = count
    return {"requests": requests, "limits": limits}


def _larger(default: str, other: object) -> object:
    wanted, least = quantity.parse(other), quantity.parse(default)
    return other if wanted is not None and least is not None and wanted > least else default


def _smaller(default: str, other: object) -> object:
    most, wanted = quantity.parse(other), quantity.parse(default)
    return other if most is not None and wanted is not None and most < wanted else default


def _pull_resources(server: JSON) -> JSON:
    """A pull needs no device; the rest may be what the server has, because they never run together."""
    return {
        side: {name: value for name, value in mapping(amounts).items() if "/" not in name}
        for side, amounts in server.items()
    }


def _environment(owner: Owner, desired: Desired, revision: str) -> list[JSON]:
    def from_field(name: str, path: str) -> JSON:
        return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}

    # Below it, each version of the model has a folder of its own, named by its digest.
    folders: list[JSON] = [
        {"name": f"PADDLE_MODEL_{index}_DIR", "value": f"/models/{model.uid}"}
        for index, model in enumerate(desired.models)
    ]
    return [
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        from_field("POD_IP", "status.podIP"),
        {"name": "PADDLE_SERVICE", "value": owner.name},
        {"name": "PADDLE_REVISION", "value": revision},
        {"name": "HOME", "value": "/tmp"},
        *folders,
    ]


def _credentials(desired: Desired) -> list[JSON]:
    """Each model's Secret as MODEL_<i>_<key>, by reference: the operator never copies a value."""
    return [
        {"prefix": f"{credentials_env(index)}_", "secretRef": {"name": model.secret}}
        for index, model in enumerate(desired.models)
        if model.secret
    ]


def _claims(desired: Desired) -> list[str]:
    named = [
        text(model.source.get("claim")) or text(model.source.get("bucket"))
        for model in desired.models
        if model.source.get("scheme") == "pvc"
    ]
    return list(dict.fromkeys(claim for claim in named if claim))


def _volumes(owner: Owner, desired: Desired, revision: str) -> list[JSON]:
    config: JSON = {"name": child_name(owner.name, revision)}
    sources: list[JSON] = [{"configMap": config}]
    if desired.in_place:  # all releases, and the word which of them
        field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{ANNOTATION_RELEASE}']"}
        sources.append({"downwardAPI": {"items": [{"path": RELEASE_FILE, "fieldRef": field}]}})
    else:
        config["items"] = [{"key": CONFIG_FILE, "path": CONFIG_FILE}]
    for index, model in enumerate(desired.models):
        if model.ca_secret:
            items = [{"key": model.ca_key, "path": ca_path(index)}]
            sources.append({"secret": {"name": model.ca_secret, "items": items}})
    volumes: list[JSON] = [
        {"name": "config", "projected": {"sources": sources, "defaultMode": 0o444}},
        {"name": "models", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    for number, claim in enumerate(_claims(desired)):
        volumes.append(
            {
                "name": f"claim-{number}",
                "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
            }
        )
    return volumes


def _mounts(desired: Desired, *, models_read_only: bool) -> list[JSON]:
    models: JSON = {"name": "models", "mountPath": "/models"}
    if models_read_only:
        models["readOnly"] = True
    mounts: list[JSON] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        models,
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    for number, claim in enumerate(_claims(desired)):
        mounts.append({"name": f"claim-{number}", "mountPath": f"{PVC_MOUNT}/{claim}", "readOnly": True})
    return mounts


def _probe(path: str, *, period: int, failures: int, timeout: int = 2) -> JSON:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _probes() -> JSON:
    """/livez answers as soon as the loop runs, so starting is short even if loading is long; /healthz is
    asked every second, because a pod that is ready and not known to be is a pod that waits.
    """
    return {
        "startupProbe": _probe("/livez", period=1, failures=120),
        "readinessProbe": _probe("/healthz", period=1, failures=3),
        "livenessProbe": _probe("/livez", period=10, failures=3, timeout=5),
    }


def _container(name: str, image: str, policy: str, command: list[str], environment: list[JSON]) -> JSON:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": policy,
        "command": command,
        "env": environment,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError" if name == CONTAINER_SERVER else "File",
        "securityContext": plain(_RESTRICTED),
    }


def _spread(owner: Owner, desired: Desired, revision: str) -> list[object]:
    """The user's constraints; else over nodes as far as possible. Without a selector: the revision's pods."""
    own: JSON = {"matchLabels": selector(owner.name, revision)}
    wanted = list(maps(desired.pod.get("topologySpreadConstraints")))
    if not wanted:
        return [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": own,
            }
        ]
    return [
        plain(dict(item) if item.get("labelSelector") else {**item, "labelSelector": own}) for item in wanted
    ]


def pod_template(owner: Owner, desired: Desired, revision: str, *, image: str, pull_policy: str) -> JSON:
    """The template of Deployment <service>-<revision>."""
    config = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
    environment = _environment(owner, desired, revision)
    taken = {item["name"] for item in environment}
    own_env = [plain(item) for item in maps(desired.pod.get("env")) if item.get("name") not in taken]
    amounts = resources(desired)
    credentials = _credentials(desired)

    pull = _container(
        CONTAINER_PULL,
        image,
        pull_policy,
        ["python", "-P", "-m", "artifacts", "pull", "--config", config, "--dest", "/models",
         "--progress-port", str(PORT_ADMIN)],
        environment,
    )  # fmt: skip
    pull |= {
        "resources": _pull_resources(amounts),
        "volumeMounts": _mounts(desired, models_read_only=False),
    }
    server = _container(
        CONTAINER_SERVER,
        image,
        pull_policy,
        [
            "python",
            "-P",
            "-m",
            "runtime",
            "serve",
            "--config",
            config,
            "--grace",
            str(GRACE_PERIOD),
            *(["--release-file", f"{CONFIG_FOLDER}/{RELEASE_FILE}"] if desired.in_place else []),
        ],
        [*environment, *own_env],  # type: ignore[list-item]
    )
    server |= {
        "ports": [
            {"name": "http", "containerPort": PORT_HTTP, "protocol": "TCP"},
            {"name": "grpc", "containerPort": PORT_GRPC, "protocol": "TCP"},
            {"name": "admin", "containerPort": PORT_ADMIN, "protocol": "TCP"},
        ],
        "resources": amounts,
        # The server reloads models in place (it pulls, too), so its model folder can be written.
        "volumeMounts": _mounts(desired, models_read_only=False),
    } | _probes()
    if credentials:
        pull["envFrom"] = credentials
        server["envFrom"] = credentials

    return {
        "metadata": _metadata(owner, desired, revision),
        "spec": _spec(owner, desired, revision, pull, server),
    }


def _metadata(owner: Owner, desired: Desired, revision: str) -> JSON:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT_ADMIN),
        "prometheus.io/path": "/metrics",
    }
    own = {
        str(key): value
        for key, value in mapping(desired.pod.get("labels")).items()
        if key != LABEL_MANAGED_BY
    }
    return {
        "labels": own | labels(owner.name, revision),
        "annotations": annotations | dict(mapping(desired.pod.get("annotations"))),
    }


def _spec(owner: Owner, desired: Desired, revision: str, pull: JSON, server: JSON) -> JSON:
    spec: JSON = {
        "initContainers": [pull],
        "containers": [server],
        "volumes": _volumes(owner, desired, revision),
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": _spread(owner, desired, revision),
    }
    for name in ("nodeSelector", "tolerations", "affinity", "serviceAccountName", "imagePullSecrets",
                 "priorityClassName", "runtimeClassName"):  # fmt: skip
        if desired.pod.get(name):
            spec[name] = plain(desired.pod[name])
    return spec
