"""The controller as the operator runs it: manager, caches, watches, prober; a fake node on the other side."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running
from controllers import caches
from controllers.kinds import FIELD_MANAGER, PADDLE_SERVICE
from controllers.options import Options
from controllers.paddleservice import PaddleServiceReconciler, setup
from tests.support import fakenode

from .harness import Harness, condition, pinned

pytestmark = pytest.mark.apiserver


@asynccontextmanager
async def operator(apiserver: Envtest, namespace: str, url: str = "") -> AsyncIterator[ctrl.Manager]:
    manager = ctrl.Manager(
        apiserver.config, field_manager=FIELD_MANAGER, namespaces=[namespace], graceful_timeout=2.0
    )
    caches.configure(manager)
    setup(manager, Options(runtime_image="paddle-runtime:dev"), probe_url=lambda target: url)
    async with running(manager):
        yield manager


async def until(
    harness: Harness, question: Callable[[dict[str, object]], bool], *, timeout: float = 20.0
) -> dict[str, object]:
    """The status once `question` is true of it; the node works meanwhile."""
    status: dict[str, object] = {}
    try:
        async with asyncio.timeout(timeout):
            while True:
                await harness.node.step()
                status = await harness.status()
                if question(status):
                    return status
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never happened; status is {status}") from None


@pytest.fixture
async def answer() -> AsyncIterator[tuple[dict[str, object], str]]:
    """What every pod answers on /progress, and where."""
    body: dict[str, object] = {"stage": "Pulling", "models": []}

    async def progress(request: web.Request) -> web.Response:
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/progress", progress)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield body, f"http://127.0.0.1:{port}/progress"
    await runner.cleanup()


async def test_from_apply_to_ready_and_to_the_next_version(
    harness: Harness, apiserver: Envtest, namespace: str, answer: tuple[dict[str, object], str]
) -> None:
    body, url = answer
    model = {"name": "resnet50", "state": "Pulling", "bytesDone": 5_000_000, "bytesTotal": 10_000_000}
    body["models"] = [model]
    harness.node.behave = lambda pod: fakenode.pulling()
    async with operator(apiserver, namespace, url):
        await harness.apply(replicas=2)
        status = await until(harness, lambda s: "download" in s)
        assert status["phase"] == "Deploying"
        assert "pulling resnet50 v1.0.0" in str(status["message"])
        harness.node.behave = fakenode.serve
        status = await until(harness, lambda s: s.get("phase") == "Ready")
        first = status["stableRevision"]
        await harness.apply(replicas=2, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}])
        status = await until(
            harness, lambda s: s.get("phase") == "Ready" and s.get("stableRevision") != first
        )
        assert status["display"] == {"ready": "2/2"}
        before = (await harness.service()).resource_version
        patch = {"metadata": {"labels": {"touched": "1"}}}
        touched = await harness.live.patch(PADDLE_SERVICE, harness.key, patch)
        assert touched.resource_version != before
        # A hand edit of a child comes back through its watch.
        patch = {"spec": {"selector": {"app": "mine"}}}
        await harness.live.patch(ctrl.SERVICE, harness.key, patch)
        for _ in range(200):
            service = await harness.live.get_live(ctrl.SERVICE, harness.key)
            if service is not None and "app" not in service.spec["selector"]:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the Service was not restored")


async def test_a_model_that_resolves_wakes_the_services_that_name_it(
    harness: Harness, apiserver: Envtest, namespace: str
) -> None:
    async with operator(apiserver, namespace, "http://127.0.0.1:1/progress"):
        await harness.apply(models=[{"name": "m", "modelRef": {"name": "ma"}}])
        status = await until(harness, lambda s: s.get("phase") == "Initialized")
        assert condition(status, "Ready")["reason"] == "ModelNotFound"
        await harness.model("ma")
        await until(harness, lambda s: condition(s, "Ready").get("reason") == "WaitingForModel")
        await harness.resolve("ma")
        await until(harness, lambda s: s.get("phase") == "Ready")


async def test_the_declared_permissions_are_enough(
    harness: Harness, apiserver: Envtest, namespace: str
) -> None:
    """The whole first rollout and an update, as a user who may do what `rules` say and nothing else."""
    rules = [
        {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in PaddleServiceReconciler.rules
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
    meta = {"name": "operator", "namespace": namespace}
    await harness.live.create(role | {"metadata": meta})
    user = f"operator-of-{namespace}"[:60]
    await harness.live.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        }
    )
    manager = ctrl.Manager(
        apiserver.user(user), field_manager=FIELD_MANAGER, namespaces=[namespace], graceful_timeout=2.0
    )
    caches.configure(manager)
    setup(
        manager, Options(runtime_image="paddle-runtime:dev"), probe_url=lambda target: "http://127.0.0.1:1/"
    )
    async with running(manager):
        limit = {"revisionHistoryLimit": 0}
        await harness.apply(replicas=1, **limit)
        status = await until(harness, lambda s: s.get("phase") == "Ready")
        first = status["stableRevision"]
        await harness.apply(replicas=1, models=[{"name": "resnet50", "pinned": pinned("v1.1.0")}], **limit)
        await until(harness, lambda s: s.get("phase") == "Ready" and s.get("stableRevision") != first)
        await until_gone(harness, str(first))


async def until_gone(harness: Harness, name: str) -> None:
    for _ in range(400):
        if name not in await harness.deployments():
            return
        await harness.node.step()
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is still there")
