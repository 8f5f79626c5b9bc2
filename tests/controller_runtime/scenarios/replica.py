"""A replica of the mirror controller, to be run as a process."""

from __future__ import annotations

import uvloop

import controller_runtime as ctrl

from .mirror import add_mirror


def main(kubeconfig: str, namespace: str, lease: float, deadline: float, port: int) -> int:
    """Until a signal. The election's retry period follows from `lease` as 2 does from 15."""
    return uvloop.run(run(kubeconfig, namespace, lease, deadline, port))


async def run(kubeconfig: str, namespace: str, lease: float, deadline: float, port: int) -> int:
    election = ctrl.LeaderElection(
        name="replicas",
        namespace=namespace,
        lease_duration=lease,
        renew_deadline=deadline,
        retry_period=lease / 7.5,
    )
    manager = ctrl.Manager(
        ctrl.Config.load(kubeconfig),
        field_manager="replica",
        namespaces=[namespace],
        leader_election=election,
        metrics_address=f"127.0.0.1:{port}",
    )
    add_mirror(manager)
    return await manager.run_until_signal()
