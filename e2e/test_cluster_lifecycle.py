"""What `down` promises: after it the host is as it was before `up`, whatever happened in between.

Run by itself, as root, with no cluster up: `pytest e2e/test_cluster_lifecycle.py -m slow`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import kubectl
from hack.cluster import ClusterError, Console, files, host, node, paths, processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUIET = Console(quiet=True)
IN_PODS = {"nodetool", "coredns"}
# Folders in which a node's programs would leave something.
WATCHED = (
    "/run",
    "/run/netns",
    "/run/containerd",
    "/var/lib",
    "/var/lib/cni",
    "/var/log",
    "/usr/libexec",
    "/etc/cni",
)


def output(*command: str) -> list[str]:
    text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30.0).stdout
    # Counters and comments change by themselves.
    return sorted(re.sub(r"\[\d+:\d+\]", "", line) for line in text.splitlines() if not line.startswith("#"))


def snapshot() -> dict[str, list[str]]:
    """The host as others see it: processes of a node's programs, mounts, networks, rules, cgroups, files."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    running = []
    for folder in Path("/proc").glob("[0-9]*"):
        found = processes.identify(int(folder.name))
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_text()
            ours = (
                str(paths.NODE) in command or str(paths.RUN) in command
            )  # integration tests run an etcd too
            if found and (ours or found.program in IN_PODS):
                running.append(f"{found.program} {found.pid}")
    return {
        "processes": sorted(running),
        # Image builds that go on meanwhile mount their layers in the cache.
        "mounts": sorted(line for line in mounts if f"{paths.CACHE}/images/" not in line),
        "links": sorted(os.listdir("/sys/class/net")),
        "routes": output("ip", "route", "show", "table", "all"),
        "namespaces": output("ip", "netns", "list"),
        "iptables": output("iptables-save"),
        "ip6tables": output("ip6tables-save"),
        "nftables": output("nft", "list", "tables"),
        "sysctls": [
            f"{name}={(Path('/proc/sys') / name).read_text()}" for name in host.SYSCTLS if _exists(name)
        ],
        "cgroups": sorted(str(path) for path in host.CGROUPS.glob("*/*") if path.is_dir()),
        "files": sorted(
            f"{folder}/{name}" for folder in WATCHED if os.path.isdir(folder) for name in os.listdir(folder)
        ),
    }


def _exists(name: str) -> bool:
    return (Path("/proc/sys") / name).exists()


@pytest.fixture
def clean_host() -> Iterator[dict[str, list[str]]]:
    """A host without a cluster, and its snapshot; afterwards without one again, whatever the test did."""
    assert os.geteuid() == 0, "these tests need root"
    assert not host.owner(), "a cluster is up: take it down first (make cluster-down)"
    yield snapshot()
    node.down(console=QUIET)


def deploy() -> None:
    """Something of every sort: a pod, rules for a Service and a host port, a mounted Secret."""
    kubectl(paths.KUBECONFIG, ["create", "secret", "generic", "secret", "--from-literal=a=b"])
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": paths.TOOL_IMAGE,
                    "args": ["serve", "8080"],
                    "ports": [{"containerPort": 8080, "hostPort": 28080}],
                    "volumeMounts": [{"name": "secret", "mountPath": "/secret"}],
                }
            ],
            "volumes": [{"name": "secret", "secret": {"secretName": "secret"}}],
        },
    }
    kubectl(paths.KUBECONFIG, ["apply", "--filename=-"], stdin=json.dumps(pod))
    kubectl(paths.KUBECONFIG, ["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"])
    wait_for_pod()


def wait_for_pod() -> None:
    kubectl(paths.KUBECONFIG, ["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"], timeout=90.0)


def kill_hard(*names: str) -> None:
    for name, process in processes.load(node.RUNNING).items():
        if name in names:
            os.kill(process.pid, signal.SIGKILL)


def test_down_leaves_the_host_as_it_was(clean_host: dict[str, list[str]]) -> None:
    node.up(console=QUIET)
    deploy()
    during = snapshot()
    assert len(during["processes"]) > len(node.COMPONENTS)
    assert during["iptables"] != clean_host["iptables"]
    assert during["mounts"] == clean_host["mounts"]  # all of them are in a namespace of the node's own
    node.down(console=QUIET)
    assert snapshot() == clean_host
    assert not paths.NODE.exists()
    assert not paths.KUBECONFIG.exists()


def test_up_is_quick_and_changes_nothing_on_a_healthy_cluster(clean_host: dict[str, list[str]]) -> None:
    node.up(console=QUIET)
    before = processes.load(node.RUNNING)
    began = time.monotonic()
    node.up(console=QUIET)
    assert time.monotonic() - began < 5.0
    assert processes.load(node.RUNNING) == before


@pytest.mark.parametrize("victims", [node.COMPONENTS, ("containerd",), ("etcd",), ("kubelet", "kube-proxy")])
def test_a_cluster_killed_hard_comes_back_with_what_was_deployed(
    clean_host: dict[str, list[str]], victims: tuple[str, ...]
) -> None:
    node.up(console=QUIET)
    deploy()
    kill_hard(*victims)
    node.up(console=QUIET)
    wait_for_pod()
    node.down(console=QUIET)
    assert snapshot() == clean_host


def test_down_cleans_up_after_a_hard_kill(clean_host: dict[str, list[str]]) -> None:
    node.up(console=QUIET)
    deploy()
    kill_hard(*node.COMPONENTS)
    node.down(console=QUIET)
    assert snapshot() == clean_host


def test_a_foreign_kubelet_is_refused_and_nothing_is_touched(
    clean_host: dict[str, list[str]], tmp_path: Path
) -> None:
    kubelet = tmp_path / "kubelet"
    kubelet.write_bytes(Path("/bin/sleep").read_bytes())
    kubelet.chmod(0o755)
    with subprocess.Popen([str(kubelet), "60"]) as process:
        try:
            with pytest.raises(
                ClusterError, match=rf"a kubelet that is not ours runs on this host \(pid {process.pid}\)"
            ):
                node.up(console=QUIET)
        finally:
            process.kill()
    assert not host.owner()
    assert snapshot() == clean_host


def test_the_clusters_of_another_checkout_are_respected(
    clean_host: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node.up(console=QUIET)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(paths, "ROOT", tmp_path)
        for command in (node.up, node.down):
            elsewhere.setattr(files, "load_plan", lambda: None)
            with pytest.raises(ClusterError, match=r"a cluster of the checkout .* runs on this host"):
                command(console=QUIET)
    assert processes.load(node.RUNNING)["kubelet"].is_alive()
