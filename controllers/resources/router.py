"""The routers of a namespace: one Deployment of Envoy for all services there. Pure."""

import base64
import hashlib
from typing import Final

import controller_runtime as ctrl

from ..kinds import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_ROLE, PORT_GRPC, PORT_HTTP, ROLE_SERVER
from .meta import LABEL_NAME, Rendered, rendered
from .wire import JSON

NAME: Final = "paddle-router"
SNAPSHOT: Final = "paddle-router-snapshot"
ROLE_ROUTER: Final = "router"
#: Files in the pod.
CONFIG_FOLDER: Final = "/etc/paddle-router"
SNAPSHOT_FOLDER: Final = "/etc/paddle-router-snapshot"
TOKEN_FOLDER: Final = "/var/run/secrets/paddle-router"
RUN_FOLDER: Final = "/run/paddle-router"
FALLBACK_FILE: Final = "fallback.json.gz"
TOKEN_SECONDS: Final = 3600
#: Seconds: from the end of a pod's place in the Service to its last answer.
GRACE: Final = 60
REPLICAS: Final = 2
USER: Final = 1001

_LABELS: Final = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_NAME: NAME, LABEL_ROLE: ROLE_ROUTER}


def selector() -> dict[str, str]:
    """What chooses the routers of a namespace."""
    return dict(_LABELS)


def _metadata(namespace: str, name: str) -> JSON:
    return {"name": name, "namespace": namespace, "labels": dict(_LABELS)}


def config_map(namespace: str, files: dict[str, str]) -> Rendered:
    """What routers start with."""
    return rendered(ctrl.CONFIG_MAP, _metadata(namespace, NAME), data=files)


def snapshot(namespace: str, packed: bytes) -> Rendered:
    """The last configuration that every router confirmed, for one that starts while nobody leads."""
    body = {FALLBACK_FILE: base64.b64encode(packed).decode()}
    return rendered(ctrl.CONFIG_MAP, _metadata(namespace, SNAPSHOT), binaryData=body)


def disruption_budget(namespace: str) -> Rendered:
    spec: JSON = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector()},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return rendered(ctrl.PDB, _metadata(namespace, NAME), spec=spec)


def network_policy(
    namespace: str, *, ports: tuple[int, int], status_port: int, operator: str, ads_port: int
) -> Rendered:
    """In: the listeners from anywhere, the status port from pods of the cluster. Out: names, the serving pods
    of the namespace, and ADS in namespace `operator`.
    """
    dns: JSON = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    pods: JSON = {
        "to": [{"podSelector": {"matchLabels": {LABEL_ROLE: ROLE_SERVER}}}],
        "ports": [{"protocol": "TCP", "port": PORT_HTTP}, {"protocol": "TCP", "port": PORT_GRPC}],
    }
    leader: JSON = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator}}}],
        "ports": [{"protocol": "TCP", "port": ads_port}],
    }
    spec: JSON = {
        "podSelector": {"matchLabels": selector()},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"protocol": "TCP", "port": ports[0], "endPort": ports[1]}]},
            {"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": status_port}]},
        ],
        "egress": [pods, leader, dns],
    }
    return rendered(ctrl.NETWORK_POLICY, _metadata(namespace, NAME), spec=spec)


def deployment(
    namespace: str, *, image: str, pull_policy: str, files: dict[str, str], audience: str, status_port: int
) -> Rendered:
    """Two routers, apart where that is possible, replaced one by one when what they start with changes."""
    told = hashlib.sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()
    annotations = {
        "paddle-router/config": told[:16],
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(status_port),
        "prometheus.io/path": "/stats/prometheus",
    }
    template: JSON = {
        "metadata": {"labels": selector(), "annotations": annotations},
        "spec": _pod(image, pull_policy, audience, status_port),
    }
    spec: JSON = {
        "replicas": REPLICAS,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 300,
        "selector": {"matchLabels": selector()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    return rendered(ctrl.DEPLOYMENT, _metadata(namespace, NAME), spec=spec)


def _pod(image: str, pull_policy: str, audience: str, status_port: int) -> JSON:
    token: JSON = {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    return {
        # No right of any account is used: the token is good for nothing but to be known by the operator.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector()},
            }
        ],
        "containers": [_container(image, pull_policy, status_port)],
        "volumes": [
            {"name": "config", "configMap": {"name": NAME}},
            {"name": "snapshot", "configMap": {"name": SNAPSHOT, "optional": True}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
            {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ],
    }


def _container(image: str, pull_policy: str, status_port: int) -> JSON:
    ready: JSON = {"path": "/ready", "port": "status"}
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    return {
        "name": "router",
        "image": image,
        "imagePullPolicy": pull_policy,
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
        ],
        "ports": [{"name": "status", "containerPort": status_port, "protocol": "TCP"}],
        # It is not up before it has its configuration, which is as long as nobody leads and none was kept.
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": 3600},
        # Patient: on a node that has no time left all routers are slow, and none of them would be worse.
        "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {
            "tcpSocket": {"port": "status"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "2", "memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "snapshot", "mountPath": SNAPSHOT_FOLDER, "readOnly": True},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "run", "mountPath": RUN_FOLDER},
        ],
    }
