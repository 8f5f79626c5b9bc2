"""Where ADS is, for those who serve it and those who ask."""

from dataclasses import dataclass
from typing import Final

SERVICE_NAME: Final = "paddle-operator-ads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """namespace: the operator's own. bind: host:port. advertise: the IP address that routers connect to."""

    namespace: str
    bind: str
    advertise: str

    @property
    def port(self) -> int:
        return int(self.bind.rpartition(":")[2])

    @property
    def name(self) -> str:
        """The name that routers ask for and that the certificate says."""
        return f"{SERVICE_NAME}.{self.namespace}.svc"
