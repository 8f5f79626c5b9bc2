"""Connections to endpoints that users name: addresses checked when connecting, deadlines short, errors in
our words.
"""

from __future__ import annotations

import socket
import ssl
import threading
import weakref
from http.client import HTTPException
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as TLSError
from urllib3.response import BaseHTTPResponse

from artifacts._errors import ArtifactError, Reason
from artifacts._policy import EndpointPolicy

# What reading a body or waiting for an answer can raise; programming errors are not among them.
TRANSPORT_ERRORS = (HTTPError, OSError, HTTPException)


class Transport:
    """A pool of keep-alive connections. Thread-safe. No retries, no proxies, no redirects of its own.

    The address that was checked is the address that is connected to, so nothing can be rebound in between.
    `abort` breaks every open connection at once and lets no new one be made; blocked reads in other threads
    then fail.
    """

    def __init__(
        self,
        *,
        policy: EndpointPolicy,
        ca_pem: str = "",
        connect_timeout: float = 3.0,
        read_timeout: float = 5.0,
        maxsize: int = 4,
    ) -> None:
        self._policy = policy
        self._ca_pem = ca_pem
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._maxsize = maxsize
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._aborted = False

    def manager(self, scheme: str) -> urllib3.PoolManager:
        """The pool for "http" or "https". Raises TLSError when the CA given is not PEM."""
        with self._lock:
            if scheme not in self._managers:
                # Reading the system's CAs takes tens of milliseconds, so plain endpoints do not pay for it.
                context = ssl_context(self._ca_pem) if scheme == "https" else None
                manager = urllib3.PoolManager(
                    num_pools=16,
                    maxsize=self._maxsize,
                    timeout=self._timeout,
                    retries=False,
                    ssl_context=context,
                )
                manager.pool_classes_by_scheme = _guarded(self)
                self._managers[scheme] = manager
            return self._managers[scheme]

    def request(self, method: str, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        """One request, the body not read yet. Raises ArtifactError when no answer comes."""
        try:
            return self.manager(urlsplit(url).scheme).urlopen(
                method, url, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
        except TRANSPORT_ERRORS as error:
            raise translate(error, url) from error

    def connect(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """A TCP connection to one of `host`'s permitted addresses. Raises EndpointForbidden if there is
        none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        refused: ArtifactError | None = None
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            try:
                self._policy.check(host, port, str(address[0]))
            except ArtifactError as error:
                refused = error
                continue
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
                continue
            self._remember(sock)
            return sock
        if failure is None and refused is not None:
            raise refused
        raise failure or OSError(f"{host} has no address")

    def _remember(self, sock: socket.socket) -> None:
        with self._lock:
            if self._aborted:
                sock.close()
                raise OSError("stopped")
            self._sockets.add(sock)

    def watch(self, sock: socket.socket) -> None:
        """TLS wraps a socket into a new one, and only the new one can be shut down."""
        self._remember(sock)

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                # Not close(): the file descriptor may be re-used while another thread still reads from it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()


def _guarded(transport: Transport) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pool classes with our way of connecting."""

    def connect(conn: HTTPConnection) -> socket.socket:
        timeout = conn.timeout if isinstance(conn.timeout, int | float) else None
        try:
            return transport.connect(conn.host, conn.port or conn.default_port, timeout)
        except socket.gaierror as error:
            raise NameResolutionError(conn.host, conn, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(conn, f"no connection within {timeout} s") from error
        except OSError as error:
            raise NewConnectionError(conn, f"{error}") from error

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

        def connect(self) -> None:
            super().connect()
            if isinstance(self.sock, socket.socket):
                transport.watch(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def ssl_context(ca_pem: str) -> ssl.SSLContext:
    """Verifies against the system's CAs and, when given, those in `ca_pem`. Raises TLSError."""
    context = ssl.create_default_context()
    if ca_pem:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise ArtifactError(
                Reason.TLS_ERROR,
                f"the CA given is not a PEM certificate ({error}): correct ca.crt in caSecretRef",
            ) from None
    return context


def origin(url: str) -> str:
    """scheme://host:port of a URL, for messages and for deciding who may see credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def translate(error: Exception, url: str) -> ArtifactError:
    """EndpointUnreachable or TLSError in one line that names the endpoint and what to do."""
    endpoint = origin(url)
    cause = _innermost(error)
    if isinstance(error, TLSError) or isinstance(cause, ssl.SSLError):
        detail = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
        remedy = (
            "does it speak http:// on this port?"
            if "WRONG_VERSION" in str(detail) or "RECORD_LAYER" in str(detail)
            else "give its CA in caSecretRef, or correct the host name"
        )
        return ArtifactError(Reason.TLS_ERROR, f"endpoint {endpoint}: TLS failed ({detail}): {remedy}")
    if isinstance(error, NameResolutionError):
        text = "its name does not resolve: correct it (for minio:// it is the operator's --minio-endpoint)"
    elif isinstance(error, ConnectTimeoutError):
        text = "no connection in time: check the address, the port and network policies"
    elif isinstance(error, ReadTimeoutError | TimeoutError):
        text = "connected, but no answer in time: check that the object store is healthy"
    elif isinstance(error, NewConnectionError):
        text = f"no connection ({cause}): check the address and that the object store runs"
    else:
        text = f"the connection broke ({cause or error}): check that it speaks {urlsplit(url).scheme}"
    return ArtifactError(Reason.ENDPOINT_UNREACHABLE, f"endpoint {endpoint}: {text}")


def _innermost(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None and inner is not error:
        error = inner
    return error


def drain(response: BaseHTTPResponse, limit: int = 65536) -> bytes:
    """The first `limit` bytes of an error's body, the connection given back (or closed when there is
    more).
    """
    try:
        data = response.read(limit)
        if response.read(1):
            response.close()
        return data
    except TRANSPORT_ERRORS:
        response.close()
        return b""
    finally:
        response.release_conn()
