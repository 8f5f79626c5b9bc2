"""The command line of every component of the node. Pure."""

from __future__ import annotations

from hack.cluster import config, paths
from hack.cluster.config import Plan

LOOPBACK = "127.0.0.1"


def control_plane(plan: Plan) -> dict[str, list[str]]:
    """Name -> arguments of the control plane, in the order they are started."""
    return {
        "etcd": _etcd(plan),
        "kube-apiserver": _apiserver(plan),
        "kube-controller-manager": _controller_manager(plan),
        "kube-scheduler": _scheduler(plan),
    }


def node(plan: Plan) -> dict[str, list[str]]:
    """Name -> arguments of what runs beside containerd on the node."""
    return {
        "kubelet": _command(
            "kubelet",
            {
                "config": _file("kubelet.yaml"),
                "kubeconfig": _file("kubelet.kubeconfig"),
                "root-dir": "/var/lib/kubelet",  # a private mount of the node's own folder
                "hostname-override": paths.NODE_NAME,
                "node-ip": plan.node_ip,
                "node-labels": f"{paths.NODE_LABEL}=true",
            },
        ),
        "kube-proxy": _command("kube-proxy", {"config": _file("proxy.yaml")}),
    }


def _command(program: str, flags: dict[str, str]) -> list[str]:
    return [str(paths.BIN / program), *(f"--{name}={value}" for name, value in flags.items())]


def _file(name: str) -> str:
    return str(paths.NODE / name)


def _pki(name: str) -> str:
    return str(paths.NODE / "pki" / name)


def _etcd(plan: Plan) -> list[str]:
    client = f"https://{LOOPBACK}:{plan.ports['etcd']}"
    peer = f"https://{LOOPBACK}:{plan.ports['etcd-peer']}"
    flags = {
        "name": "local",
        "data-dir": _file("etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"local={peer}",
        "unsafe-no-fsync": "true",  # a throw-away cluster: speed over surviving a power cut
        "log-level": "warn",
    }
    for prefix in ("", "peer-"):
        flags |= {
            f"{prefix}cert-file": _pki("etcd.crt"),
            f"{prefix}key-file": _pki("etcd.key"),
            f"{prefix}trusted-ca-file": _pki("ca.crt"),
            f"{prefix}client-cert-auth": "true",
        }
    return _command("etcd", flags)


def _apiserver(plan: Plan) -> list[str]:
    flags = {
        "etcd-servers": f"https://{LOOPBACK}:{plan.ports['etcd']}",
        "etcd-cafile": _pki("ca.crt"),
        "etcd-certfile": _pki("apiserver-client.crt"),
        "etcd-keyfile": _pki("apiserver-client.key"),
        # Programs of this host use loopback, pods the bridge; a listener has one address, so it is all.
        "bind-address": "0.0.0.0",
        "advertise-address": plan.node_ip,
        "secure-port": str(plan.ports["apiserver"]),
        "service-cluster-ip-range": str(config.SERVICE_NETWORK),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "client-ca-file": _pki("ca.crt"),
        "tls-cert-file": _pki("apiserver.crt"),
        "tls-private-key-file": _pki("apiserver.key"),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": _pki("sa.pub"),
        "service-account-signing-key-file": _pki("sa.key"),
        # kubectl logs, exec and port-forward go through the kubelet; its name does not resolve.
        "kubelet-client-certificate": _pki("apiserver-client.crt"),
        "kubelet-client-key": _pki("apiserver-client.key"),
        "kubelet-certificate-authority": _pki("ca.crt"),
        "kubelet-preferred-address-types": "InternalIP",
        # The aggregation layer, which custom metrics need.
        "enable-aggregator-routing": "true",
        "proxy-client-cert-file": _pki("front-proxy.crt"),
        "proxy-client-key-file": _pki("front-proxy.key"),
        "requestheader-client-ca-file": _pki("front-proxy-ca.crt"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "shutdown-delay-duration": "0s",
        "profiling": "false",
    }
    return _command("kube-apiserver", flags)


def _controller_manager(plan: Plan) -> list[str]:
    own = _file("controller-manager.kubeconfig")
    flags = {
        "kubeconfig": own,
        "authentication-kubeconfig": own,
        "authorization-kubeconfig": own,
        "bind-address": LOOPBACK,
        "secure-port": str(plan.ports["controller-manager"]),
        "leader-elect": "false",
        "use-service-account-credentials": "true",
        "root-ca-file": _pki("ca.crt"),
        "service-account-private-key-file": _pki("sa.key"),
        "cluster-signing-cert-file": _pki("ca.crt"),
        "cluster-signing-key-file": _pki("ca.key"),
        "requestheader-client-ca-file": _pki("front-proxy-ca.crt"),
        "flex-volume-plugin-dir": _file("flex-volumes"),  # it makes the folder, by default outside our own
        "horizontal-pod-autoscaler-sync-period": "5s",
        "endpointslice-updates-batch-period": "0s",
        "kube-api-qps": "200",
        "kube-api-burst": "400",
        "profiling": "false",
    }
    return _command("kube-controller-manager", flags)


def _scheduler(plan: Plan) -> list[str]:
    own = _file("scheduler.kubeconfig")
    flags = {
        "config": _file("scheduler.yaml"),
        "authentication-kubeconfig": own,
        "authorization-kubeconfig": own,
        "bind-address": LOOPBACK,
        "secure-port": str(plan.ports["scheduler"]),
    }
    return _command("kube-scheduler", flags)
