"""Servers that misbehave on purpose: an HTTP file server and a proxy that cuts connections."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class FileServer:
    """HTTP files in memory. Set the switches before the request they are for; `requests` is what came."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.shift = 0  # answers ranges that begin so many bytes later
        self.head = True
        self.etags = True
        self.weak = False
        self.sizes = True
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, list[int]] = {}
        self.authorization = ""
        self.body_limit: list[int] = []  # cut the next bodies after so many bytes
        self.hold: threading.Event | None = None  # bodies wait here after their first half
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._server = _server(self)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str) -> int:
        return sum(1 for m, _, _ in self.requests if m == method)


def etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _server(owner: FileServer) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            owner.requests.append((self.command, self.path, dict(self.headers)))
            path = self.path.split("?")[0]
            waiting = owner.statuses.get(path)
            if waiting:
                return self._plain(waiting.pop(0))
            if path in owner.redirects:
                return self._plain(302, Location=owner.redirects[path])
            if owner.authorization and self.headers.get("Authorization") != owner.authorization:
                return self._plain(401)
            if not body and not owner.head:
                return self._plain(405)
            data = owner.files.get(path)
            if data is None:
                return self._plain(404)
            tag = ("W/" if owner.weak else "") + f'"{etag(data)}"'
            wanted = self.headers.get("If-Match")
            if wanted and owner.etags and wanted != tag:
                return self._plain(412)
            self._send(data, tag, body)

        def _send(self, data: bytes, tag: str, body: bool) -> None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = data
            if match and owner.ranges:
                if int(match[1]) >= len(data):
                    return self._plain(416)
                first = int(match[1]) + owner.shift
                part = data[first : int(match[2]) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if owner.etags:
                self.send_header("ETag", tag)
            if owner.sizes:
                self.send_header("Content-Length", str(len(part)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if body:
                self._body(part)

        def _body(self, part: bytes) -> None:
            half = len(part) // 2
            if owner.hold is not None:
                self.wfile.write(part[:half])
                owner.hold.wait(30)
                part = part[half:]
            if owner.body_limit:
                self.wfile.write(part[: owner.body_limit.pop(0)])
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(part)

        def _plain(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that went away is what these tests are about."""

    return Server(("127.0.0.1", 0), Handler)


class CuttingProxy:
    """Passes TCP through to a port; drops data and connection when `cut(bytes so far in all)` says so."""

    def __init__(self, port: int, cut: Callable[[int], bool]) -> None:
        self._target = port
        self._cut = cut
        self.passed = 0
        self.cuts = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            threading.Thread(target=self._down, args=(near, far), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while data := near.recv(65536):
                far.sendall(data)
        except OSError:
            pass
        self._close(near, far)

    def _down(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while data := far.recv(65536):
                with self._lock:
                    self.passed += len(data)
                    if self._cut(self.passed):
                        self.cuts += 1
                        break
                near.sendall(data)
        except OSError:
            pass
        self._close(near, far)

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


class CertificateAuthority:
    """A CA of our own, and server contexts for 127.0.0.1 that it signed."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self._certificate = self._sign(self._name, self._key.public_key(), ca=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if not ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server_context(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        certificate = self._sign(name, key.public_key(), ca=False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder, "chain.pem")
            chain.write_bytes(
                certificate.public_bytes(serialization.Encoding.PEM)
                + key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            context.load_cert_chain(chain)
        return context
