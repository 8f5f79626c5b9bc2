"""The cluster's certificates: one authority for it, one for the aggregation layer.

P-256, so all of it is made in milliseconds.

Keys live only under the node's folder (mode 0600) and go with it at `down`.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a certificate names: user and group as Kubernetes reads them, names that a server answers to."""

    common_name: str
    organization: str = ""
    hosts: Sequence[str] = ()


class Authority:
    """A certificate authority that writes ``<name>.crt`` and ``<name>.key`` into ``folder``."""

    __slots__ = ("_certificate", "_folder", "_key", "_now")

    def __init__(self, folder: Path, name: str, *, now: datetime.datetime) -> None:
        self._folder, self._now = folder, now
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(Subject(common_name=f"paddle-local-{name}"))
        self._certificate = (
            self._builder(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._write(name, self._certificate, self._key)

    def issue(self, name: str, subject: Subject) -> None:
        """Write a certificate for both client and server use, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name(subject), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
        )
        if subject.hosts:
            names = x509.SubjectAlternativeName([_alternative(host) for host in subject.hosts])
            builder = builder.add_extension(names, critical=False)
        self._write(name, builder.sign(self._key, hashes.SHA256()), key)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(
                self._now - datetime.timedelta(hours=1)
            )  # a clock that is set back is no outage
            .not_valid_after(self._now + LIFETIME)
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (self._folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_private(self._folder / f"{name}.key", key)


def write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key that only its owner can read, from the first byte on."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)


def create(folder: Path, *, node: str, node_ip: str, service_ip: str, now: datetime.datetime) -> None:
    """Write every key and certificate of a cluster into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    cluster = Authority(folder, "ca", now=now)
    api_names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    api_names += ["kubernetes.default.svc.cluster.local", "127.0.0.1", node_ip, service_ip]
    masters = "system:masters"
    subjects = {
        "apiserver": Subject(common_name="kube-apiserver", hosts=api_names),
        "etcd": Subject(common_name="etcd", hosts=["localhost", "127.0.0.1"]),
        "apiserver-client": Subject(common_name="kube-apiserver-client", organization=masters),
        "admin": Subject(common_name="admin", organization=masters),
        "controller-manager": Subject(common_name="system:kube-controller-manager"),
        "scheduler": Subject(common_name="system:kube-scheduler"),
        "proxy": Subject(common_name="system:kube-proxy"),
        "kubelet": Subject(
            common_name=f"system:node:{node}", organization="system:nodes", hosts=[node, node_ip, "127.0.0.1"]
        ),
    }
    for name, subject in subjects.items():
        cluster.issue(name, subject)
    Authority(folder, "front-proxy-ca", now=now).issue(
        "front-proxy", Subject(common_name="front-proxy-client")
    )
    service_accounts = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "sa.key", service_accounts)
    public = service_accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "sa.pub").write_bytes(public)


def _name(subject: Subject) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    return x509.Name(parts)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
