"""The ADS server: one gRPC method, one session a router. Only its start imports gRPC and Envoy's types.

All it decides is in `stream` (what to send next) and `fleet` (what it means); here are bytes and deadlines.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import structlog

from .admission import HEADER, PREFIX, Admission, Denied, Unavailable
from .fleet import Fleet, Session
from .snapshot import Kind
from .stream import Request, Response

if TYPE_CHECKING:
    import grpc
    from envoy.service.discovery.v3 import discovery_pb2

    from .encoding import Encoder


_log = structlog.get_logger("controllers.traffic")

_KINDS: Final[Mapping[str, Kind]] = {str(kind): kind for kind in Kind}
SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
#: Resources that are encoded without letting others have their turn.
_BATCH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Seconds. lifetime: of a stream, give or take a fifth; then the router comes again with a fresh token.
    keepalive, keepalive_timeout: how a dead peer is noticed. write: for one message.
    """

    address: str = "0.0.0.0:18000"
    lifetime: float = 1800.0
    keepalive: float = 15.0
    keepalive_timeout: float = 10.0
    write: float = 20.0
    grace: float = 1.0


class Context(Protocol):
    """What is used of gRPC's call."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...
    async def read(self) -> object: ...
    async def write(self, message: object) -> None: ...
    async def abort(self, code: object, details: str) -> NoReturn: ...


class _Ended(Exception):
    """The session is over: the router left, or another stream took its place."""


class Server:
    """Serves the fleet's targets until stopped. `credentials` gives certificate chain and key as PEM, asked
    at each handshake, so that a new certificate needs no restart.
    """

    def __init__(
        self,
        fleet: Fleet,
        admission: Admission,
        credentials: Callable[[], tuple[bytes, bytes]],
        *,
        options: Options = Options(),
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._credentials = credentials
        self._options = options
        self._uniform = uniform
        self._server: grpc.aio.Server | None = None
        self._encoder: Encoder | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises RuntimeError when the address cannot be bound."""
        import grpc
        from envoy.service.discovery.v3 import discovery_pb2

        from .encoding import Encoder

        self._encoder = Encoder()
        milliseconds = int(self._options.keepalive * 1000)
        server = grpc.aio.server(
            options=[
                ("grpc.keepalive_time_ms", milliseconds),
                ("grpc.keepalive_timeout_ms", int(self._options.keepalive_timeout * 1000)),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", milliseconds // 2),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.max_receive_message_length", 16 << 20),
                ("grpc.so_reuseport", 0),
            ]
        )
        method = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        methods = {"StreamAggregatedResources": method}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self.port = server.add_secure_port(self._options.address, self._tls())
        if not self.port:
            raise RuntimeError(f"ADS cannot listen on {self._options.address}: is another program there?")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(self._options.grace)

    def _tls(self) -> grpc.ServerCredentials:
        import grpc

        def configuration() -> grpc.ServerCertificateConfiguration:
            certificate, key = self._credentials()
            return grpc.ssl_server_certificate_configuration([(key, certificate)])

        return grpc.dynamic_ssl_server_credentials(configuration(), configuration)

    async def _stream(self, requests: object, context: Context) -> None:
        await self.serve(context)

    async def serve(self, context: Context) -> None:
        """One stream, from its first byte to its end."""
        session = await self._admitted(context)
        lifetime = self._options.lifetime * self._uniform(0.8, 1.2)
        _log.info("router connected", namespace=session.namespace, router=session.router)
        try:
            async with asyncio.timeout(lifetime), asyncio.TaskGroup() as group:
                group.create_task(self._read(context, session))
                group.create_task(self._write(context, session))
        except* (_Ended, TimeoutError):
            pass
        finally:
            self._fleet.leave(session)
            _log.info("router disconnected", namespace=session.namespace, router=session.router)

    async def _admitted(self, context: Context) -> Session:
        import grpc

        given = dict(context.invocation_metadata() or ())
        header = given.get(HEADER, "")
        token = header.removeprefix(PREFIX) if isinstance(header, str) and header.startswith(PREFIX) else ""
        try:
            identity = await self._admission.admit(token)
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except Denied as error:
            _log.warning("stream refused", reason=str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not self._fleet.known(identity.namespace, identity.pod, identity.uid):
            _log.warning("stream refused", reason="no router", namespace=identity.namespace, pod=identity.pod)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"pod {identity.pod} is no router of ours")
        return self._fleet.join(identity.namespace, identity.pod)

    async def _read(self, context: Context, session: Session) -> None:
        import grpc

        while True:
            message = await context.read()
            if message is grpc.aio.EOF:
                raise _Ended
            request = _decoded(message)
            if request is None:
                continue  # a type that we do not serve: Envoy goes on without
            if request.error is not None:
                _log.warning("router refuses", router=session.router, type=request.kind, error=request.error)
            self._fleet.heard(session, request)

    async def _write(self, context: Context, session: Session) -> None:
        while not session.closed:
            await session.wake.wait()
            session.wake.clear()
            for response in session.stream.due():
                message = await self._encoded(response)
                async with asyncio.timeout(self._options.write):
                    await context.write(message)
        raise _Ended

    async def _encoded(self, response: Response) -> discovery_pb2.DiscoveryResponse:
        encoder = self._encoder
        assert encoder is not None
        fresh = 0
        for resource in response.resources:
            fresh += encoder.prepare(resource)
            if fresh >= _BATCH:
                fresh = 0
                await asyncio.sleep(0)
        return encoder.response(response)


def _decoded(message: Any) -> Request | None:
    kind = _KINDS.get(message.type_url)
    if kind is None:
        return None
    failed = message.HasField("error_detail")
    return Request(
        kind=kind,
        nonce=message.response_nonce,
        names=tuple(message.resource_names),
        error=(message.error_detail.message or "no reason given") if failed else None,
    )
