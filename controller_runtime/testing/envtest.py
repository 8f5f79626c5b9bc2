"""A real etcd and API server for tests: no kubelet, no controllers, so objects stay as they are written."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from .._client import Client, connect
from .._config import TLS, Config
from .._objects import JSON
from ._certificates import CertificateAuthority, new_key
from ._processes import EnvtestError, Process, find_binary, free_ports

_ADMIN = "envtest-admin"
_POLL = 0.05
_PREFIX = "envtest-"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_LINE = 1 << 20  # no audit event is longer
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class Envtest:
    """One API server with an etcd behind it, on free ports of 127.0.0.1, in a directory of its own.

    Use it as `with Envtest(crds=["config/crd"]) as env:` (or `async with`, which blocks the loop while it
    starts, about 5 s). `config` is a cluster admin's. RBAC is on; the ServiceAccount admission plugin is off,
    as nothing makes service accounts here. The processes end with the block, and with this process however it
    ends.

    `crds`: YAML files, or directories of them, installed and Established before the block begins.
    `audit`: keep an audit log of every request, or of what an audit policy chooses; read it with
    `audit_events`. `apiserver_args` and `etcd_args`: more flags, for example "--etcd-compaction-interval=0".
    """

    def __init__(
        self,
        *,
        crds: Iterable[str | Path] = (),
        audit: bool | JSON = False,
        apiserver_args: Sequence[str] = (),
        etcd_args: Sequence[str] = (),
        start_timeout: float = 90.0,
    ) -> None:
        self._crds = [Path(path) for path in crds]
        self._audit = dict(_AUDIT_POLICY) if audit is True else audit or {}
        self._arguments = tuple(apiserver_args)
        self._etcd_arguments = tuple(etcd_args)
        self._start_timeout = start_timeout
        self._directory: Path | None = None
        self._etcd: Process | None = None
        self._apiserver: Process | None = None
        self._ports: list[int] = []
        self._users: dict[str, Config] = {}

    # -- life

    def start(self) -> Self:
        """Start both processes and install the CRDs. Raises EnvtestError; nothing is left running then."""
        if self._directory is not None:
            raise EnvtestError("Envtest is running already; stop it first")
        _sweep()
        self._directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        try:
            self._ports = free_ports(3)
            self._make_files()
            self._start_etcd()
            self.start_apiserver()
            for path in self._crds:
                self.install_crds(path)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End both processes and remove their files. Idempotent."""
        for process in (self._apiserver, self._etcd):
            if process is not None:
                process.stop(kill=True)  # the data goes too, so there is nothing to save
        self._apiserver = self._etcd = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def start_apiserver(self) -> None:
        """Start the API server (again, after `stop_apiserver`) at the same address; returns when it is
        ready.
        """
        binary = find_binary("kube-apiserver")
        self._apiserver = Process([binary, *self._flags()], self.directory / "apiserver.log")
        self._await("kube-apiserver", self._apiserver, lambda: self._http("GET", "/readyz")[0] == 200)

    def stop_apiserver(self, *, kill: bool = True) -> None:
        """Stop the API server only; what it stored stays."""
        if self._apiserver is not None:
            self._apiserver.stop(kill=kill)
            self._apiserver = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- access

    @property
    def directory(self) -> Path:
        """Where logs and certificates are while it runs."""
        if self._directory is None:
            raise EnvtestError("Envtest is not running; use it in a with block or call start()")
        return self._directory

    @property
    def processes(self) -> list[Process]:
        """etcd and the API server, as far as they run: for what they use."""
        return [process for process in (self._etcd, self._apiserver) if process is not None]

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self._ports[2]}"

    @property
    def config(self) -> Config:
        """As a member of system:masters, whom RBAC lets do everything."""
        return self.user(_ADMIN)

    def user(self, name: str, groups: Sequence[str] = ()) -> Config:
        """As any other user; what they may do is up to the Roles and bindings that a test makes.

        The groups given first hold for later calls without any.
        """
        known = self._users.get(name)
        if known is not None and not groups:
            return known
        certificate, key = self._authority.client(name, groups)
        tls = TLS(
            ca_file=os.fspath(self._serving.file), cert_file=os.fspath(certificate), key_file=os.fspath(key)
        )
        config = Config(server=self.server, tls=tls, namespace="default")
        self._users[name] = config
        return config

    def client(self, user: str | None = None, *, field_manager: str = "envtest") -> Client:
        """A live client, to be used as `async with env.client() as client:`."""
        return connect(self.config if user is None else self.user(user), field_manager=field_manager)

    def kubeconfig(self, path: str | Path, *, user: str | None = None) -> Path:
        """Write a kubeconfig file, for kubectl and other processes."""
        tls = (self.config if user is None else self.user(user)).tls
        assert tls is not None
        cluster = {"server": self.server, "certificate-authority": tls.ca_file}
        account = {"client-certificate": tls.cert_file, "client-key": tls.key_file}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "envtest", "cluster": cluster}],
            "users": [{"name": "envtest", "user": account}],
            "contexts": [{"name": "envtest", "context": {"cluster": "envtest", "user": "envtest"}}],
            "current-context": "envtest",
        }
        target = Path(path)
        target.write_text(yaml.safe_dump(content))
        return target

    def install_crds(self, path: str | Path, *, timeout: float = 30.0) -> list[str]:
        """Apply the CustomResourceDefinitions in a file or directory, wait until each is Established."""
        path = Path(path)
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        names: list[str] = []
        for file in files:
            for document in yaml.safe_load_all(file.read_text()):
                if isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition":
                    names.append(self._install(document, file))
        end = time.monotonic() + timeout
        for name in names:
            while not self._established(name):
                if time.monotonic() > end:
                    raise EnvtestError(f"CRD {name}: not Established after {timeout:g} s")
                time.sleep(_POLL)
        return names

    def create_namespace(self, prefix: str = "test") -> str:
        """Make a namespace of a new name, so that tests on one server do not meet. Returns the name."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{prefix}-"}}
        status, answer = self._http("POST", "/api/v1/namespaces", body)
        if status != 201:
            raise EnvtestError(f"namespace {prefix}-: {status} {answer!r}")
        return str(json.loads(answer)["metadata"]["name"])

    @property
    def audit_size(self) -> int:
        """Bytes of the audit log so far, complete lines only: where to read on later."""
        if not self._audit:
            raise EnvtestError("no audit log: start it as Envtest(audit=True)")
        with (self.directory / "audit.log").open("rb") as log:
            begin = max(0, log.seek(0, os.SEEK_END) - _LINE)
            log.seek(begin)
            return begin + log.read().rfind(b"\n") + 1

    def audit_events(self, start: int = 0) -> list[JSON]:
        """What the API server has answered so far, one audit event a request, in order of completion.

        `start`: an earlier `audit_size`, to be told only what came after it.
        """
        size = self.audit_size - start
        with (self.directory / "audit.log").open("rb") as log:
            log.seek(start)
            return [json.loads(line) for line in log.read(max(0, size)).splitlines() if line]

    def rotate_serving_authority(self) -> None:
        """Replace the server's certificate by one of a new authority, which takes the old one's place in the
        `ca_file` of every configuration and kubeconfig. In force from the next `start_apiserver`; users stay
        who they are.
        """
        self._serving = CertificateAuthority(self.directory, "envtest-serving-ca", file="serving-ca.crt")
        addresses = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"]
        self.server_certificate = self._serving.server("apiserver", addresses)

    def compact(self) -> None:
        """Forget all history in etcd, so that watches from older versions are answered 410."""
        status, body = self._etcd_call("/v3/kv/range", {"key": "AA=="})
        revision = json.loads(body)["header"]["revision"]
        status, body = self._etcd_call("/v3/kv/compaction", {"revision": revision, "physical": True})
        if status != 200:
            raise EnvtestError(f"etcd compaction at {revision}: {status} {body!r}")

    # -- inside

    def _make_files(self) -> None:
        directory = self.directory
        self._authority = CertificateAuthority(directory)
        self.rotate_serving_authority()
        self._service_account_key = new_key(directory / "service-accounts.key")
        self._users.clear()
        self._tls = self.user(_ADMIN, ["system:masters"]).tls
        if self._audit:
            (directory / "audit-policy.yaml").write_text(json.dumps(self._audit))

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._ports[:2])
        command: list[str | Path] = [
            find_binary("etcd"),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            *self._etcd_arguments,
        ]
        self._etcd = Process(command, self.directory / "etcd.log")
        self._await("etcd", self._etcd, lambda: self._etcd_call("/v3/kv/range", {"key": "AA=="})[0] == 200)

    def _flags(self) -> list[str]:
        directory = self.directory
        certificate, key = self.server_certificate
        flags = [
            f"--etcd-servers=http://127.0.0.1:{self._ports[0]}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports[2]}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={directory / 'apiserver'}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self._authority.file}",
            f"--service-account-key-file={self._service_account_key}",
            f"--service-account-signing-key-file={self._service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--shutdown-delay-duration=0s",
        ]
        if self._audit:
            flags += [
                f"--audit-log-path={directory / 'audit.log'}",
                f"--audit-policy-file={directory / 'audit-policy.yaml'}",
                "--audit-log-mode=blocking",
            ]
        return [*flags, *self._arguments]

    def _await(self, name: str, process: Process, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + self._start_timeout
        while True:
            process.check()
            try:
                if ready():
                    return
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                raise EnvtestError(f"{name}: not ready after {self._start_timeout:g} s:\n{process.tail()}")
            time.sleep(_POLL)

    def _etcd_call(self, path: str, body: JSON) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[0], timeout=10)
        return _exchange(connection, "POST", path, json.dumps(body).encode(), "application/json")

    def _http(
        self, method: str, path: str, body: JSON | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        assert self._tls is not None
        context: ssl.SSLContext = self._tls.context()
        connection = http.client.HTTPSConnection("127.0.0.1", self._ports[2], timeout=30, context=context)
        payload = None if body is None else json.dumps(body).encode()
        return _exchange(connection, method, path, payload, content_type)

    def _install(self, document: JSON, file: Path) -> str:
        name = str(document["metadata"]["name"])
        path = (
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=envtest&force=true"
        )
        status, body = self._http("PATCH", path, document, "application/apply-patch+yaml")
        if status not in (200, 201):
            message = json.loads(body).get("message", "")
            raise EnvtestError(f"{file}: CRD {name} refused: {status} {message}")
        return name

    def _established(self, name: str) -> bool:
        status, body = self._http("GET", f"{_CRDS}/{name}")
        conditions = json.loads(body).get("status", {}).get("conditions") or () if status == 200 else ()
        if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            return False
        spec = json.loads(body)["spec"]  # Established can precede the handler by a moment
        version = next(item["name"] for item in spec["versions"] if item["served"])
        return (
            self._http("GET", f"/apis/{spec['group']}/{version}/{spec['names']['plural']}?limit=1")[0] == 200
        )


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, content_type: str
) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _sweep() -> None:
    """Remove what runs that were killed outright left behind."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(path, ignore_errors=True)
