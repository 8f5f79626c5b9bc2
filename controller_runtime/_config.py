"""Where the API server is and how to prove who we are; files are followed when they are rotated."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ._clock import SYSTEM_CLOCK, Clock
from ._kubeconfig import Plain, read_plain
from .errors import ControllerRuntimeError

T = TypeVar("T")
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOOK_EVERY = 1.0


class ConfigError(ControllerRuntimeError):
    """No usable connection settings; the message names the file or variable and the remedy."""


class Credentials(Protocol):
    """What goes into the Authorization header."""

    def authorization(self) -> str:
        """The header's value now, or "" for none (client certificates). Called for every request: be
        quick.
        """
        ...

    async def renew(self) -> bool:
        """The server said 401: fetch anew. True when the same request is worth one more try."""
        ...


class StaticCredentials:
    """A fixed token, or none at all."""

    __slots__ = ("_value",)

    def __init__(self, token: str = "") -> None:
        self._value = f"Bearer {token}" if token else ""

    def authorization(self) -> str:
        return self._value

    async def renew(self) -> bool:
        return False


class FileToken:
    """A bearer token in a file that is replaced from time to time (a projected service account token).

    The file is looked at once a second at most, and read when it changed. While it cannot be read, the last
    token stays in use.
    """

    def __init__(self, path: str | Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = os.fspath(path)
        self._clock = clock
        self._value = ""
        self._version: tuple[int, int, int] | None = None
        self._next_look = float("-inf")

    def authorization(self) -> str:
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            self._look()
        return self._value

    async def renew(self) -> bool:
        before = self._value
        self._look()
        return self._value != before

    def _look(self) -> None:
        version = _version(self._path)
        if version is None or version == self._version:
            return
        token = Path(self._path).read_text().strip()
        if token:
            self._value = f"Bearer {token}"
            self._version = version


class PluginToken:
    """A token that kubernetes_asyncio gets from an exec plugin, OIDC or GCP; fetched again after a 401."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._lock = asyncio.Lock()
        self._fetched = 0

    def authorization(self) -> str:
        return str(getattr(self._loader, "token", ""))

    async def renew(self) -> bool:
        seen = self._fetched
        async with self._lock:
            if seen == self._fetched:  # of many requests that got a 401, one fetches
                self._loader.exec_plugin_expiry = _LONG_AGO
                await self._loader._load_authentication()
                self._fetched += 1
        return True


_LONG_AGO = "1970-01-01T00:00:00Z"


