"""Plays Deployment controller, kubelet and garbage collector of one namespace.

A process of its own, so that what it knows does not die with the operator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import uvloop

import controller_runtime as ctrl
from controllers.kinds import PADDLE_MODEL, PADDLE_SERVICE
from tests.support.fakenode import FakeNode, running

COLLECTED = (
    *(PADDLE_SERVICE, ctrl.DEPLOYMENT, ctrl.CONFIG_MAP, ctrl.SERVICE, ctrl.PDB),
    *(ctrl.NETWORK_POLICY, ctrl.REPLICA_SET),
)


def serve(pod: ctrl.Object) -> Mapping[str, object]:
    """Ready at once, at an address that leaves this machine's loopback alone."""
    return running(ready=True, ip="127.0.0.1")


async def orphans(client: ctrl.Client, namespace: str) -> list[ctrl.Object]:
    """Objects whose controlling owner is gone."""
    listed = [PADDLE_MODEL, *COLLECTED]
    found = [item for kind in listed for item in await client.list_live(kind, namespace=namespace)]
    alive = {item.uid for item in found}
    return [item for item in found if item.controller_uid and item.controller_uid not in alive]


async def collect(client: ctrl.Client, namespace: str) -> bool:
    """One turn of the garbage collector. True if it found anything."""
    found = await orphans(client, namespace)
    for item in found:
        if not item.deleting:
            await client.delete(item.kind, item.key, uid=item.uid)
    return bool(found)


async def run(kubeconfig: str, namespace: str) -> None:
    async with ctrl.connect(ctrl.Config.load(kubeconfig), field_manager="kubelet") as client:
        node = FakeNode(client, namespace, behave=serve, linger=False)
        while True:
            try:
                changed = await node.step()
                changed = await collect(client, namespace) or changed
            except (ctrl.NotFound, ctrl.Conflict):
                changed = True  # someone was faster: look again
            await asyncio.sleep(0.05 if changed else 0.25)


def main(kubeconfig: str, namespace: str) -> None:
    uvloop.run(run(kubeconfig, namespace))
