"""The gRPC port: one server of grpc.aio, and its successor while the process drains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runtime.grpc import health, open_inference, paddle
from runtime.grpc.calls import Calls
from runtime.grpc.stubs import open_inference_pb2_grpc, paddle_serving_pb2_grpc
from runtime.http import Http
from runtime.registry import Registry
from runtime.spec import Limits

# What a message may have around its tensors.
_ROOM = 64 * 1024
_MOST_METADATA = 16 * 1024
# Seconds that a connection lives which comes while the process drains.
_LAST_LIFE = 1.0
# Calls in work for each request that may wait: a bound on memory, far above what queues allow.
_CALLS_PER_WAITING = 4


class GrpcServer:
    """Serves on the address of `reserved`, a bound socket that does not listen and is kept open beside.

    Draining: a second server takes over the address, the first one tells its clients to leave (GOAWAY) and
    ends what they have begun. Nobody is refused, because clients and proxies learn late; connections that
    still come live one second. grpc.aio has no way to send GOAWAY and to go on accepting.
    """

    def __init__(self, http: Http, registry: Registry, limits: Limits, reserved: socket.socket) -> None:
        host, port = reserved.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._calls = Calls(http)
        self._registry = registry
        self._limits = limits
        self._server: grpc.aio.Server | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises OSError when the address is taken."""
        self._server = await self._serve(self._limits.connection_life)

    async def drain(self) -> None:
        """From now on connections are short; those that are there end when their calls have ended."""
        first, self._server = self._server, await self._serve(_LAST_LIFE)
        if first is not None:
            self._leaving = asyncio.create_task(first.stop(self._limits.grace))

    async def stop(self, grace: float) -> None:
        """Ends calls that are in work after `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)
        if self._leaving is not None:
            _, late = await asyncio.wait([self._leaving], timeout=grace)
            for task in late:
                task.cancel()

    async def _serve(self, life: float) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=options(self._limits, life),
            maximum_concurrent_rpcs=_CALLS_PER_WAITING
            * self._limits.queue
            * max(1, len(self._registry.models)),
        )
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            open_inference.OpenInference(self._calls, self._registry), server
        )
        paddle_serving_pb2_grpc.add_PaddleModelServiceServicer_to_server(
            paddle.PaddleModelService(self._calls, self._registry), server
        )
        services = (open_inference.NAME, paddle.NAME)
        health_pb2_grpc.add_HealthServicer_to_server(health.Health(self._registry, services), server)
        reflection.enable_server_reflection((*services, health.NAME, reflection.SERVICE_NAME), server)
        try:
            server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(f"address {self.address!r} cannot be used: {error}") from None
        await server.start()
        return server


def options(limits: Limits, life: float) -> Sequence[tuple[str, int]]:
    """gRPC's channel arguments; it varies the age of connections itself, by 10 %."""
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.body + _ROOM),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MOST_METADATA),
        ("grpc.max_connection_age_ms", int(life * 1000)),
        ("grpc.max_connection_age_grace_ms", int(limits.request * 1000) + 1000),
        ("grpc.max_connection_idle_ms", int(limits.idle * 1000)),
        ("grpc.server_handshake_timeout_ms", int(limits.header * 1000)),
        # Peers that are gone without a word; and clients may ask whether we are here every 10 s.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
