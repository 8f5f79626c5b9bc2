from __future__ import annotations

import pytest

from artifacts import ArtifactError, EndpointPolicy, Reason
from artifacts._policy import UNRESTRICTED, forbidden_kind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("10.0.0.1", ""),
        ("192.168.1.1", ""),
        ("172.16.0.1", ""),
        ("100.64.0.1", ""),
        ("8.8.8.8", ""),
        ("fd00::1", ""),
        ("2606:4700::1111", ""),
    ],
)
def test_kinds(address: str, kind: str) -> None:
    assert forbidden_kind(address) == kind
    policy = EndpointPolicy()
    if not kind:
        policy.check("name", 80, address)
        return
    with pytest.raises(ArtifactError, match=kind) as caught:
        policy.check("name", 80, address)
    assert caught.value.reason is Reason.ENDPOINT_FORBIDDEN
    assert "name" in caught.value.message
    UNRESTRICTED.check("name", 80, address)


@pytest.mark.parametrize(
    ("allow", "host", "port", "address", "passes"),
    [
        ("minio.local", "minio.local", 9000, "127.0.0.1", True),
        ("minio.local", "MINIO.local.", 9000, "127.0.0.1", True),
        ("minio.local:9000", "minio.local", 9000, "127.0.0.1", True),
        ("minio.local:9000", "minio.local", 9001, "127.0.0.1", False),
        ("other", "minio.local", 9000, "127.0.0.1", False),
        ("127.0.0.0/8", "x", 1, "127.3.0.1", True),
        ("127.0.0.1", "x", 1, "127.0.0.1", True),
        ("127.0.0.1:80", "x", 80, "127.0.0.1", True),
        ("127.0.0.1:80", "x", 81, "127.0.0.1", False),
        ("169.254.0.0/16", "x", 80, "::ffff:169.254.1.1", True),
        ("169.254.0.0/16", "x", 80, "127.0.0.1", False),
        ("[::1]:80", "[::1]", 80, "::1", True),
        ("[::1]:80", "[::1]", 81, "::1", False),
        ("::1", "x", 81, "::1", True),
    ],
)
def test_exceptions(allow: str, host: str, port: int, address: str, passes: bool) -> None:
    policy = EndpointPolicy(allow=("unrelated", allow))
    if passes:
        policy.check(host, port, address)
    else:
        with pytest.raises(ArtifactError):
            policy.check(host, port, address)


def test_loopback_alone_can_be_allowed() -> None:
    policy = EndpointPolicy(allow_loopback=True)
    policy.check("x", 1, "127.0.0.1")
    with pytest.raises(ArtifactError):
        policy.check("x", 1, "169.254.169.254")
