"""Which addresses the operator may talk to when a user names an endpoint."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from artifacts._errors import ArtifactError, Reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses where clouds serve instance credentials and that are neither link-local nor loopback.
_METADATA = frozenset(
    ipaddress.ip_address(a)
    for a in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPolicy:
    """Refuses loopback, link-local, metadata, unspecified, multicast and reserved addresses.

    It judges the address that is connected to, after the name was resolved, so a name that points to the
    inside or changes between check and use does not help. `allow` makes exceptions: "host", "host:port", an
    address or a CIDR. Private networks are allowed: that is where a cluster's object store is.
    `unrestricted` is for a pod that pulls with its user's own rights.
    """

    allow: tuple[str, ...] = ()
    allow_loopback: bool = False
    unrestricted: bool = False

    def check(self, host: str, port: int, address: str) -> None:
        """Raises EndpointForbidden when `address` (what `host` resolved to) must not be connected to."""
        if self.unrestricted or self._excepted(host, port, address):
            return
        kind = forbidden_kind(address)
        if kind == "loopback" and self.allow_loopback:
            return
        if kind:
            seen = host if host.strip("[]") == address else f"{host} ({address})"
            raise ArtifactError(
                Reason.ENDPOINT_FORBIDDEN,
                f"endpoint {seen} port {port} is a {kind} address, which the operator does not connect to:"
                " use the service's cluster address, or have the administrator add it to --allowed-endpoints",
            )

    def _excepted(self, host: str, port: int, address: str) -> bool:
        name = host.strip("[]").rstrip(".").lower()
        ip = unwrap(address)
        for entry in self.allow:
            text = entry.strip().lower()
            try:
                if ip in ipaddress.ip_network(text, strict=False):
                    return True
                continue
            except ValueError:
                pass
            entry_host, sep, entry_port = text.rpartition(":")
            if sep and entry_port.isdigit() and (":" not in entry_host or entry_host.startswith("[")):
                if port == int(entry_port) and entry_host.strip("[]") in (name, str(ip)):
                    return True
            elif text.strip("[]") in (name, str(ip)):
                return True
        return False


def unwrap(address: str) -> Address:
    """The address that packets go to: IPv4 inside IPv6 (mapped, 6to4, NAT64) taken out, the scope dropped."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and any(ip in network for network in _NAT64):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None and int(ip) >> 32 == 0 and int(ip) > 1:
            inner = ipaddress.IPv4Address(int(ip))  # the deprecated IPv4-compatible form
        return inner or ip
    return ip


def forbidden_kind(address: str) -> str:
    """Why an address is refused by default, "" when it is not."""
    ip = unwrap(address)
    if ip in _METADATA:
        return "metadata"
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or ip in _THIS_NETWORK:
        return "unspecified"
    if ip.is_multicast:
        return "multicast"
    if isinstance(ip, ipaddress.IPv4Address) and ip.is_reserved:
        return "reserved"
    return ""


UNRESTRICTED = EndpointPolicy(unrestricted=True)
