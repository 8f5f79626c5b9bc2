"""The whole of it against a real API server: routers' objects, authority, tokens, a real router process."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

import controller_runtime as ctrl
from controllers.kinds import FIELD_MANAGER, LABEL_MANAGED_BY
from controllers.options import Options
from controllers.resources import router
from controllers.traffic import Provider, Unreachable, Verified, to_wire
from controllers.traffic.envoy.admission import AUDIENCE, Denied, TokenReviews
from controllers.traffic.envoy.secret import SECRET_NAME, Authorities
from controllers.traffic.options import TrafficOptions
from controllers.traffic.setup import setup
from tests.controllers.traffic.entrypoint import POD, Process
from tests.controllers.traffic.proxy import backends, free_ports, split, until
from tests.support.operator import eventually, running

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver


@dataclass
class Operator:
    """The traffic part of the operator in this process; `namespace` is its own and the service's."""

    namespace: str
    client: ctrl.Client
    provider: Provider
    told: list[ctrl.Key]
    ads_port: int

    async def get(self, kind: ctrl.Kind, name: str = router.NAME) -> ctrl.Object:
        key = ctrl.Key(self.namespace, name)
        found = await eventually(self.client, kind, key, lambda one: one, within=60.0)
        assert found is not None
        return found


@asynccontextmanager
async def operator(
    apiserver: Envtest, client: ctrl.Client, namespace: str, ads_port: int
) -> AsyncIterator[Operator]:
    told: list[ctrl.Key] = []
    made: list[Provider] = []
    options = TrafficOptions(
        image="router:1", address=f"127.0.0.1:{ads_port}", advertise="192.0.2.1", namespace=namespace,
        ads=f"127.0.0.1:{ads_port}",
    )  # fmt: skip
    channel = ctrl.Channel()
    channel.enqueue = lambda key, priority=None: told.append(key)  # type: ignore[method-assign]

    def add(manager: ctrl.Manager, chosen: Options) -> None:
        made.append(setup(manager, chosen.traffic, channel)["Envoy"])

    chosen = Options(runtime_image="r:1", traffic=options)
    async with running(apiserver.config, namespace, chosen, [add]):
        yield Operator(namespace, client, made[0], told, ads_port)


def pod(namespace: str, name: str = POD) -> ctrl.JSON:
    labels = router.selector()
    spec = {"serviceAccountName": "default", "containers": [{"name": "router", "image": "router:1"}]}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def token(client: ctrl.Client, of: ctrl.Object, audience: str = AUDIENCE) -> str:
    bound = {"apiVersion": "v1", "kind": "Pod", "name": of.name, "uid": of.uid}
    path = f"/api/v1/namespaces/{of.namespace}/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [audience], "boundObjectRef": bound}}  # fmt: skip
    return str((await client.request("POST", path, body=body))["status"]["token"])


async def router_pod(client: ctrl.Client, namespace: str) -> ctrl.Object:
    """A pod as the Deployment would make one, ready, with nothing in it."""
    account = {"name": "default", "namespace": namespace}
    await client.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    made = await client.create(pod(namespace))
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
    await client.patch(ctrl.POD, made.key, {"status": ready}, subresource="status")
    return made


