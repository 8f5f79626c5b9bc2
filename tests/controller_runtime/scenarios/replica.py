"""A replica of the mirror controller as a process: `python -m ...replica KUBECONFIG NAMESPACE LEASE PORT`.

LEASE is the duration in seconds; deadline and period follow from it as 10 and 2 do from 15.
"""

from __future__ import annotations

import sys

import uvloop

import controller_runtime as ctrl

from .mirror import add_mirror


async def run(kubeconfig: str, namespace: str, lease: float, port: str) -> int:
    election = ctrl.LeaderElection(
        name="replicas",
        namespace=namespace,
        lease_duration=lease,
        renew_deadline=lease * 2 / 3,
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


if __name__ == "__main__":
    sys.exit(uvloop.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])))
