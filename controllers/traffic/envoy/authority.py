"""The certificate authority by which routers know the operator: made by itself, rotated by itself.

Two authorities may be there at once. Routers trust all of them; the newer one signs only when it has been
there for OVERLAP seconds, in which every router has been restarted with it among those it trusts. Pure but
for the keys' randomness; `now` is injected.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Seconds. An authority is replaced RENEW before it ends.
LIFETIME: Final = 10 * 365 * 86400.0
RENEW: Final = 365 * 86400.0
OVERLAP: Final = 86400.0
LEAF_LIFETIME: Final = 90 * 86400.0
LEAF_RENEW: Final = 30 * 86400.0
_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """PEM. begins, ends: seconds since the epoch."""

    certificate: str
    key: str = field(repr=False)
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What the server shows: its certificate and key as PEM, and when they end."""

    certificate: str
    key: str = field(repr=False)
    ends: float


def generate(now: float) -> Authority:
    """A new authority, valid from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "paddle-operator-ads")])
    certificate = (
        _builder(name, name, key, now, LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _authority(_pem(certificate), _key_pem(key))


def issue(authority: Authority, names: Sequence[str], now: float) -> Leaf:
    """A server certificate for `names` (DNS names and IP addresses)."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(authority.key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    life = min(LEAF_LIFETIME, authority.ends - now)
    certificate = (
        _builder(subject, issuer.subject, key, now, life)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return Leaf(certificate=_pem(certificate), key=_key_pem(key), ends=now + life)


def kept(authorities: Sequence[Authority], now: float) -> tuple[Authority, ...]:
    """Those that still hold, the oldest first; at most the two newest."""
    alive = sorted((one for one in authorities if one.ends > now), key=lambda one: one.begins)
    return tuple(alive[-2:])


def renewal_due(authorities: Sequence[Authority], now: float) -> bool:
    """Whether the newest one ends so soon that another must be made."""
    alive = kept(authorities, now)
    return not alive or alive[-1].ends - now < RENEW


def signer(authorities: Sequence[Authority], now: float) -> Authority:
    """The newest one that every router knows by now; the oldest while there is none."""
    alive = kept(authorities, now)
    known = [one for one in alive if now - one.begins >= OVERLAP]
    return known[-1] if known else alive[0]


def bundle(authorities: Sequence[Authority], now: float) -> str:
    """What routers trust, as PEM."""
    return "".join(one.certificate for one in kept(authorities, now))


def to_data(authorities: Sequence[Authority]) -> dict[str, str]:
    """The data of the Secret: ca-0.crt and ca-0.key, the oldest first."""
    data: dict[str, str] = {}
    for index, one in enumerate(authorities):
        data |= {f"ca-{index}.crt": one.certificate, f"ca-{index}.key": one.key}
    return data


def from_data(data: Mapping[str, str]) -> tuple[Authority, ...]:
    """The reverse; what cannot be read is left out."""
    found = []
    for index in range(2):
        certificate, key = data.get(f"ca-{index}.crt", ""), data.get(f"ca-{index}.key", "")
        try:
            found.append(_authority(certificate, key))
        except ValueError:
            continue
    return tuple(found)


def _authority(certificate: str, key: str) -> Authority:
    read = x509.load_pem_x509_certificate(certificate.encode())
    serialization.load_pem_private_key(key.encode(), None)
    begins, ends = read.not_valid_before_utc + _SKEW, read.not_valid_after_utc
    return Authority(certificate=certificate, key=key, begins=begins.timestamp(), ends=ends.timestamp())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, life: float
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _SKEW)  # clocks differ
        .not_valid_after(moment + timedelta(seconds=life))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
