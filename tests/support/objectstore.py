"""A real S3 object store for tests: SeaweedFS in one process, on loopback, gone afterwards.

with ObjectStore.start() as store:
    store.put("models", "resnet/inference.json", b"...")
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from minio import Minio

ACCESS_KEY = "admin-access-key"
SECRET_KEY = "admin-secret-key"
READER_KEY = "reader-access-key"  # may read and list the bucket READABLE only
READER_SECRET = "reader-secret-key"
READABLE = "readable"

_ROLES = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


def weed_binary() -> str:
    """The path of SeaweedFS's program: beside this interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError("weed is not installed: run `make venv`")
    return found


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A running store at `endpoint`; the admin has ACCESS_KEY and SECRET_KEY."""

    endpoint: str
    port: int

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Minio:
        return Minio(
            f"127.0.0.1:{self.port}",
            access_key,
            secret_key,
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(retries=False, timeout=30.0),
        )

    def bucket(self, name: str) -> None:
        """Makes a bucket unless it is there."""
        client = self.client()
        if not client.bucket_exists(name):
            client.make_bucket(name)

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Uploads (making the bucket) and returns the ETag without quotes."""
        self.bucket(bucket)
        return str(self.client().put_object(bucket, key, io.BytesIO(data), len(data)).etag).strip('"')

    def put_all(self, bucket: str, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            self.put(bucket, key, data)

    @classmethod
    @contextmanager
    def start(cls, *, timeout: float = 60.0) -> Iterator[ObjectStore]:
        """Starts a store (about 4 s) and stops it, its folder removed, whatever happens in between."""
        folder = tempfile.mkdtemp(prefix="objectstore-")
        ports = dict(zip(_ROLES, free_ports(len(_ROLES)), strict=True))
        config = Path(folder, "s3.json")
        config.write_text(json.dumps({"identities": _identities()}))
        command = [
            *(
                weed_binary(),
                "-logtostderr",
                "server",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
            ),
            *(f"-{r}.port={ports[r]}" for r in ("master", "volume", "filer", "s3")),
            *(f"-{r}.port.grpc={ports[f'{r}.grpc']}" for r in ("master", "volume", "filer", "s3")),
            *("-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-volume.max=100"),
            *("-volume.preStopSeconds=0", "-volume.minFreeSpace=1MiB"),
        ]
        log = Path(folder, "log")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            store = cls(f"http://127.0.0.1:{ports['s3']}", ports["s3"])
            store._wait(process, log, timeout)
            yield store
        finally:
            # SIGTERM would drain for 25 s; nothing here is worth keeping.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            for role in ("master", "volume", "filer", "s3"):
                for name in (f"{role}-grpc-{ports[f'{role}.grpc']}", f"{role}-{ports[role]}"):
                    Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)

    def _wait(self, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
        ends = time.monotonic() + timeout
        while True:
            try:
                self.put("probe", "ready", b"ready")  # listing works before writing does
                return
            except Exception as error:
                if process.poll() is not None or time.monotonic() > ends:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the object store did not start ({error}):\n{tail}") from error
                time.sleep(0.05)


def _identities() -> list[object]:
    def identity(name: str, access: str, secret: str, actions: list[str]) -> object:
        return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}

    return [
        identity("admin", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
        identity("reader", READER_KEY, READER_SECRET, [f"Read:{READABLE}", f"List:{READABLE}"]),
    ]
