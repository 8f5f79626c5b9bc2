"""Scenario 16: our scrape beside one of Go's controller-runtime, name by name and label by label.

`metrics_of_go.json` is what a Go binary served; the slow test takes it anew (and writes it with
UPDATE_FIXTURES=1), the other compares ours with the file.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, running
from controller_runtime.testing._processes import Process, free_ports
from hack.bench.control_plane import peers
from hack.bench.control_plane.ours import FIELD_MANAGER, LABELS, SAMPLE, SampleReconciler

from .mirror import eventually

pytestmark = pytest.mark.apiserver

FIXTURE = Path(__file__).parent / "metrics_of_go.json"
PREFIXES = ("controller_runtime_", "workqueue_", "rest_client_", "leader_election_")
#: We have no webhooks and no conversion; what is ours alone has a prefix of its own.
ELSEWHERE = (
    "controller_runtime_webhook_",
    "controller_runtime_conversion_webhook_",
    "controller_runtime_py_",
)
#: Go defines it and, as of v0.24, does not register it; ours counts.
ONLY_OURS = {"leader_election_slowpath"}

Families = Mapping[str, Mapping[str, object]]


def families(text: str) -> Families:
    """Of the documented metrics in a scrape: type, labels and bucket edges."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith(PREFIXES) and not family.name.startswith(ELSEWHERE):
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            edges = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            found[family.name] = {
                "type": family.type,
                "labels": sorted(labels),
                "buckets": sorted(map(float, edges)),
            }
    return found


async def scrape(port: int) -> str:
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()
        return await response.text()


async def work(client: ctrl.Client, space: str) -> None:
    """Three samples; returns when each has its status."""
    for number in range(3):
        metadata = {"name": f"s{number}", "namespace": space}
        body = {"apiVersion": SAMPLE.api_version, "kind": SAMPLE.kind, "metadata": metadata}
        await client.create({**body, "spec": {"value": "1"}})

    async def done() -> bool:
        return all(item.status for item in await client.list_live(SAMPLE, namespace=space))

    await eventually(done, seconds=60.0)


async def of_go(server: Envtest, space: str, folder: Path) -> Families:
    contender = await asyncio.to_thread(peers.go)
    (port,) = free_ports(1)
    kubeconfig = server.kubeconfig(folder / "kubeconfig")
    options = (f"-kubeconfig-file={kubeconfig}", f"-namespace={space}", f"-metrics-address=127.0.0.1:{port}")
    process = Process([contender.command[0], *options], folder / "go.log")
    try:
        async with server.client() as client:
            await work(client, space)
        return families(await scrape(port))
    finally:
        process.stop(kill=True)


async def of_ours(server: Envtest, space: str) -> Families:
    manager = ctrl.Manager(
        server.config,
        field_manager=FIELD_MANAGER,
        namespaces=[space],
        metrics_address="127.0.0.1:0",
        leader_election=ctrl.LeaderElection(name="sample", namespace=space),
    )
    manager.cache.watch(ctrl.CONFIG_MAP, labels=LABELS)
    builder = ctrl.controller(manager).manages(SAMPLE, when=ctrl.generation_changed).owns(ctrl.CONFIG_MAP)
    builder.complete(SampleReconciler(manager.client), workers=10)
    async with server.client() as client, running(manager):
        await work(client, space)
        return families(await scrape(manager.metrics_port))


@pytest.fixture
def samples(server: Envtest) -> Envtest:
    server.install_crds(peers.HERE / "crd.yaml")
    return server


async def test_16_our_metrics_are_gos(samples: Envtest, space: str) -> None:
    ours, gos = await of_ours(samples, space), json.loads(FIXTURE.read_text())
    assert ours.keys() - gos.keys() == ONLY_OURS
    assert gos.keys() - ours.keys() == set()
    assert {name: ours[name] for name in gos} == gos


@pytest.mark.slow
async def test_16_the_fixture_is_what_a_go_binary_serves(
    samples: Envtest, space: str, tmp_path: Path
) -> None:
    gos = await of_go(samples, space, tmp_path)
    if os.environ.get("UPDATE_FIXTURES"):
        FIXTURE.write_text(json.dumps(gos, indent=1, sort_keys=True) + "\n")
    assert gos == json.loads(FIXTURE.read_text())
