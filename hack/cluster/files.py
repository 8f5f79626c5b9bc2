"""Decides a cluster's plan and writes everything its components read."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from hack.cluster import config, host, packages, paths, pki
from hack.cluster.config import Plan
from hack.cluster.console import ClusterError

PLAN = paths.NODE / "plan.json"
CAP_SYS_RESOURCE = 24
_USERS = ("controller-manager", "scheduler", "kubelet", "proxy")


def load_plan() -> Plan | None:
    """The plan of the cluster in this checkout; None when there is none, or it is unreadable."""
    try:
        return Plan(**json.loads(PLAN.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def make_plan() -> Plan:
    """A plan that fits this host: free ports, a pod network without a rival."""
    busy = {port for port in config.PORTS.values() if not port_is_free(port)}
    try:
        network = config.choose_pod_network(host.routes())
    except ValueError as error:
        raise ClusterError(f"{error}: remove one of those routes") from error
    return Plan(
        ports=config.choose_ports(config.PORTS, busy=busy, free=_free_ports()),
        pod_network=network,
        mtu=host.default_mtu(),
        cni_plugins=packages.cni_folder(),
        measures_storage=root_type(Path("/proc/mounts").read_text()) not in ("overlay", "rootfs", "tmpfs"),
        adjusts_oom_score=has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE),
    )


def root_type(mounts: str) -> str:
    """The file system type of ``/`` in /proc/mounts: of its last mount, which is the one seen."""
    types = [line.split()[2] for line in mounts.splitlines() if line.split()[1] == "/"]
    return types[-1] if types else ""


def has_capability(status: str, number: int) -> bool:
    """Whether /proc/<pid>/status lists an effective capability."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port on every address."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _free_ports() -> Iterator[int]:
    given: set[int] = set()
    while True:
        with socket.socket() as sock:
            sock.bind(("0.0.0.0", 0))
            port: int = sock.getsockname()[1]
        if port not in given:
            given.add(port)
            yield port


def write(plan: Plan, *, now: datetime.datetime) -> None:
    """Write plan, certificates (only when there are none yet) and configuration files."""
    paths.NODE.mkdir(parents=True, exist_ok=True)
    (paths.NODE / "cni").mkdir(exist_ok=True)
    keys = paths.NODE / "pki"
    if not (keys / "complete").exists():
        pki.create(keys, node=paths.NODE_NAME, node_ip=plan.node_ip, service_ip=config.SERVICE_IP, now=now)
        (keys / "complete").touch()
    for user in _USERS:
        _write_kubeconfig(paths.NODE / f"{user}.kubeconfig", plan, user)
    _write_kubeconfig(paths.KUBECONFIG, plan, "admin")
    texts = {
        "containerd.toml": config.containerd_config(plan),
        "cni/10-paddle-local.conflist": json.dumps(config.cni_config(plan), indent=1),
        "kubelet.yaml": config.dump(config.kubelet_config(plan)),
        "proxy.yaml": config.dump(config.proxy_config(plan, kubeconfig=paths.NODE / "proxy.kubeconfig")),
        "scheduler.yaml": config.dump(
            config.scheduler_config(kubeconfig=paths.NODE / "scheduler.kubeconfig")
        ),
        "resolv.conf": config.nameservers(_host_resolvers()),
    }
    texts["coredns.yaml"] = config.coredns_manifest(forward=bool(texts["resolv.conf"]))
    for name, text in texts.items():
        (paths.NODE / name).write_text(text)
    PLAN.write_text(json.dumps(asdict(plan), indent=1))


def _host_resolvers() -> str:
    """The host's resolver settings; systemd-resolved keeps the real ones beside its stub."""
    for name in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        try:
            return Path(name).read_text()
        except OSError:
            continue
    return ""


def _write_kubeconfig(path: Path, plan: Plan, certificate: str) -> None:
    keys = paths.NODE / "pki"

    def encoded(name: str) -> str:
        return base64.b64encode((keys / name).read_bytes()).decode()

    data = {
        "ca": encoded("ca.crt"),
        "certificate": encoded(f"{certificate}.crt"),
        "key": encoded(f"{certificate}.key"),
    }
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(config.dump(config.kubeconfig(plan, user=certificate, data=data)))
    temporary.rename(path)


def prefix_length(plan: Plan) -> int:
    """The pod network's prefix length."""
    return ipaddress.ip_network(plan.pod_network).prefixlen
