"""Renders the configuration of every component: pure functions of a `Plan`, so that tests can read them.

Why each odd setting is there stands beside it; the rest is what a small, quick, single-node cluster wants.
"""

from __future__ import annotations

import ipaddress
import json
import string
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from hack.cluster import paths

SERVICE_NETWORK = ipaddress.ip_network("10.96.0.0/16")
SERVICE_IP = str(SERVICE_NETWORK[1])
DNS_IP = str(SERVICE_NETWORK[10])
# Tried in this order: the first that no route of the host overlaps.
POD_NETWORKS = ("10.244.0.0/24", "10.245.17.0/24", "172.29.244.0/24", "192.168.244.0/24")
PORTS: Mapping[str, int] = {
    "apiserver": 26443,
    "etcd": 26379,
    "etcd-peer": 26380,
    "controller-manager": 26257,
    "scheduler": 26259,
    "kubelet": 26250,
    "kubelet-health": 26248,
    "proxy-health": 26256,
    "proxy-metrics": 26249,
}
COREDNS_IMAGE = "docker.io/library/paddle-coredns:1.14.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one cluster is made with: decided at its first `up`, kept in its folder."""

    ports: Mapping[str, int]
    pod_network: str
    mtu: int = 1500
    cni_plugins: str = "/usr/lib/cni"
    measures_storage: bool = True
    """Whether the kubelet can tell the size of this host's root file system (not when that is an overlay)."""
    adjusts_oom_score: bool = True
    """Whether this host lets us lower an OOM score (CAP_SYS_RESOURCE)."""

    @property
    def node_ip(self) -> str:
        """The bridge's address: reachable from pods and this host, from nowhere else."""
        return str(ipaddress.ip_network(self.pod_network)[1])

    @property
    def server(self) -> str:
        """The API server's URL for programs on this host."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"


def choose_ports(wanted: Mapping[str, int], *, busy: Container[int], free: Iterable[int]) -> dict[str, int]:
    """Each wanted port that is not ``busy``, else the next of ``free`` (ports known to be free)."""
    spare = (port for port in free if port not in wanted.values())
    return {name: next(spare) if port in busy else port for name, port in wanted.items()}


def choose_pod_network(routes: Iterable[str], candidates: Sequence[str] = POD_NETWORKS) -> str:
    """The first candidate that overlaps no route. Raises ValueError when all do."""
    taken = [ipaddress.ip_network(route) for route in routes]
    for candidate in candidates:
        network = ipaddress.ip_network(candidate)
        if not any(network.overlaps(route) for route in taken):
            return candidate
    raise ValueError(f"every pod network of {', '.join(candidates)} overlaps a route of this host")


def containerd_config(plan: Plan) -> str:
    """containerd's TOML (format 2, read by 1.6 up to 2.x)."""
    restrict = str(not plan.adjusts_oom_score).lower()
    return f"""\
version = 2
root = "{paths.CONTAINERD_ROOT}"
state = "{paths.RUN}/containerd"
oom_score = 0
# Only what a node needs; the rest would probe the host.
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{paths.CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{paths.TOOL_IMAGE}"
  # Without CAP_SYS_RESOURCE no score can be lowered, and every sandbox would fail.
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        # crun fails on a hybrid of cgroup v1 and v2.
        BinaryName = "runc"
        Root = "{paths.RUN}/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plan.cni_plugins}"
    conf_dir = "{paths.NODE}/cni"
"""


def cni_config(plan: Plan) -> dict[str, object]:
    """The pod network: a bridge of our own name, host-local addresses, host ports."""
    return {
        "cniVersion": "1.0.0",
        "name": paths.CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": paths.BRIDGE,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "mtu": plan.mtu,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(paths.NODE / "ipam"),
                    "ranges": [[{"subnet": plan.pod_network, "gateway": plan.node_ip}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(plan: Plan) -> dict[str, object]:
    """The KubeletConfiguration."""
    pki = paths.NODE / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.node_ip,
        "port": plan.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": plan.ports["kubelet-health"],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(paths.NODE / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{paths.CONTAINERD_SOCKET}",
        "podLogsDir": str(paths.LOG / "pods"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{paths.CGROUP}",
        "failSwapOn": False,
        "failCgroupV1": False,  # refused by default since 1.35
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": plan.measures_storage,
        "oomScoreAdj": 0,
        # A developer's disk may be nearly full, and images of ours cannot be pulled again.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "maxPods": 110,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 0,
        "registryPullQPS": 0,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 40,
        "logging": {"verbosity": 1},
    }


def proxy_config(plan: Plan, *, kubeconfig: Path) -> dict[str, object]:
    """The KubeProxyConfiguration. Node ports answer on this host alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 100, "burst": 200},
        "clusterCIDR": plan.pod_network,
        "hostnameOverride": paths.NODE_NAME,
        "healthzBindAddress": f"127.0.0.1:{plan.ports['proxy-health']}",
        "metricsBindAddress": f"127.0.0.1:{plan.ports['proxy-metrics']}",
        "nodePortAddresses": ["127.0.0.0/8", plan.pod_network],
        "oomScoreAdj": 0,
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
        # Zero leaves the host's conntrack settings alone (they cannot be written everywhere).
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def scheduler_config(*, kubeconfig: Path) -> dict[str, object]:
    """The KubeSchedulerConfiguration."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 200, "burst": 400},
    }


def kubeconfig(plan: Plan, *, user: str, data: Mapping[str, str]) -> dict[str, object]:
    """A kubeconfig with everything inlined: ``data`` holds base64 of ca, certificate and key."""
    name = "paddle-local"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": plan.server, "certificate-authority-data": data["ca"]}}
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": data["certificate"], "client-key-data": data["key"]},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }


def nameservers(resolv_conf: str) -> str:
    """A resolv.conf for pods: the host's without loopback resolvers, which mean something else in a pod."""
    kept = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "nameserver" and not words[1].startswith(("127.", "::1")):
            kept.append(f"nameserver {words[1]}\n")
    return "".join(kept)


def corefile(*, forward: bool) -> str:
    """CoreDNS's configuration; without an upstream there is nothing to forward to."""
    upstream = "    forward . /etc/resolv.conf\n" if forward else ""
    return (
        ".:1053 {\n    errors\n    health :8080 {\n        lameduck 2s\n    }\n    ready :8181\n"
        "    kubernetes cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n"
        "        fallthrough in-addr.arpa ip6.arpa\n        ttl 5\n    }\n"
        f"    prometheus :9153\n{upstream}    cache 5\n    loop\n    reload\n}}\n"
    )


def coredns_manifest(*, forward: bool) -> str:
    """CoreDNS's objects as YAML."""
    template = (Path(__file__).parent / "coredns.yaml").read_text()
    # JSON is YAML: it carries the Corefile's line breaks in one line.
    values = {"image": COREDNS_IMAGE, "address": DNS_IP, "corefile": json.dumps(corefile(forward=forward))}
    return string.Template(template).substitute(values)


def dump(document: Mapping[str, object]) -> str:
    """YAML in the order written."""
    return yaml.safe_dump(dict(document), sort_keys=False)
