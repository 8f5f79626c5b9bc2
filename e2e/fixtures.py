"""What the tests of the operator stand on: the operator itself, an object store, a namespace, models."""

from __future__ import annotations

import io
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3
from minio import Minio

from e2e.kube import Kube, status_of, until
from hack.deploy.__main__ import PROMETHEUS
from hack.images import names

ROOT = Path(__file__).resolve().parents[1]
ENDPOINT = "http://object-store.object-store.svc:8333"
BUCKET = "models"
#: Seconds that the operator gives clients to follow a canary's changes: the proxy of one node needs less
#: than one. The long scenarios have the default of 15.
SETTLE = os.environ.get("SETTLE_TIME", "2")
#: What a pod and its containers say to pass the Pod Security level "restricted".
POD_SECURITY: dict[str, object] = {
    "runAsNonRoot": True,
    "runAsUser": 1001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, object] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class Store:
    """The object store in the cluster, as a client on this host sees it."""

    client: Minio

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(BUCKET, key, io.BytesIO(data), len(data))

    def put_folder(self, prefix: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix.rstrip('/')}/{path.relative_to(folder)}", path.read_bytes())


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of one test's own, at Pod Security level restricted, with the store's Secret in it."""

    name: str
    kube: Kube
    created: list[str] = field(default_factory=list)

    def model(
        self,
        name: str,
        key: str,
        *,
        version: str = "v1.0.0",
        serving: Mapping[str, object] | None = None,
        storage: Mapping[str, object] | None = None,
        **spec: object,
    ) -> dict[str, object]:
        """A PaddleModel document (not applied)."""
        source = {"endpoint": ENDPOINT, "bucket": BUCKET, "key": key, "secretRef": {"name": "store"}}
        return {
            "apiVersion": "serving.paddlepaddle.org/v1alpha1",
            "kind": "PaddleModel",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {
                "framework": "paddle",
                "version": version,
                "storage": source | dict(storage or {}),
                "serving": {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}, **(serving or {})},
                **spec,
            },
        }

    def apply(self, *documents: Mapping[str, object]) -> None:
        self.kube.apply(*documents)

    def pods(self, selector: str = "") -> list[dict[str, object]]:
        return self.kube.list("pods", self.name, selector)

    def phase(self, name: str, phase: str, *, within: float = 60.0, generation: int = 0) -> dict[str, object]:
        return self.kube.phase(name, self.name, phase, within=within, generation=generation)


@pytest.fixture(scope="session")
def kube(cluster: Path) -> Kube:
    return Kube(cluster)


def hack(kube: Kube, *command: str, timeout: float = 600.0) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={"PROMETHEUS_URL": PROMETHEUS, **os.environ, "KUBECONFIG": str(kube.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"python -m {' '.join(command)}:\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def operator(kube: Kube) -> Iterator[Kube]:
    """The operator as `make deploy` installs it; removed at the end unless it was there before."""
    before = kube.attempt("-n", "paddle-system", "get", "deployment", "paddle-operator").returncode == 0
    hack(kube, "hack.deploy", "up", f"--arg=--settle-time={SETTLE}")
    yield kube
    if not before:
        hack(kube, "hack.deploy", "down")


@pytest.fixture(scope="session")
def store(kube: Kube) -> Iterator[Store]:
    """The add-on object store with an empty bucket."""
    kube.run("apply", "-k", str(ROOT / "config/local/object-store"))
    kube.run(
        "-n", "object-store", "rollout", "status", "deployment/object-store", "--timeout=60s", timeout=70
    )
    with kube.forward("object-store", "service/object-store", 8333) as port:
        client = Minio(
            f"127.0.0.1:{port}",
            "demo",
            "demo-secret",
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=0.3), timeout=20.0),
        )
        if not client.bucket_exists(BUCKET):
            client.make_bucket(BUCKET)
        yield Store(client)


@contextmanager
def namespace(kube: Kube, title: str) -> Iterator[Namespace]:
    """A fresh namespace; deleted afterwards (in the background: nothing waits for it)."""
    word = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:30].strip("-")
    name = f"e2e-{word}-{secrets.token_hex(2)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        secret(name, "store", "demo", "demo-secret"),
    )
    yield Namespace(name, kube)
    kube.attempt("delete", "namespace", name, "--wait=false")


@pytest.fixture
def ns(kube: Kube, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of this test's own."""
    with namespace(kube, request.node.name) as found:
        yield found


def secret(namespace: str, name: str, access: str, key: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"accessKeyId": access, "secretAccessKey": key},
    }


@pytest.fixture(scope="session")
def linear(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny real models y = w * sum(x) + b in the store: the key of the folder by version."""
    from tests.support import models

    keys = {}
    for version, (weight, bias) in {"v1.0.0": (2.0, 1.0), "v1.1.0": (3.0, -1.0)}.items():
        folder = tmp_path_factory.mktemp(f"linear-{version}")
        models.write_paddle(folder, weight=weight, bias=bias)
        keys[version] = f"linear/{version}/"
        store.put_folder(keys[version], folder)
    return keys


@pytest.fixture(scope="session")
def served(operator: Kube, linear: dict[str, str]) -> Iterator[Namespace]:
    """A namespace where one pod serves the model `linear`, SLA 123 ms; for tests that only ask."""
    with namespace(operator, "served") as ns:
        ns.apply(ns.model("linear", linear["v1.0.0"], serving={"latencySLAMilliseconds": 123}))
        ns.phase("linear", "Ready", within=120)
        yield ns


LOAD = """
import asyncio, json, signal, sys, time
import aiohttp
url, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
async def main():
    seen, failed, slow = {}, [], 0.0
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stop.set)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        async def one():
            nonlocal slow
            began = time.monotonic()
            try:
                async with session.post(url, json={"inputs": {"x": [[1.0, 1.0, 1.0]]}}) as answer:
                    body = await answer.json()
                    if answer.status != 200:
                        failed.append(f"{answer.status} {body}")
                        return
                    version = body["model_version"]
                    seen[version] = seen.get(version, 0) + 1
            except Exception as error:
                failed.append(f"{type(error).__name__}: {error}")
            slow = max(slow, time.monotonic() - began)
        end, tasks = time.monotonic() + seconds, []
        while time.monotonic() < end and not stop.is_set():
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*tasks)
    print(json.dumps({"seen": seen, "failed": failed[:10], "failures": len(failed), "slowest": slow}))
asyncio.run(main())
"""


def load_pod(namespace: str, name: str, url: str, *, seconds: float, rate: float) -> dict[str, object]:
    """A pod that sends a steady load to `url` from inside the cluster until SIGUSR1, at most `seconds`, and
    prints what came of it.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY,
            "containers": [
                {
                    "name": "load",
                    "image": names.RUNTIME,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", LOAD, url, str(seconds), str(rate)],
                    "securityContext": CONTAINER_SECURITY,
                }
            ],
        },
    }


def stopped(kube: Kube, namespace: str, name: str, *, within: float) -> str:
    """Ends the load of such a pod; its log."""
    kube.run("-n", namespace, "exec", name, "--", "python", "-c", "import os; os.kill(1, 10)")
    return finished(kube, namespace, name, within=within)


def finished(kube: Kube, namespace: str, name: str, *, within: float) -> str:
    """The log of a pod once it has ended."""

    def ended() -> bool:
        return status_of(kube.get("pod", name, namespace)).get("phase") in ("Succeeded", "Failed")

    until(ended, within=within, what=lambda: f"pod {name} still runs")
    return kube.run("-n", namespace, "logs", name)
