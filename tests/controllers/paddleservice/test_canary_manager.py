"""A whole run as the operator does it: manager, caches, watches, only its own permissions; killed twice."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import generate_latest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running
from controllers import caches
from controllers.analysis.server import Server
from controllers.kinds import FIELD_MANAGER, PADDLE_SERVICE
from controllers.options import Options
from controllers.paddleservice import PaddleServiceReconciler, setup
from controllers.traffic.gateway import HTTPRoutes
from controllers.traffic.routeprovider import Routes

from .canaries import Canaries

pytestmark = pytest.mark.apiserver

OPTIONS = Options(
    runtime_image="paddle-runtime:dev", prometheus=(Server(name="default", url="http://p:9090"),)
)


async def permitted(
    canaries: Canaries,
    apiserver: Envtest,
    declared: Iterable[ctrl.Rule] = PaddleServiceReconciler.rules,
) -> ctrl.Config:
    """A user who may do what `rules` say and nothing else."""
    rules = [
        {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in declared
    ]
    meta = {"name": "operator", "namespace": canaries.namespace}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules}
    await canaries.live.create(role)
    user = f"operator-of-{canaries.namespace}"[:60]
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }
    await canaries.live.create(binding)
    return apiserver.user(user)


@asynccontextmanager
async def operator(
    canaries: Canaries, config: ctrl.Config, *, routes: bool = False
) -> AsyncIterator[ctrl.Manager]:
    """routes: of the Gateway API, instead of the scripted routers."""
    manager = ctrl.Manager(
        config, field_manager=FIELD_MANAGER, namespaces=[canaries.namespace], graceful_timeout=2.0
    )
    caches.configure(manager)
    setup(
        manager,
        OPTIONS,
        probe_url=lambda target: "http://127.0.0.1:1/progress",
        # Here time passes faster than proxies could follow.
        providers={"GatewayAPI": Routes(manager.client, HTTPRoutes(), dwell=0)}
        if routes
        else {"Envoy": canaries.routers},
        clock=lambda: datetime.now(UTC) + canaries.later,
    )
    async with running(manager):
        yield manager


async def until(canaries: Canaries, *phases: str, path: str = "", turns: int = 200) -> None:
    """The world turns, and time with it, until the run is in one of these phases."""
    for turn in range(turns):
        await canaries.world()
        status = await canaries.status()
        state = status.get("canary", {})
        way = state.get("path", {}).get("way", "Direct")  # type: ignore[attr-defined]
        if status.get("stableRevision") and state.get("phase") in phases and (not path or way == path):  # type: ignore
            return
        canaries.later += timedelta(seconds=5)
        # Time passes faster than the operator knows, so that it has to be told to look.
        await canaries.live.patch(
            PADDLE_SERVICE, canaries.key, {"metadata": {"annotations": {"turn": str(turn)}}}
        )
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {phases}: {await canaries.canary_status()}")


async def test_a_run_goes_on_under_another_operator(canaries: Canaries, apiserver: Envtest) -> None:
    config = await permitted(canaries, apiserver)
    await canaries.canary("v1.0.0")
    async with operator(canaries, config):
        await until(canaries, "Idle")
        await canaries.canary("v1.1.0", stableForSeconds=30)
        await until(canaries, "Preparing", "Shifting")
    async with operator(canaries, config):
        canaries.verdict = ""
        await until(canaries, "Analysing")
    async with operator(canaries, config) as manager:
        await canaries.command("pause")
        await until(canaries, "Paused")
        told = generate_latest(manager.metrics.registry).decode()
        labels = f'paddle_namespace="{canaries.namespace}",paddle_service="resnet50"'
        assert "paddle_canary_phase{" + 'paddle_namespace="' in told
        assert f'paddle_canary_phase{{{labels},pause="User",phase="Paused"}} 1.0' in told.replace(
            f'{{{labels},phase="Paused",pause="User"}}', f'{{{labels},pause="User",phase="Paused"}}'
        )
        assert f'paddle_canary_weight{{kind="desired",{labels}}} 50.0' in told
        await canaries.command("resume", token="two")
        canaries.verdict = "Passed"
        await until(canaries, "Draining")
        await until(canaries, "Idle", path="Direct")
        told = generate_latest(manager.metrics.registry).decode()
        assert f'paddle_canary_runs_total{{outcome="Promoted",{labels}}} 1.0' in told
        await canaries.live.delete(PADDLE_SERVICE, canaries.key)
        for _ in range(400):
            told = generate_latest(manager.metrics.registry).decode()
            if labels not in told:
                break
            await asyncio.sleep(0.05)
        assert labels not in told, "no series of a service that is gone"
    assert canaries.mixed == []
