"""ADS for as long as this process leads: authority and certificate, our address, the server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

import controller_runtime as ctrl

from ...kinds import FIELD_MANAGER, LABEL_MANAGED_BY
from ...resources.compare import is_part
from . import authority
from .address import SERVICE_NAME, Address
from .admission import Admission
from .fleet import Fleet
from .secret import Authorities
from .server import Options, Server

_log = structlog.get_logger("controllers.traffic")

#: Seconds between two looks at whether routers still find us, and whether the certificate still holds.
LOOK: Final = 30.0
RETRY: Final = 2.0


class Serving:
    """One term of serving."""

    def __init__(
        self,
        *,
        client: ctrl.Client,
        fleet: Fleet,
        admission: Admission,
        address: Address,
        trusted: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """trusted: hears what routers are to trust, as PEM, at the start and at each change."""
        self._client = client
        self._fleet = fleet
        self._admission = admission
        self._address = address
        self._trusted = trusted
        self._wall = wall
        self._authorities = Authorities(client, address.namespace)
        self._leaf: authority.Leaf | None = None

    async def run(self) -> None:
        await self._until_done(self._certify, "certificate")
        options = Options(address=self._address.bind)
        server = Server(self._fleet, self._admission, self._credentials, options=options)
        await server.start()
        _log.info("ADS serves", address=self._address.bind, advertised=self._address.advertise)
        try:
            while True:
                await self._until_done(self._announce, "endpoint")
                await asyncio.sleep(LOOK)
                await self._until_done(self._certify, "certificate")
        finally:
            await server.stop()

    async def _until_done(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """`work`, again and again while the API server does not let it happen."""
        while True:
            try:
                await work()
                return
            except (ctrl.ApiError, ctrl.TransportError, TimeoutError) as error:
                _log.warning("ADS waits for the API server", what=what, error=str(error)[:256])
                await asyncio.sleep(RETRY)

    async def _certify(self) -> None:
        """Authorities and our certificate, made or renewed where it is time."""
        now = self._wall()
        found = await self._authorities.current(now)
        leaf = self._leaf
        if leaf is None or leaf.ends - now < authority.LEAF_RENEW:
            self._leaf = authority.issue(authority.signer(found, now), [self._address.name], now)
        self._trusted(authority.bundle(found, now))

    def _credentials(self) -> tuple[bytes, bytes]:
        assert self._leaf is not None
        return self._leaf.certificate.encode(), self._leaf.key.encode()

    async def _announce(self) -> None:
        """Our address behind the Service that has no selector; written only where it is not there."""
        wanted = endpoint_slice(self._address)
        there = await self._client.get_live(
            ctrl.ENDPOINT_SLICE, ctrl.Key(self._address.namespace, SERVICE_NAME)
        )
        if there is None or not is_part(wanted, there.raw):
            await self._client.apply(wanted)


def endpoint_slice(address: Address) -> ctrl.JSON:
    return {
        "apiVersion": ctrl.ENDPOINT_SLICE.api_version,
        "kind": ctrl.ENDPOINT_SLICE.kind,
        "metadata": {
            "name": SERVICE_NAME,
            "namespace": address.namespace,
            "labels": {
                "kubernetes.io/service-name": SERVICE_NAME,
                "endpointslice.kubernetes.io/managed-by": FIELD_MANAGER,
                LABEL_MANAGED_BY: FIELD_MANAGER,
            },
        },
        "addressType": "IPv6" if ":" in address.advertise else "IPv4",
        "ports": [{"name": "ads", "port": address.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address.advertise], "conditions": {"ready": True}}],
    }
