"""Listening sockets, bound before anything else is started."""

from __future__ import annotations

import socket


def bind(address: str, *, shared: bool = False) -> socket.socket:
    """A listening address "host:port"; port 0 picks one. Raises ValueError or OSError naming it."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"address {address!r} is not usable: write host:port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host.strip("[]"), int(port)))
    except OSError as error:
        sock.close()
        raise OSError(f"address {address!r} cannot be used: {error}") from None
    return sock


def reserve(address: str) -> socket.socket:
    """Like `bind`, for a server that opens its own sockets: others may bind beside this one, which must not
    listen. Raises as `bind` does, also when somebody else is there already.
    """
    if not address.endswith(":0"):
        bind(address).close()
    return bind(address, shared=True)
