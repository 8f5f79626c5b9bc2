"""The plugin against a real API server: statuses by hand, an operator that is only the step machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import controller_runtime as ctrl
from cli.cluster import COMMAND, LABEL_REVISION, LABEL_SERVICE
from controllers.kinds import CANARY_ANALYSIS, PADDLE_MODEL, PADDLE_SERVICE
from controllers.rollout import canary
from controllers.rollout.canary import Phase
from hack.cluster import paths
from hack.plugin import build
from tests.cli import objects
from tests.controllers.rollout.test_canary_desk import Desk, at

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver


class Kubectl:
    """`kubectl paddle canary ...` as a user types it."""

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str) -> None:
        self.options = ["-n", namespace, "--kubeconfig", str(kubeconfig)]
        self.path = f"{folder}:{Path(paths.kubectl()).parent}:{os.environ['PATH']}"
        self.home = str(folder)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(str(paths.kubectl()), "paddle", "canary", *arguments, *self.options),
            env={"PATH": self.path, "HOME": self.home},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode or 0, out.decode().strip(), err.decode().strip()


@pytest.fixture
def kubectl(apiserver: Envtest, namespace: str, tmp_path: Path) -> Kubectl:
    build(tmp_path / "kubectl-paddle")
    return Kubectl(tmp_path, apiserver.kubeconfig(tmp_path / "kubeconfig"), namespace)


def body(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": PADDLE_SERVICE.api_version,
        "kind": "PaddleService",
        "metadata": {"name": "svc", "namespace": namespace},
        "spec": {"models": [{"name": "m", "modelRef": {"name": "m"}}], "replicas": 4},
    }


async def told(client: ctrl.Client, key: ctrl.Key, desk: Desk) -> None:
    status = objects.service(desk)["status"]
    assert isinstance(status, dict)
    kept = ("canary", "stableRevision", "updatedRevision", "phase")
    await client.apply_status(PADDLE_SERVICE, key, {name: status[name] for name in kept})


@asynccontextmanager
async def operator(client: ctrl.Client, key: ctrl.Key, desk: Desk) -> AsyncIterator[None]:
    """Does what the service's command says."""

    async def obey() -> None:
        while True:
            found = await client.get_live(PADDLE_SERVICE, key)
            given = canary.command(found.annotations.get(COMMAND, "")) if found else None
            if given is not None and given.token != desk.state.token:
                desk.look(1, command=given)
                await told(client, key, desk)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(obey())
    try:
        yield
    finally:
        task.cancel()


async def test_commands_and_views(apiserver: Envtest, namespace: str, kubectl: Kubectl) -> None:
    key, desk = ctrl.Key(namespace, "svc"), at(Phase.Analysing)
    async with apiserver.client() as client:
        code, _, err = await kubectl("status", "svc")
        assert code == 1
        assert err == (
            f"error: there is no PaddleService or PaddleModel 'svc' in namespace {namespace}: "
            "kubectl get paddleservices -A lists them"
        )
        await client.create(body(namespace))
        code, out, _ = await kubectl("explain", "svc")
        assert code == 0
        assert out.startswith("svc: no canary runs; waits for ")

        await told(client, key, desk)
        await _judged(client, namespace, desk)
        code, out, err = await kubectl("status", "svc")
        assert code == 0, err
        assert f"Service:    {namespace}/svc" in out
        assert "Weight:     [##......................................] 5 %, verified" in out
        assert "m candidate        34" in out
        _, out, _ = await kubectl("explain", "svc")
        assert "last look: m: 34 requests of the candidate, 50 are needed" in out

        async with operator(client, key, desk):
            assert await kubectl("pause", "svc") == (0, "svc: run 1: pause: done, now Paused", "")
            code, out, err = await kubectl("resume", "svc")
            assert (code, err) == (0, "")
            assert out.startswith("svc: run 1: resume: done")
            watch = await kubectl.start("status", "svc", "-w")
            try:
                assert watch.stdout is not None
                await asyncio.wait_for(watch.stdout.readline(), 60)
                assert (await kubectl("abort", "svc"))[0] == 0
                desk.look(1)
                await told(client, key, desk)
                shown, _ = await asyncio.wait_for(watch.communicate(), 120)
            finally:
                if watch.returncode is None:
                    watch.kill()
            assert watch.returncode == 1
            assert shown.decode().splitlines()[-1] == "svc: run 1 ended: Aborted (aborted by command)"
        code, _, err = await kubectl("promote", "svc", "--full")
        assert code == 1
        assert err.startswith("error: promote-full does nothing in phase ")
        _, out, _ = await kubectl("history", "svc")
        assert out.splitlines()[1].split()[:4] == ["1.2", "new", "-", "Aborted"]


async def _judged(client: ctrl.Client, namespace: str, desk: Desk) -> None:
    """The step's CanaryAnalysis, as the operator makes it, with what was measured."""
    state = desk.state
    wire = objects.analysis(desk)
    spec, status = wire["spec"], wire["status"]
    assert isinstance(spec, dict)
    assert isinstance(status, dict)
    name = canary.analysis_name("svc", state)
    labels = {LABEL_SERVICE: "svc", LABEL_REVISION: state.candidate}
    more = {
        "service": "svc",
        "baseline": state.stable,
        "weight": 5,
        "windowStart": objects.stamp(objects.NOW),
        "models": [{"name": "m"}],
    }
    await client.create(
        {
            "apiVersion": CANARY_ANALYSIS.api_version,
            "kind": "CanaryAnalysis",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {**spec, **more},
        }
    )
    await client.apply_status(CANARY_ANALYSIS, ctrl.Key(namespace, name), status)


async def test_a_model_that_serves_nothing_yet(apiserver: Envtest, namespace: str, kubectl: Kubectl) -> None:
    async with apiserver.client() as client:
        model = {
            "apiVersion": PADDLE_MODEL.api_version,
            "kind": "PaddleModel",
            "metadata": {"name": "m", "namespace": namespace},
            "spec": {"framework": "paddle", "version": "v1.0.0", "modelPath": "s3://bucket/model"},
        }
        await client.create(model)
        code, _, err = await kubectl("status", "m")
        assert (code, err) == (1, "error: PaddleModel m serves nothing yet: it is in phase none")
