"""Services, the PodDisruptionBudget and the NetworkPolicy of a PaddleService. Pure."""

import controller_runtime as ctrl

from ..kinds import PORT_ADMIN, PORT_GRPC, PORT_HTTP
from ..traffic import Backend, flip
from .meta import Owner, Rendered, child_name, metadata, rendered, selector
from .wire import JSON


def service_ports() -> list[JSON]:
    """Port 80 for people, 8080 for those who copy the pod's port, 9000 for gRPC. The admin port stays
    inside.
    """
    return [
        {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
        {
            "name": "http-pod",
            "port": PORT_HTTP,
            "targetPort": "http",
            "protocol": "TCP",
            "appProtocol": "http",
        },
        {
            "name": "grpc",
            "port": PORT_GRPC,
            "targetPort": "grpc",
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c",
        },
    ]


def main_service(owner: Owner, backend: Backend | None = None) -> Rendered:
    """Service <name>: every ready pod of every revision, or the routers that `backend` names."""
    chosen = selector(owner.name) if backend is None else dict(backend.selector)
    spec: JSON = {"type": "ClusterIP", "selector": chosen, "ports": flip.ports(service_ports(), backend)}
    return rendered(ctrl.SERVICE, metadata(owner, owner.name), spec=spec)


def revision_service(owner: Owner, revision: str) -> Rendered:
    """Service <name>-<revision>: the pods of one revision, whoever gets traffic. Its selector stays."""
    name = child_name(owner.name, revision)
    spec: JSON = {"type": "ClusterIP", "selector": selector(owner.name, revision), "ports": service_ports()}
    return rendered(ctrl.SERVICE, metadata(owner, name, revision=revision), spec=spec)


def alias_service(owner: Owner, name: str) -> Rendered:
    """The Service by which a user's route names a side. It selects all pods until a run turns it."""
    spec: JSON = {"type": "ClusterIP", "selector": selector(owner.name), "ports": service_ports()}
    return rendered(ctrl.SERVICE, metadata(owner, name), spec=spec)


def disruption_budget(owner: Owner) -> Rendered:
    """One pod may be evicted at a time; one that is not ready may go at any time, or a broken revision would
    block the drain of its node for ever.
    """
    spec: JSON = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(owner.name)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return rendered(ctrl.PDB, metadata(owner, owner.name), spec=spec)


def network_policy(owner: Owner) -> Rendered:
    """In: requests from anywhere, the admin port from pods of the cluster only (operator and Prometheus).

    Out: anywhere but link-local addresses, where clouds keep their metadata and credentials; DNS also there,
    because node-local DNS caches live on them.
    """
    everywhere: JSON = {
        "to": [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
            {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
        ]
    }
    dns: JSON = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    spec: JSON = {
        "podSelector": {"matchLabels": selector(owner.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"protocol": "TCP", "port": PORT_HTTP}, {"protocol": "TCP", "port": PORT_GRPC}]},
            {
                "from": [{"namespaceSelector": {}}],
                "ports": [{"protocol": "TCP", "port": PORT_ADMIN}],
            },
        ],
        "egress": [everywhere, dns],
    }
    return rendered(ctrl.NETWORK_POLICY, metadata(owner, owner.name), spec=spec)
