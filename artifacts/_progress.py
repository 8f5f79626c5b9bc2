"""How far a pull is, as JSON over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_WINDOW = 5.0  # seconds over which the rate is taken


class ModelProgress:
    """Counters of one model. Thread-safe. Rates are bytes per second over the last five seconds."""

    def __init__(self, name: str, version: str, digest: str, *, clock: Callable[[], float]) -> None:
        self.name, self.version, self.digest = name, version, digest
        self._clock = clock
        self._lock = threading.Lock()
        self._state, self._reason, self._message, self._content_digest = "Waiting", "", "", ""
        self._done = self._total = 0
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, total: int, done: int = 0) -> None:
        """Starts with `done` of `total` bytes there already (they do not count as speed)."""
        with self._lock:
            self._state, self._total, self._done = "Pulling", total, done
            self._samples.clear()
            self._samples.append((self._clock(), done))

    def set_done(self, done: int) -> None:
        with self._lock:
            self._set(done)

    def add(self, count: int) -> None:
        with self._lock:
            self._set(self._done + count)

    def _set(self, done: int) -> None:
        self._done = done
        now = self._clock()
        # A sample each tenth of a second at most: blocks come thousands of times in that.
        if not self._samples or now - self._samples[-1][0] >= 0.1:
            self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()

    def finish(self, content_digest: str, size: int) -> None:
        with self._lock:
            self._content_digest, self._done, self._total = content_digest, size, size

    def fail(self, reason: str, message: str) -> None:
        with self._lock:
            self._state, self._reason, self._message = "Failed", reason, message

    def rate(self) -> float:
        with self._lock:
            return self._rate()

    def _rate(self) -> float:
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        seconds = self._clock() - then
        return max(0.0, (self._done - before) / seconds) if seconds > 0 else 0.0

    def snapshot(self) -> dict[str, object]:
        with self._lock:
            rate = self._rate()
            left = self._total - self._done
            return {
                "name": self.name,
                "version": self.version,
                "digest": self.digest,
                "contentDigest": self._content_digest,
                "state": self._state,
                "reason": self._reason,
                "message": self._message,
                "bytesDone": self._done,
                "bytesTotal": self._total,
                "bytesPerSecond": round(rate, 1) if left > 0 else 0.0,
                "etaSeconds": round(left / rate, 1) if left > 0 and rate > 0 else 0.0,
            }


class Progress:
    """The progress of all models of a pod, in the shape that the runtime reports later too."""

    def __init__(self, revision: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._revision = revision
        self._clock = clock
        self._models: list[ModelProgress] = []

    def model(self, name: str, version: str, digest: str) -> ModelProgress:
        progress = ModelProgress(name, version, digest, clock=self._clock)
        self._models.append(progress)
        return progress

    def snapshot(self) -> dict[str, object]:
        models: Sequence[dict[str, object]] = [m.snapshot() for m in list(self._models)]
        stage = "Failed" if any(m["state"] == "Failed" for m in models) else "Pulling"
        return {"stage": stage, "revision": self._revision, "models": list(models)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self, port: int, family: socket.AddressFamily, respond: Callable[[str], bytes | None]
    ) -> None:
        self.respond = respond
        self.address_family = family
        super().__init__(("::" if family == socket.AF_INET6 else "0.0.0.0", port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The server container binds the same port next, while connections of this one may still linger.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not HTTPServer's: it looks up the host's own name, which can take seconds in a pod.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0

    def do_GET(self) -> None:
        server = self.server
        body = server.respond(self.path.split("?", 1)[0]) if isinstance(server, _Server) else None
        self.send_response(404 if body is None else 200)
        payload = b"not found\n" if body is None else body
        self.send_header("Content-Type", "application/json" if payload[:1] == b"{" else "text/plain")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe every second is not worth a line."""


class ProgressServer:
    """Serves GET /progress and /livez on all addresses until closed. Port 0 picks one; see `port`.

    Raises OSError when the port is taken.
    """

    def __init__(self, progress: Progress, port: int) -> None:
        def respond(path: str) -> bytes | None:
            if path == "/progress":
                return json.dumps(progress.snapshot()).encode()
            return b"ok\n" if path in ("/livez", "/healthz") else None

        try:
            self._server = _Server(port, socket.AF_INET6, respond)
        except OSError:
            self._server = _Server(port, socket.AF_INET, respond)  # a kernel without IPv6
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True, name="progress"
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