async def test_a_router_from_nothing_to_a_leader_that_went_and_came(
    apiserver: Envtest, namespace: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    (ads_port,) = free_ports(1)
    service = ctrl.Key(namespace, "ocr")
    process = Process(tmp_path)
    async with (
        apiserver.client() as client,
        backends("aaaa", "bbbb", host="0.0.0.0") as (stable, candidate),
        aiohttp.ClientSession() as session,
    ):

        async def answers() -> str:
            async with session.get(f"http://127.0.0.1:{port}/predict") as answer:
                return f"{answer.status} {await answer.text()}"

        for revision, backend in (("aaaa", stable), ("bbbb", candidate)):
            await client.create(endpoint_slice(namespace, revision, backend.port))
        try:
            async with operator(apiserver, client, namespace, ads_port) as own:
                wanted = split(1, 100, port=port, candidate="bbbb", service=service)
                await own.provider.apply(wanted)
                files = (await own.get(ctrl.CONFIG_MAP)).raw["data"]
                verdict = await own.provider.verify(wanted)
                assert isinstance(verdict, Unreachable), verdict
                process.write(files, await token(client, await router_pod(client, namespace)))
                await process.start()
                await until(lambda: _verified(own.provider, wanted), f"verified\n{process.log()}")
                assert await answers() == "200 bbbb"
                assert service in own.told
                kept = await own.get(ctrl.CONFIG_MAP, router.SNAPSHOT)
                snapshot = base64.b64decode(kept.raw["binaryData"][router.FALLBACK_FILE])
            assert await answers() == "200 bbbb"  # nobody leads, and it goes on
            assert await process.end() == 0, process.log()
            assert "drained" in process.log()

            # It starts while nobody leads. There is no DNS here, so the endpoint is put in by hand.
            process.write(
                files, (tmp_path / "token" / "token").read_text(), snapshot=_local(snapshot, candidate.port)
            )
            await process.start()
            await until(lambda: _answers(answers, "200 bbbb"), f"served alone\n{process.log()}")
            assert "serving what was confirmed last" in process.log()
            lost: list[str] = []
            done = asyncio.Event()

            async def load() -> None:
                while not done.is_set():
                    found = await answers()
                    if not found.startswith("200"):
                        lost.append(found)
                    await asyncio.sleep(0.005)

            async with asyncio.TaskGroup() as group:
                group.create_task(load())
                try:
                    async with operator(apiserver, client, namespace, ads_port) as own:
                        wanted = split(2, port=port, service=service)
                        await own.provider.apply(wanted)
                        await until(lambda: _verified(own.provider, wanted), f"followed\n{process.log()}")
                        await until(lambda: _answers(answers, "200 aaaa"), "the new Envoy answers")
                finally:
                    done.set()
            assert not lost
            assert "following it from now on" in process.log()
        finally:
            await process.end()


def _local(packed: bytes, port: int) -> bytes:
    import gzip

    body = json.loads(gzip.decompress(packed))
    for cluster in body["clusters"]:
        if "load_assignment" in cluster:
            endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
            socket = endpoint["address"]["socket_address"]
            assert socket["address"].startswith("ocr-")
            socket.update(address="127.0.0.1", port_value=port)
    return gzip.compress(json.dumps(body).encode())


async def _verified(provider: Provider, wanted: object) -> bool:
    return isinstance(await provider.verify(wanted), Verified)  # type: ignore[arg-type]


async def _answers(ask: object, expected: str) -> bool:
    try:
        return await ask() == expected  # type: ignore[operator]
    except aiohttp.ClientError:
        return False


def endpoint_slice(namespace: str, revision: str, port: int) -> ctrl.JSON:
    labels = {
        LABEL_MANAGED_BY: FIELD_MANAGER,
        "serving.paddlepaddle.org/paddle-service": "ocr",
        "serving.paddlepaddle.org/revision": revision,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": f"ocr-{revision}", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}, {"name": "grpc", "port": port}],
        # The API server takes no loopback address in a slice.
        "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
    }  # fmt: skip


def own_address() -> str:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))
        return str(one.getsockname()[0])


async def test_what_routers_need_is_made_once_and_taken_away(apiserver: Envtest, namespace: str) -> None:
    (ads_port,) = free_ports(1)
    async with apiserver.client() as client, operator(apiserver, client, namespace, ads_port) as own:
        wanted = split(1, port=20000, service=ctrl.Key(namespace, "ocr"))
        await own.provider.apply(wanted)
        deployment = await own.get(ctrl.DEPLOYMENT)
        for kind in (ctrl.PDB, ctrl.NETWORK_POLICY, ctrl.CONFIG_MAP):
            assert (await own.get(kind)).labels["serving.paddlepaddle.org/role"] == "router"
        where = await own.get(ctrl.ENDPOINT_SLICE, "paddle-operator-ads")
        assert where.raw["endpoints"][0]["addresses"] == ["192.0.2.1"]
        assert where.raw["ports"][0]["port"] == ads_port
        assert (await own.get(ctrl.SECRET, SECRET_NAME)).raw["data"].keys() == {"ca-0.crt", "ca-0.key"}
        # Hand edits are put right, one after the other, and what nobody edited is not written again.
        before = (await own.get(ctrl.DEPLOYMENT)).resource_version
        edited = {"spec": {"maxUnavailable": 2}}
        for kind, edit in (
            (ctrl.PDB, edited),
            (ctrl.NETWORK_POLICY, {"spec": {"egress": []}}),
            (ctrl.PDB, edited),
        ):
            was = (await own.get(kind)).spec
            await client.patch(kind, deployment.key, edit)
            await eventually(client, kind, deployment.key, partial(same, was), within=60)
        assert (await own.get(ctrl.DEPLOYMENT)).resource_version == before
        await client.patch(ctrl.DEPLOYMENT, deployment.key, {"spec": {"replicas": 0}})
        await eventually(client, ctrl.DEPLOYMENT, deployment.key, replicas_are_two, within=60)


