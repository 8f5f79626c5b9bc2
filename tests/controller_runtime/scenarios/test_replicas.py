"""Scenario 10: two processes, one leader."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest
from controller_runtime.testing._processes import free_ports

from ..fakes import until
from .forks import forked
from .mirror import converged, eventually, owner
from .replica import main

pytestmark = pytest.mark.apiserver

GAUGE = 'leader_election_master_status{name="replicas"} '


@contextmanager
def replica(
    server: Envtest, space: str, name: str, lease: float, deadline: float, folder: Path
) -> Iterator[tuple[BaseProcess, int]]:
    """A process that acts as the user `name`, whom the audit log will know."""
    server.user(name, ["system:masters"])
    kubeconfig = server.kubeconfig(folder / f"{name}.kubeconfig", user=name)
    (port,) = free_ports(1)
    arguments = (str(kubeconfig), space, lease, deadline, port)
    process = forked(folder / f"{name}.log", main, *arguments)
    try:
        yield process, port
    finally:
        process.kill()
        process.join()


async def leads(port: int) -> bool | None:
    """What its metrics say; None while there are none."""
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            text = await response.text()
    except aiohttp.ClientError:
        return None
    values = [line.removeprefix(GAUGE) for line in text.splitlines() if line.startswith(GAUGE)]
    return values == ["1.0"]


async def until_leading(port: int, wanted: bool = True, *, seconds: float = 60.0) -> float:
    """Wait for it; returns the seconds it took."""
    began = time.monotonic()

    async def reached() -> bool:
        return await leads(port) is wanted

    await eventually(reached, seconds=seconds)
    return time.monotonic() - began


def writers(server: Envtest, space: str) -> list[str]:
    """Who wrote ConfigMaps, in order, repetitions folded."""
    found: list[str] = []
    for event in server.audit_events():
        where = event.get("objectRef") or {}
        name = str(event["user"].get("username", ""))
        if where.get("namespace") != space or where.get("resource") != "configmaps":
            continue
        if name.startswith("replica-") and event["verb"] in ("patch", "create", "update", "delete"):
            found += [name] if found[-1:] != [name] else []
    return found


@pytest.mark.parametrize(
    ("lease", "deadline"), [(2.0, 1.9), pytest.param(15.0, 10.0, marks=pytest.mark.slow)]
)
async def test_10_a_killed_leader_is_followed_and_one_that_stops_hands_over(
    server: Envtest, space: str, tmp_path: Path, lease: float, deadline: float
) -> None:
    async with server.client() as client:

        async def load() -> None:
            for number in range(100_000):
                await client.create(owner(space, f"o{number}"))
                await asyncio.sleep(0.03)

        with ExitStack() as stack:
            first, one = stack.enter_context(replica(server, space, "replica-a", lease, deadline, tmp_path))
            await until_leading(one)
            second, two = stack.enter_context(replica(server, space, "replica-b", lease, deadline, tmp_path))
            await until_leading(two, False)
            loading = asyncio.create_task(load())
            try:
                await until(lambda: writers(server, space))
                first.kill()
                took = await until_leading(two)
                assert took > lease * 0.6, "no sooner than the lease allows"

                _, three = stack.enter_context(replica(server, space, "replica-c", lease, deadline, tmp_path))
                await until_leading(three, False)
                second.terminate()
                took = await until_leading(three)
                assert took < 3.0, "released, so nobody waits for it to run out"
                await asyncio.to_thread(second.join, 20.0)
                assert second.exitcode == 0
            finally:
                loading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await loading
            await converged(client, space)
            held = await client.get_live(ctrl.LEASE, ctrl.Key(space, "replicas"))
            assert held is not None
            assert held.spec["leaseTransitions"] == 2
            assert writers(server, space) == ["replica-a", "replica-b", "replica-c"]
