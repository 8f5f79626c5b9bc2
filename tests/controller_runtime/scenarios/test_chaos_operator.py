"""The operator is killed over and over while models come, change and go; then everything must be as asked."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest
from controllers.kinds import PADDLE_MODEL, PADDLE_SERVICE
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore

from .kubelet import orphans
from .mirror import eventually

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).parents[3]
VERSIONS = ("v1.0.0", "v1.1.0", "v1.2.0")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Envtest]:
    with Envtest(crds=[ROOT / "config" / "crd"]) as env:
        yield env


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with ObjectStore.start() as store:
        for version in VERSIONS:
            files = {"inference.json": b"{}", "inference.pdiparams": version.encode()}
            store.put_all("models", {f"net/{version}/{name}": data for name, data in files.items()})
        yield store


class Operator:
    """The process, killed and started again; and how often."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path) -> None:
        self.kills = 0
        self._log = log
        self._size = 0
        self._command = (
            *(sys.executable, "-P", "-m", "controllers", f"--kubeconfig={kubeconfig}"),
            *(f"--watch-namespaces={namespace}", "--no-leader-election", "--runtime-image=runtime:1"),
            *("--health-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0"),
            *("--allowed-endpoints=127.0.0.1", "--resolve-timeout=2"),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        with self._log.open("ab") as log:
            self._size = log.tell()
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**environment, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    async def work(self, seconds: float) -> None:
        """Return `seconds` after it began to work, however slow the machine is."""
        size = self._size

        async def begun() -> bool:
            return self._log.stat().st_size > size

        await eventually(begun, seconds=60.0)
        await asyncio.sleep(seconds)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended by itself: see {self._log}"
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def kubelet(kubeconfig: Path, namespace: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.controller_runtime.scenarios.kubelet", str(kubeconfig), namespace],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        yield
        assert process.poll() is None, f"the kubelet ended by itself: {log.read_text()[-2000:]}"
    finally:
        process.kill()
        process.wait()


class Users:
    """Create, change and delete models at random; `wanted` is what they asked for last."""

    def __init__(
        self, client: ctrl.Client, namespace: str, store: ObjectStore, chance: random.Random
    ) -> None:
        self.wanted: dict[str, tuple[str, int]] = {}
        self.changes = 0
        self._client = client
        self._namespace = namespace
        self._store = store
        self._chance = chance

    async def create(self, name: str) -> None:
        self.wanted[name] = (VERSIONS[0], 1)
        await self._client.create(
            {
                "apiVersion": PADDLE_MODEL.api_version,
                "kind": PADDLE_MODEL.kind,
                "metadata": {"name": name, "namespace": self._namespace},
                "spec": {"framework": "paddle", **self._spec(*self.wanted[name])},
            }
        )

    async def change(self) -> None:
        """One random edit, deletion or creation."""
        self.changes += 1
        name = self._chance.choice(sorted(self.wanted))
        key = ctrl.Key(self._namespace, name)
        if self._chance.random() < 0.2:
            del self.wanted[name]
            await self._client.delete(PADDLE_MODEL, key)
            await self.create(f"m{1000 + self.changes}")
        else:
            self.wanted[name] = (self._chance.choice(VERSIONS), self._chance.choice((1, 2)))
            await self._client.patch(PADDLE_MODEL, key, {"spec": self._spec(*self.wanted[name])})

    def _spec(self, version: str, replicas: int) -> dict[str, object]:
        storage = {
            "endpoint": self._store.endpoint,
            "bucket": "models",
            "key": f"net/{version}/",
            "secretRef": {"name": "store"},
        }
        return {"version": version, "storage": storage, "serving": {"replicas": replicas}}


class State:
    """What is in the namespace, and what is wrong with it."""

    def __init__(self, client: ctrl.Client, namespace: str, wanted: dict[str, tuple[str, int]]) -> None:
        self._client = client
        self._namespace = namespace
        self._wanted = wanted
        self.wrong: list[str] = []

    async def right(self) -> bool:
        """Every model Ready as asked, one of each child, nothing left over."""
        wrong: list[str] = []
        models = {item.name: item for item in await self._list(PADDLE_MODEL)}
        services = {item.name: item for item in await self._list(PADDLE_SERVICE)}
        deployments = await self._list(ctrl.DEPLOYMENT)
        pods = await self._list(ctrl.POD)
        for what, found in (("models", models), ("services", services)):
            if found.keys() != self._wanted.keys():
                wrong.append(f"{what}: {sorted(found.keys() ^ self._wanted.keys())[:5]}")
        for name, (version, replicas) in self._wanted.items():
            model, service = models.get(name), services.get(name)
            if model is None or service is None:
                continue
            if model.status.get("phase") != "Ready" or model.status["observedGeneration"] != model.generation:
                phase = model.status.get("phase")
                wrong.append(f"{name}: {phase}, {str(model.status.get('message', ''))[:120]}")
            pinned = service.spec["models"][0].get("pinned", {})
            if pinned.get("version") != version or service.controller_uid != model.uid:
                wrong.append(f"{name}: pinned {pinned.get('version')}, wanted {version}")
            mine = [item for item in deployments if item.controller_uid == service.uid]
            serving = [item for item in mine if item.spec["replicas"]]
            if len(serving) != 1 or serving[0].spec["replicas"] != replicas:
                wrong.append(f"{name}: {[(item.name, item.spec['replicas']) for item in mine]}")
                continue
            running = [pod for pod in pods if pod.controller_uid == serving[0].uid]
            if len(running) != replicas:
                wrong.append(f"{name}: {len(running)} pods of {replicas}")
        wrong += [f"orphan {item!r}" for item in await orphans(self._client, self._namespace)]
        self.wrong = wrong
        return not wrong

    async def _list(self, kind: ctrl.Kind) -> list[ctrl.Object]:
        return await self._client.list_live(kind, namespace=self._namespace)


@pytest.mark.parametrize(
    ("kills", "models"),
    [
        pytest.param(5, 6, id="short"),
        pytest.param(200, 50, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_the_operator_is_killed_again_and_again(
    cluster: Envtest, store: ObjectStore, tmp_path: Path, kills: int, models: int
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    namespace = cluster.create_namespace("chaos")
    kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
    operator = Operator(kubeconfig, namespace, tmp_path / "operator.log")
    async with cluster.client(field_manager="users") as client:
        secret = {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}
        metadata = {"name": "store", "namespace": namespace}
        await client.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret}
        )
        users = Users(client, namespace, store, chance)
        state = State(client, namespace, users.wanted)
        with kubelet(kubeconfig, namespace, tmp_path / "kubelet.log"):
            try:
                for number in range(models):
                    await users.create(f"m{number}")
                while operator.kills < kills:
                    operator.start()
                    for _ in range(chance.randrange(4)):
                        await users.change()
                    if chance.random() < 0.25:
                        await asyncio.sleep(chance.uniform(0.0, 1.5))  # while it starts
                    else:
                        await operator.work(chance.uniform(0.0, 1.5))
                    operator.kill()
                operator.start()
                try:
                    await eventually(state.right, seconds=60.0 + 3.0 * models)
                except TimeoutError:
                    raise AssertionError(f"after {kills} kills (seed {seed}): {state.wrong[:8]}") from None
            finally:
                operator.stop()
    print(f"{operator.kills} kills, {users.changes} changes, {len(users.wanted)} models as asked")
