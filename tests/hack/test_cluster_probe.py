"""Reading what a cluster answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hack.cluster import pki, probe


def answer(identity: int, *addresses: str, code: int = 0) -> bytes:
    question = b"\x01a\x01b\0" + struct.pack(">2H", 1, 1)
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address) for address in addresses
    )
    return struct.pack(">6H", identity, 0x8180 | code, 1, len(addresses), 0, 0) + question + records


def test_addresses_are_read() -> None:
    assert probe.parse_answer(answer(7, "10.96.0.1", "10.96.0.2"), identity=7) == ["10.96.0.1", "10.96.0.2"]


def test_an_answer_to_another_question_or_an_error_gives_nothing() -> None:
    assert probe.parse_answer(answer(8, "10.96.0.1"), identity=7) == []
    assert probe.parse_answer(answer(7, code=3), identity=7) == []


@given(packet=st.binary(max_size=64))
def test_no_packet_breaks_the_reader(packet: bytes) -> None:
    probe.parse_answer(packet, identity=0)


def test_a_silent_server_gives_nothing() -> None:
    assert probe.resolve("a.b", server="127.0.0.1", timeout=0.01) == []


def test_a_node_is_ready_only_by_a_new_report() -> None:
    reported = "2026-01-01T00:00:10Z"
    node = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": reported}]}}
    at = datetime.fromisoformat(reported).timestamp()
    assert probe.node_ready(node)
    assert probe.node_ready(node, since=at + 0.9)  # reports have whole seconds
    assert not probe.node_ready(node, since=at + 1)
    assert not probe.node_ready({})


def test_waiting_ends_with_the_condition_or_the_deadline() -> None:
    answers = iter([False, False, True])
    assert probe.wait(lambda: next(answers), timeout=10.0, every=0.0)
    assert not probe.wait(lambda: False, timeout=0.0, every=0.0)


def test_certificates_verify_and_keys_are_private(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    pki.create(tmp_path, node="n", node_ip="10.244.0.1", service_ip="10.96.0.1", now=now)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")
    server.load_verify_locations(tmp_path / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    for name in ("127.0.0.1", "10.96.0.1", "kubernetes.default.svc"):
        here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(here, there, server_hostname=name),
            server.wrap_bio(there, here, server_side=True),
        ]
        for _ in range(4):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        peer = ends[1].getpeercert()
        assert peer is not None
        assert (("organizationName", "system:masters"),) in peer["subject"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}