@dataclass(slots=True, kw_only=True)
class TLS:
    """How to verify the server and which certificate to show; `context()` follows rotated files."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True
    server_name: str = ""
    clock: Clock = SYSTEM_CLOCK
    _context: ssl.SSLContext | None = field(default=None, init=False, repr=False)
    _versions: list[tuple[int, int, int] | None] = field(default_factory=list, init=False, repr=False)
    _next_look: float = field(default=float("-inf"), init=False, repr=False)

    def context(self) -> ssl.SSLContext:
        """The context for new connections. Another object after a rotation, so pools do not mix the two.

        Raises ConfigError when the first load fails; later, a half-written rotation keeps the last good one.
        """
        now = self.clock.monotonic()
        if self._context is not None and now < self._next_look:
            return self._context
        self._next_look = now + _LOOK_EVERY
        versions = [_version(path) for path in (self.ca_file, self.cert_file, self.key_file) if path]
        if self._context is None or versions != self._versions:
            try:
                self._context = self._build()
                self._versions = versions
            except (OSError, ssl.SSLError) as error:
                if self._context is None:
                    names = ", ".join(path for path in (self.ca_file, self.cert_file, self.key_file) if path)
                    raise ConfigError(f"TLS files {names}: {error}; they must exist and be PEM") from error
        return self._context

    def _build(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A connection to one API server. `server` is "https://host:port", `namespace` the context's or pod's."""

    server: str
    tls: TLS | None = None
    credentials: Credentials = field(default_factory=StaticCredentials)
    proxy: str = ""
    namespace: str = ""

    @classmethod
    def load(cls, kubeconfig: str | None = None, context: str | None = None) -> Config:
        """The first that applies: `kubeconfig`, $KUBECONFIG, the pod we run in, ~/.kube/config.

        Exec plugins and OIDC run here, so this may take seconds. Raises ConfigError.
        """
        path = kubeconfig or os.environ.get("KUBECONFIG", "")
        if not path and "KUBERNETES_SERVICE_HOST" in os.environ:
            return cls.from_in_cluster()
        path = path or os.fspath(Path.home() / ".kube" / "config")
        existing = [part for part in path.split(os.pathsep) if part and Path(part).expanduser().is_file()]
        if not existing:
            raise ConfigError(f"kubeconfig {path!r}: no such file; set KUBECONFIG or pass kubeconfig=")
        plain = read_plain(path, context)
        return _from_plain(plain) if plain is not None else _run(_from_kubeconfig(path, context))

    @classmethod
    def from_in_cluster(cls, *, directory: Path = SERVICE_ACCOUNT) -> Config:
        """The service account of the pod we run in. Token and CA are followed when the kubelet rotates
        them.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
        if not host or not port:
            raise ConfigError("in-cluster: KUBERNETES_SERVICE_HOST and _PORT are not set; is this a pod?")
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        token, authority = directory / "token", directory / "ca.crt"
        for file in (token, authority):
            if not file.is_file() or not file.stat().st_size:
                raise ConfigError(
                    f"in-cluster: {file} is missing or empty; is this a pod with a service account?"
                )
        namespace = directory / "namespace"
        return cls(
            server=server,
            tls=TLS(ca_file=os.fspath(authority)),
            credentials=FileToken(token),
            proxy=environment_proxy(server),
            namespace=namespace.read_text().strip() if namespace.is_file() else "",
        )


def _from_plain(plain: Plain) -> Config:
    tls = None
    if plain.server.startswith("https"):
        tls = TLS(
            ca_file=plain.ca_file,
            cert_file=plain.cert_file,
            key_file=plain.key_file,
            verify=plain.verify,
            server_name=plain.server_name,
        )
    return Config(
        server=plain.server,
        tls=tls,
        credentials=FileToken(plain.token_file) if plain.token_file else _Fixed(plain.authorization),
        proxy=plain.proxy or environment_proxy(plain.server),
        namespace=plain.namespace,
    )


async def _from_kubeconfig(path: str, context: str | None) -> Config:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import load_kube_config

    found: Any = Configuration()
    try:
        loader: Any = await load_kube_config(path, context, found, persist_config=False)
    except Exception as error:  # a broken file ends in any of a dozen
        raise ConfigError(f"kubeconfig {path!r}: {error}") from error
    user = loader._user
    credentials: Credentials
    if user is not None and user.safe_get("tokenFile") and not user.safe_get("token"):
        base = Path(user.path or path).parent
        credentials = FileToken(base / Path(str(user.safe_get("tokenFile"))))
    elif user is not None and (user.safe_get("exec") or user.safe_get("auth-provider")):
        credentials = PluginToken(loader)
    else:
        credentials = _Fixed(getattr(loader, "token", ""))
    entry = loader.current_context or {}
    tls = None
    if found.host.startswith("https"):
        tls = TLS(
            ca_file=found.ssl_ca_cert or "",
            cert_file=found.cert_file or "",
            key_file=found.key_file or "",
            verify=bool(found.verify_ssl),
            server_name=found.tls_server_name or "",
        )
    return Config(
        server=found.host,
        tls=tls,
        credentials=credentials,
        proxy=found.proxy or environment_proxy(found.host),
        namespace=(entry.get("context") or {}).get("namespace") or "",
    )


class _Fixed(StaticCredentials):
    """A whole header value, for example "Basic ..."."""

    def __init__(self, value: str) -> None:
        super().__init__()
        self._value = value


def environment_proxy(server: str) -> str:
    """The proxy that $HTTPS_PROXY, $HTTP_PROXY and $NO_PROXY ask for; never one for a loopback address."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return ""
    return getproxies().get(parts.scheme, "")


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _run(work: Coroutine[object, object, T]) -> T:
    """Run `work` to its end from synchronous code, also when this thread's event loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