def same(spec: ctrl.JSON, found: ctrl.Object | None) -> bool:
    return found is not None and found.spec == spec


def replicas_are_two(found: ctrl.Object | None) -> bool:
    return found is not None and found.spec["replicas"] == 2


async def test_an_object_of_somebody_else_is_left_alone_and_named(apiserver: Envtest, namespace: str) -> None:
    (ads_port,) = free_ports(1)
    async with apiserver.client() as client:
        metadata = {"name": router.NAME, "namespace": namespace}
        theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}
        await client.create(theirs)
        async with operator(apiserver, client, namespace, ads_port) as own:
            wanted = split(1, port=20000, service=ctrl.Key(namespace, "ocr"))
            await own.provider.apply(wanted)

            async def told() -> bool:
                return "is not ours" in getattr(await own.provider.verify(wanted), "reason", "")

            await until(told, "it is said")
            assert (await own.get(ctrl.CONFIG_MAP)).raw["data"] == {"a": "b"}


async def test_only_a_token_for_us_and_of_a_pod_is_believed(apiserver: Envtest, namespace: str) -> None:
    async with apiserver.client() as client:
        made = await router_pod(client, namespace)
        reviews = TokenReviews(client)
        found = await reviews.admit(await token(client, made))
        assert (found.namespace, found.pod, found.uid) == (namespace, POD, made.uid)
        with pytest.raises(Denied):
            await reviews.admit(await token(client, made, audience="https://kubernetes.default.svc"))
        with pytest.raises(Denied):
            await reviews.admit("nonsense")
        good = await token(client, made)
        await client.delete(ctrl.POD, made.key)  # a pod that is gone takes its tokens with it

        async def denied() -> bool:
            try:
                await reviews.admit(good)
            except Denied:
                return True
            return False

        await until(denied, "the token of a deleted pod is refused")


async def test_two_leaders_at_once_end_with_one_authority(apiserver: Envtest, namespace: str) -> None:
    async with apiserver.client() as client:
        both = await asyncio.gather(*(Authorities(client, namespace).current(1.8e9) for _ in range(2)))
        assert both[0] == both[1]
        assert await Authorities(client, namespace).current(1.8e9 + 60) == both[0]
        later = await Authorities(client, namespace).current(both[0][0].ends - 86400)
        assert len(later) == 2
        assert later[0] == both[0][0]


async def test_a_new_leader_serves_what_the_status_says(apiserver: Envtest, namespace: str) -> None:
    """No reconcile, no apply: the persisted split is enough."""
    (ads_port,) = free_ports(1)
    async with apiserver.client() as client:
        spec = {"models": [{"name": "m", "modelRef": {"name": "m"}}]}
        body = {"apiVersion": "serving.paddlepaddle.org/v1alpha1", "kind": "PaddleService",
                "metadata": {"name": "ocr", "namespace": namespace}, "spec": spec}  # fmt: skip
        made = await client.create(body)
        wanted = split(3, port=20000, service=made.key)
        await client.apply_status(made.kind, made.key, {"traffic": to_wire(wanted) | {"provider": "Envoy"}})
        async with operator(apiserver, client, namespace, ads_port) as own:
            await own.get(ctrl.DEPLOYMENT)
            fresh = split(3, port=20000, service=made.key)
            object.__setattr__(fresh, "uid", made.uid)
            found = await own.provider.verify(fresh)
            assert isinstance(found, Unreachable), found  # known, and no router is there
