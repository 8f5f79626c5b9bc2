"""What the operator was started with, for its traffic providers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOptions:
    """image: of the routers; "" for an operator that runs none. address: where ADS listens. advertise: the
    operator pod's own IP address. namespace: the operator's. ads: host:port where routers find the leader,
    "" for its Service.
    """

    image: str = ""
    pull_policy: str = "IfNotPresent"
    address: str = "0.0.0.0:18000"
    advertise: str = ""
    namespace: str = "paddle-system"
    ads: str = ""

    @property
    def unable(self) -> str:
        """Why no router can be run, or ""."""
        if not self.image:
            return "this operator runs no routers: start it with --router-image"
        if not self.advertise:
            return "the operator does not know its own address: set POD_IP in its Deployment"
        return ""
