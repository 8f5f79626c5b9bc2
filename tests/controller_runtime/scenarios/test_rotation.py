"""Scenario 12: tokens and authorities change while the manager is at work."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running

from .mirror import add_mirror, converged, eventually, metric, owner, requests

pytestmark = pytest.mark.apiserver

WRITES = ("create", "update", "patch", "delete")
#: The token file is looked at once a second; the rest is for a request on its way on a busy machine.
DEADLINE = timedelta(seconds=3.0)


@asynccontextmanager
async def load(client: ctrl.Client, space: str) -> AsyncIterator[list[str]]:
    """Owners, made one after the other all the time; the list has their names. Outages are sat out."""
    made: list[str] = []

    async def make() -> None:
        for number in itertools.count():
            name = f"o{number}"
            while True:
                with contextlib.suppress(ctrl.TransportError):
                    await client.apply(owner(space, name))
                    break
                await asyncio.sleep(0.05)
            made.append(name)
            await asyncio.sleep(0.03)

    task = asyncio.create_task(make())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Account:
    """A service account that may do everything in its namespace, and the file with its token."""

    def __init__(self, client: ctrl.Client, space: str, file: Path) -> None:
        self.uid = ""
        self.file = file
        self._client = client
        self._space = space
        self._path = f"/api/v1/namespaces/{space}/serviceaccounts"

    async def make(self) -> None:
        body: dict[str, object] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "op"}}
        answer = await self._client.request("POST", self._path, body=body)
        self.uid = answer["metadata"]["uid"]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await self._client.request("POST", f"{self._path}/op/token", body=body)
        beside = self.file.with_suffix(".next")
        beside.write_text(answer["status"]["token"])
        os.replace(beside, self.file)

    async def replace(self) -> None:
        """Another account of the same name: the tokens of the first are worth nothing from now on."""
        await self._client.request("DELETE", f"{self._path}/op")
        await self.make()

    async def bind(self) -> None:
        rbac = "rbac.authorization.k8s.io"
        await self._client.create(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "op", "namespace": self._space},
                "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": rbac},
                "subjects": [{"kind": "ServiceAccount", "name": "op", "namespace": self._space}],
            }
        )


def as_account(server: Envtest, folder: Path, account: Account) -> ctrl.Config:
    """What a kubeconfig with a token file gives."""
    tls = server.config.tls
    assert tls is not None
    file = folder / "kubeconfig"
    file.write_text(
        "{apiVersion: v1, kind: Config, current-context: c,\n"
        f" clusters: [{{name: c, cluster: {{server: '{server.server}',"
        f" certificate-authority: '{tls.ca_file}'}}}}],\n"
        f" users: [{{name: c, user: {{tokenFile: '{account.file}'}}}}],\n"
        " contexts: [{name: c, context: {cluster: c, user: c}}]}\n"
    )
    return ctrl.Config.load(os.fspath(file))


async def status_of(config: ctrl.Config, path: str, token: str, context: ssl.SSLContext) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(config.server + path, headers=headers, ssl=context) as response,
    ):
        return response.status


def written_at(event: Mapping[str, object]) -> datetime:
    return datetime.fromisoformat(str(event["requestReceivedTimestamp"]))


def user_of(event: Mapping[str, object]) -> str:
    user = event["user"]
    assert isinstance(user, dict)
    return str(user.get("uid", ""))


@pytest.mark.parametrize("revoked", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_12_a_new_account_and_token_under_load(
    server: Envtest, space: str, tmp_path: Path, revoked: bool
) -> None:
    async with server.client() as client:
        account = Account(client, space, tmp_path / "token")
        await account.make()
        await account.bind()
        config = as_account(server, tmp_path, account)
        assert config.tls is not None
        context = config.tls.context()
        manager = ctrl.Manager(config, field_manager="rotating", namespaces=[space])
        mirror = add_mirror(manager)

        def writes(uid: str) -> list[Mapping[str, object]]:
            return [item for item in requests(server, "rotating", WRITES, space) if user_of(item) == uid]

        async with running(manager) as task:
            async with load(client, space) as made:
                first = account.uid

                async def at_work() -> bool:
                    return bool(writes(account.uid))

                await eventually(at_work)
                old = account.file.read_text()
                await account.replace()
                replaced = datetime.now(UTC)
                await eventually(at_work)
                if revoked:  # the server remembers good tokens for 10 s

                    async def refused() -> bool:
                        path = f"/api/v1/namespaces/{space}/configmaps"
                        return await status_of(config, path, old, context) == 401

                    await eventually(refused, seconds=30.0)
                count = len(made)

                async def more() -> bool:
                    return len(made) > count + 20

                await eventually(more)
            state = await converged(client, space)
            assert not task.done()
    assert set(state) >= set(made)
    assert mirror.breaches == []
    assert metric(manager, "controller_runtime_reconcile_errors_total", controller="mirror") <= 1
    assert writes(account.uid), "the new token is in use"
    late = [item for item in writes(first) if written_at(item) > replaced + DEADLINE]
    assert late == [], "nothing is written with the old token after its time"


async def test_12_a_new_authority_under_load(server: Envtest, space: str, tmp_path: Path) -> None:
    tls = server.config.tls
    assert tls is not None
    before = ssl.create_default_context(cafile=tls.ca_file)
    async with server.client() as client:
        account = Account(client, space, tmp_path / "token")
        await account.make()
        await account.bind()
        config = as_account(server, tmp_path, account)
        election = ctrl.LeaderElection(name="lock", namespace=space, lease_duration=60, renew_deadline=50)
        manager = ctrl.Manager(config, field_manager="trusting", namespaces=[space], leader_election=election)
        mirror = add_mirror(manager)
        async with running(manager) as task:
            async with load(client, space) as made:

                async def more() -> bool:
                    return len(made) > count + 8

                count = 0
                await eventually(more)
                server.rotate_serving_authority()
                server.stop_apiserver()
                await asyncio.to_thread(server.start_apiserver)
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await status_of(config, "/version", "", before)
                count = len(made)
                await eventually(more, seconds=60.0)
            state = await converged(client, space)
            assert not task.done()
            assert manager.leading
    assert set(state) >= set(made)
    assert mirror.breaches == []
    # A server that has just started knows no roles yet; what is refused then is listed anew, once.
    assert len(requests(server, "trusting", ["list"], space)) <= 2
