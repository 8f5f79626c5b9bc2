"""The same small controller on `controller_runtime`: one owned ConfigMap and a status for each Sample."""

from __future__ import annotations

import argparse
import sys

import uvloop

import controller_runtime as ctrl

SAMPLE = ctrl.Kind("bench.example.com", "v1", "Sample", "samples")
FIELD_MANAGER = "sample-controller"
LABELS = {"app": "sample"}


class SampleReconciler:
    """Copies `spec.value` into a ConfigMap of the same name, then into the status."""

    def __init__(self, client: ctrl.Client) -> None:
        self.client = client

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        sample = await self.client.get(SAMPLE, request)
        if sample is None or sample.deleting:
            return ctrl.Result()
        value = sample.spec["value"]
        child = await self.client.get(ctrl.CONFIG_MAP, request)
        if child is None or child.raw.get("data") != {"value": value}:
            await self.client.apply(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": request.name,
                        "namespace": request.namespace,
                        "labels": LABELS,
                        "ownerReferences": [ctrl.owner_reference(sample)],
                    },
                    "data": {"value": value},
                }
            )
        status = {"value": value, "observedGeneration": sample.generation}
        if sample.status != status:
            await self.client.apply_status(SAMPLE, request, status)
        return ctrl.Result()


async def run(kubeconfig: str, namespace: str, workers: int) -> int:
    manager = ctrl.Manager(ctrl.Config.load(kubeconfig), field_manager=FIELD_MANAGER, namespaces=[namespace])
    manager.cache.watch(ctrl.CONFIG_MAP, labels=LABELS)
    ctrl.controller(manager).manages(SAMPLE, when=ctrl.generation_changed).owns(ctrl.CONFIG_MAP).complete(
        SampleReconciler(manager.client), workers=workers
    )
    return await manager.run_until_signal()


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--kubeconfig", required=True)
    flags.add_argument("--namespace", required=True)
    flags.add_argument("--workers", type=int, default=10)
    arguments = flags.parse_args()
    ctrl.configure_logging(level="info")
    return uvloop.run(run(arguments.kubeconfig, arguments.namespace, arguments.workers))


if __name__ == "__main__":
    sys.exit(main())
