"""Questions to a running cluster: is the API server ready, is the node, does a name resolve."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from hack.cluster import config, paths
from hack.cluster.config import Plan

JSON = Mapping[str, object]
Condition = Callable[[], bool]


def get(plan: Plan, path: str, *, timeout: float = 2.0) -> tuple[int, JSON]:
    """GET from the API server as administrator: status (0 when there is no answer) and the decoded body."""
    pki = paths.NODE / "pki"
    try:
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", plan.ports["apiserver"], timeout=timeout, context=context
        )
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
    except (OSError, http.client.HTTPException):
        return 0, {}
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    return answer.status, decoded if isinstance(decoded, dict) else {}


def api_ready(plan: Plan) -> bool:
    """Whether /readyz says yes."""
    return get(plan, "/readyz")[0] == 200


def kubelet_healthy(plan: Plan) -> bool:
    """Whether the kubelet's own health check says yes."""
    connection = http.client.HTTPConnection("127.0.0.1", plan.ports["kubelet-health"], timeout=2.0)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def node_ready(node: JSON, *, since: float = 0.0) -> bool:
    """Whether a Node says Ready in a report made at ``since`` (Unix seconds) or later.

    A node whose kubelet died stays Ready for a while: after a repair only a new report counts.
    """
    status = node.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for condition in conditions or []:
        if condition.get("type") == "Ready":
            reported = datetime.fromisoformat(str(condition.get("lastHeartbeatTime", "1970-01-01T00:00:00Z")))
            return condition.get("status") == "True" and reported.timestamp() >= int(since)
    return False


def resolve(name: str, *, server: str = config.DNS_IP, timeout: float = 0.5) -> list[str]:
    """The IPv4 addresses that the cluster's DNS gives; empty when it does not answer.

    From this host, so the answer proves kube-proxy, the pod network and CoreDNS at once.
    """
    identity = secrets.randbits(16)
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".")) + b"\0"
    packet = struct.pack(">6H", identity, 0x0100, 1, 0, 0, 0) + question + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.sendto(packet, (server, 53))
            return parse_answer(sock.recv(4096), identity=identity)
        except OSError:
            return []


def parse_answer(packet: bytes, *, identity: int) -> list[str]:
    """The A records of a DNS answer; empty for one to another question, an error or a broken one."""
    try:
        received, flags, questions, answers, _, _ = struct.unpack_from(">6H", packet)
        if received != identity or flags & 0x000F:
            return []
        offset = 12
        for _ in range(questions):
            offset = _skip_name(packet, offset) + 4
        found = []
        for _ in range(answers):
            offset = _skip_name(packet, offset)
            kind, _, _, length = struct.unpack_from(">HHIH", packet, offset)
            offset += 10
            if kind == 1 and length == 4:
                found.append(socket.inet_ntoa(packet[offset : offset + 4]))
            offset += length
    except (struct.error, IndexError, OSError):
        return []
    return found


def _skip_name(packet: bytes, offset: int) -> int:
    while True:
        length = packet[offset]
        if length >= 0xC0:
            return offset + 2
        if length == 0:
            return offset + 1
        offset += length + 1


def wait(condition: Condition, *, timeout: float, every: float = 0.1) -> bool:
    """Ask until the answer is yes; False after ``timeout`` seconds of no."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
