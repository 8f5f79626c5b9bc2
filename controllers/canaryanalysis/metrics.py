"""What the analyses report about themselves."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class AnalysisMetrics:
    """On the manager's registry. ValueError if the names are taken."""

    def __init__(self, registry: CollectorRegistry, servers: Sequence[str] = ()) -> None:
        self._measurements = Counter(
            "paddle_canary_measurements",
            "Looks at windows, by what decided and what it said. result: pass, fail, undecided or error.",
            ["metric", "result"],
            registry=registry,
        )
        self._verdicts = Counter(
            "paddle_canary_verdicts", "Analyses that ended, by verdict.", ["verdict"], registry=registry
        )
        self._late = Histogram(
            "paddle_canary_look_lateness_seconds",
            "How long after its time a look began.",
            buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=registry,
        )
        self._seconds = Histogram(
            "paddle_prometheus_query_seconds",
            "Exchanges, by server and result: ok, refused, error, or skipped by the breaker.",
            ["server", "result"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._up = Gauge(
            "paddle_prometheus_up",
            "1 if the server's last answer could be used, 0 if not; absent before the first query.",
            ["server"],
            registry=registry,
        )
        for result in ("pass", "fail", "undecided", "error"):
            self._measurements.labels(metric="all", result=result)
        for server in servers:
            self._seconds.labels(server=server, result="ok")

    def query(self, server: str, result: str, seconds: float) -> None:
        self._seconds.labels(server=server, result=result).observe(seconds)
        self._up.labels(server=server).set(1 if result in ("ok", "refused") else 0)

    def looked(self, metric: str, result: str, late: float) -> None:
        """metric: errorRate, slowRate, condition, another built-in one, custom, or "" if none decided."""
        self._measurements.labels(metric=metric or "all", result=result).inc()
        self._late.observe(max(0.0, late))

    def ended(self, verdict: str) -> None:
        self._verdicts.labels(verdict=verdict).inc()
