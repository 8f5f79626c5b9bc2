"""The cast of the chaos scenario: an operator that is killed, users who keep asking, the state asked for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

import controller_runtime as ctrl
from controllers.kinds import ANNOTATION_IDENTITY, LABEL_REVISION, PADDLE_MODEL, PADDLE_SERVICE

from . import kubelet
from .forks import forked
from .mirror import eventually

VERSIONS = ("v1.0.0", "v1.1.0", "v1.2.0")


def operate(arguments: list[str]) -> int:
    from controllers.__main__ import main

    return main(arguments)


class Operator:
    """The process, killed and started again; `kills` says how far it had come each time."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path) -> None:
        self.kills: Counter[str] = Counter()
        self._log = log
        self._size = 0
        self._arguments = [
            *(f"--kubeconfig={kubeconfig}", f"--watch-namespaces={namespace}", "--no-leader-election"),
            *("--runtime-image=runtime:1", "--health-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0"),
            *("--allowed-endpoints=127.0.0.1", "--resolve-timeout=2"),
        ]
        self._process: Process | None = None

    def start(self) -> None:
        self._size = self._log.stat().st_size if self._log.exists() else 0
        self._process = forked(self._log, operate, self._arguments)

    async def work(self, seconds: float) -> None:
        """Return `seconds` after it began to work, however slow the machine is."""

        async def begun() -> bool:
            return "controller starts" in self._said()

        await eventually(begun, seconds=60.0)
        await asyncio.sleep(seconds)

    def kill(self, settled: bool) -> None:
        """SIGKILL, noted under: starting, syncing, working or idle."""
        assert self._process is not None
        assert self._process.exitcode is None, f"the operator ended by itself: see {self._log}"
        self._process.kill()
        self._process.join()
        said = self._said()
        phase = "idle" if settled else "working"
        if "controller starts" not in said:
            phase = "syncing" if said else "starting"
        self.kills[phase] += 1

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def _said(self) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._size)
            return log.read().decode(errors="replace")


@contextmanager
def playing_kubelet(kubeconfig: Path, namespace: str, log: Path) -> Iterator[None]:
    """A process of its own, so that what it knows does not die with the operator."""
    process = forked(log, kubelet.main, str(kubeconfig), namespace)
    try:
        yield
        assert process.exitcode is None, f"the kubelet ended by itself: {log.read_text()[-2000:]}"
    finally:
        process.kill()
        process.join()


class Users:
    """Create, change and delete models at random; `wanted` is what they asked for last."""

    def __init__(self, client: ctrl.Client, namespace: str, endpoint: str, chance: random.Random) -> None:
        self.wanted: dict[str, tuple[str, int]] = {}
        self.changes = 0
        self._client = client
        self._namespace = namespace
        self._endpoint = endpoint
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
            "endpoint": self._endpoint,
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
        self.phases: Counter[str] = Counter()
        """Of the models, at the last look."""

    async def settled(self) -> bool:
        """Whether every model says that it is as asked: little to do for the operator."""
        models = await self._list(PADDLE_MODEL)
        self.phases = Counter(_phase(item) for item in models)
        return self.phases.keys() <= {"Ready"}

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
            if _phase(model) != "Ready":
                wrong.append(f"{name}: {_phase(model)}, {str(model.status.get('message', ''))[:120]}")
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
        wrong += [f"orphan {item!r}" for item in await kubelet.orphans(self._client, self._namespace)]
        wrong += [f"duplicate {names}" for names in await self._duplicates(deployments)]
        self.wrong = wrong
        return not wrong

    async def _duplicates(self, deployments: list[ctrl.Object]) -> list[str]:
        """Objects of which a service has two: of the same revision, or outside revisions."""
        found: dict[tuple[str, ...], list[str]] = {}
        for item in deployments:
            identity = item.annotations.get(ANNOTATION_IDENTITY, item.name)
            found.setdefault((item.controller_uid or "", identity), []).append(item.name)
        for kind in (ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
            for item in await self._list(kind):
                place = (kind.kind, item.controller_uid or "", item.labels.get(LABEL_REVISION, ""))
                if item.controller_uid:
                    found.setdefault(place, []).append(item.name)
        return [" and ".join(names) for names in found.values() if len(names) > 1]

    async def _list(self, kind: ctrl.Kind) -> list[ctrl.Object]:
        return await self._client.list_live(kind, namespace=self._namespace)


def _phase(model: ctrl.Object) -> str:
    """As of this generation; "Unseen" while the operator has not got to it."""
    seen = model.status.get("observedGeneration") == model.generation
    return str(model.status.get("phase") or "Unseen") if seen else "Unseen"
