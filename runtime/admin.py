"""The admin port: /metrics for Prometheus, /progress for the operator, the repository. Not part of any
Service.
"""

from __future__ import annotations

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from runtime.connections import JSON, Server, error_body
from runtime.faults import Faults
from runtime.metrics import OnDemandCollector, RuntimeCollector
from runtime.progress import progress
from runtime.reload import Reloader
from runtime.repository import Repository
from runtime.spec import Limits
from runtime.telemetry.gpu import GpuCollector, Gpus


class Admin:
    """`labels` stand on every sample of ours, so that no relabelling is needed."""

    def __init__(
        self,
        reloader: Reloader,
        limits: Limits,
        *,
        labels: dict[str, str],
        service: Server,
        gpus: Gpus,
        token: str = "",
    ) -> None:
        self._reloader = reloader
        self._registry = registry = reloader.registry
        self._repository = Repository(reloader, token=token)
        self._revision = labels.get("revision", "")
        self.faults: Faults | None = None
        self._metrics = CollectorRegistry(auto_describe=False)
        self._metrics.register(RuntimeCollector(registry.all_metrics, labels, lambda: service.slow))
        self._metrics.register(GpuCollector(gpus, labels))
        if registry.on_demand is not None:
            self._metrics.register(OnDemandCollector(registry.on_demand, labels))
        ProcessCollector(registry=self._metrics)
        self.server = Server(self.handle, header=limits.header, idle=limits.idle, life=limits.connection_life)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.server.began(request)
        if self.faults is not None and request.path == "/faults":
            return await self.faults.handle(request)
        if request.path.startswith("/v2/repository/"):
            return await self._repository.handle(request)
        if request.method not in ("GET", "HEAD"):
            response = web.Response(
                status=405, body=error_body(f"{request.method} is not allowed here"), content_type=JSON
            )
            response.headers["Allow"] = "GET"
            return response
        if request.path == "/metrics":
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            return web.Response(body=encode(self._metrics), headers={"Content-Type": content_type})
        if request.path == "/progress":
            told = progress(self._registry, self._revision)
            body = orjson.dumps({**told, "release": self._reloader.release()})
            return web.Response(body=body, content_type=JSON)
        if request.path == "/livez":
            return web.Response(body=b'{"live":true}', content_type=JSON)
        return web.Response(
            status=404,
            body=error_body("try /metrics, /progress, /v2/repository/index or /livez"),
            content_type=JSON,
        )
