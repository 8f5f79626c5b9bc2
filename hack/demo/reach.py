"""How a program on this host gets to what runs in the cluster."""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator

from hack.deploy.kubectl import Kubectl, KubectlError, fields, number, text


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def cluster_ip(kubectl: Kubectl, namespace: str, service: str, port: str) -> str:
    """`host:port` of a Service, or empty where this host has no route to it (kind, a cluster elsewhere)."""
    found = kubectl.get("service", service, "-n", namespace)
    address = text(found, "spec", "clusterIP")
    for entry in fields(found, "spec", "ports"):
        if text(entry, "name") == port and _answers(address, number(entry, "port")):
            return f"{address}:{number(entry, 'port')}"
    return ""


@contextlib.contextmanager
def _forwarding(kubectl: Kubectl, pattern: str, *arguments: str) -> Iterator[str]:
    """Runs a kubectl that forwards, for as long as the block lasts; gives the local port."""
    with subprocess.Popen(
        kubectl.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            deadline = time.monotonic() + 20.0
            line = ""
            while time.monotonic() < deadline and (line := process.stdout.readline()):
                if match := re.search(pattern, line):
                    yield match.group(1)
                    return
            raise KubectlError(f"kubectl {arguments[0]} gave no local address: {line.strip()}")
        finally:
            process.terminate()


@contextlib.contextmanager
def store(kubectl: Kubectl, namespace: str = "object-store", service: str = "object-store") -> Iterator[str]:
    """`host:port` of the object store: its ClusterIP, else a port-forward."""
    if address := cluster_ip(kubectl, namespace, service, "s3"):
        yield address
        return
    forward = ["port-forward", "-n", namespace, f"service/{service}", "--address=127.0.0.1", ":8333"]
    with _forwarding(kubectl, r"127\.0\.0\.1:(\d+)", *forward) as port:
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def predictor(kubectl: Kubectl, namespace: str, service: str) -> Iterator[str]:
    """The base URL of a service: its ClusterIP, else through the API server (which chooses a ready pod anew
    for every request, as a port-forward would not).
    """
    if address := cluster_ip(kubectl, namespace, service, "http"):
        yield f"http://{address}"
        return
    with _forwarding(kubectl, r"127\.0\.0\.1:(\d+)", "proxy", "--port=0") as port:
        yield f"http://127.0.0.1:{port}/api/v1/namespaces/{namespace}/services/{service}:http/proxy"
