"""grpc.health.v1.Health, computed when asked: it cannot differ from /v2/health/ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as stubs

from runtime.grpc.calls import Context
from runtime.registry import Registry

NAME = "grpc.health.v1.Health"
Status = pb.HealthCheckResponse


class Health(stubs.HealthServicer):
    """A service is a service of this port, "" for all of them, or a model's name. `Watch` tells a change
    within `beat` seconds.
    """

    def __init__(self, registry: Registry, services: Iterable[str], *, beat: float = 0.5) -> None:
        self._registry = registry
        self._services = {"", *services}
        self._beat = beat

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        status = self._status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"service {request.service[:100]!r} is unknown", ()
            )
        return Status(status=status)

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        told: object = None
        while True:
            status = self._status(request.service)
            if status != told:
                told = status
                yield Status(status=status)
            await asyncio.sleep(self._beat)

    def _status(self, service: str) -> int:
        if service in self._services:
            return Status.NOT_SERVING if self._registry.reasons() else Status.SERVING
        model = self._registry.models.get(service)
        if model is None:
            return Status.SERVICE_UNKNOWN
        serves = model.ready and not self._registry.draining
        return Status.SERVING if serves else Status.NOT_SERVING
