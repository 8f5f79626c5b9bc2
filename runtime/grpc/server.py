"""The gRPC port: a server of grpc.aio on the front's own loop."""

from __future__ import annotations

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
# Calls in work for each request that may wait: a bound on memory, far above what queues allow.
_CALLS_PER_WAITING = 4


class GrpcServer:
    """Serves on the address of `reserved`, a bound socket that does not listen and is kept open beside.

    Stopping cancels calls that reach the server in that moment, so it must be quiet by then. The core can
    send GOAWAY to a connection only when that is too old, so connections are given a life that ends within
    the time for draining: whoever is connected is told to leave, and comes back elsewhere.
    """

    def __init__(self, http: Http, registry: Registry, limits: Limits, reserved: socket.socket) -> None:
        host, port = reserved.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._calls = Calls(http)
        self._registry = registry
        self._limits = limits
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Raises OSError when the address is taken."""
        most = _CALLS_PER_WAITING * self._limits.queue * max(1, len(self._registry.models))
        server = grpc.aio.server(options=options(self._limits), maximum_concurrent_rpcs=most)
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
        self._server = server

    async def stop(self, grace: float) -> None:
        """Nothing new from now on; calls in work have `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)


def life(limits: Limits) -> float:
    """Seconds until a connection is told to leave: twice within what draining may take."""
    return min(limits.connection_life, max(1.0, (limits.drain_limit - limits.drain_quiet) / 2))


def options(limits: Limits) -> Sequence[tuple[str, int]]:
    """gRPC's channel arguments; it varies the age of connections itself, by 10 %."""
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.body + _ROOM),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MOST_METADATA),
        ("grpc.max_connection_age_ms", int(life(limits) * 1000)),
        ("grpc.max_connection_age_grace_ms", int(limits.request * 1000) + 1000),
        ("grpc.max_connection_idle_ms", int(limits.idle * 1000)),
        ("grpc.server_handshake_timeout_ms", int(limits.header * 1000)),
        # Peers that are gone without a word; and clients may ask whether we are here every 10 s.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
