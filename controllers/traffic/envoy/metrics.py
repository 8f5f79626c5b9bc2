"""What the leader reports about its routers."""

from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_NAMESPACE: Final = ("paddle_namespace",)
_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters(Protocol):
    def connected(self, namespace: str, routers: int) -> None:
        """So many routers of `namespace` have a stream."""
        ...

    def refused(self, namespace: str) -> None:
        """A router refused something."""
        ...

    def confirmed(self, seconds: float) -> None:
        """So long after a change of a namespace's routes all its routers held it."""
        ...


class NoMeters:
    """Counts nothing."""

    def connected(self, namespace: str, routers: int) -> None:
        return

    def refused(self, namespace: str) -> None:
        return

    def confirmed(self, seconds: float) -> None:
        return


class RouterMetrics:
    """On the manager's registry. ValueError if the names are taken."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connected = Gauge(
            "paddle_routers_connected", "Routers that have a stream.", _NAMESPACE, registry=registry
        )
        self._refused = Counter(
            "paddle_router_refusals", "Configurations that a router refused.", _NAMESPACE, registry=registry
        )
        self._seconds = Histogram(
            "paddle_router_confirm_seconds",
            "From a change of a namespace's routes until all its routers hold it.",
            buckets=_SECONDS,
            registry=registry,
        )

    def connected(self, namespace: str, routers: int) -> None:
        if routers:
            self._connected.labels(namespace).set(routers)
        else:
            self._connected.remove(namespace)

    def refused(self, namespace: str) -> None:
        self._refused.labels(namespace).inc()

    def confirmed(self, seconds: float) -> None:
        self._seconds.observe(seconds)
