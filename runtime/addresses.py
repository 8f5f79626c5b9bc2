"""Listening sockets, bound before anything else is started."""

from __future__ import annotations

import socket


def bind(address: str) -> socket.socket:
    """A listening address "host:port"; port 0 picks one. Raises ValueError or OSError naming it."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"address {address!r} is not usable: write host:port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.strip("[]"), int(port)))
    except OSError as error:
        sock.close()
        raise OSError(f"address {address!r} cannot be used: {error}") from None
    return sock
