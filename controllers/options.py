"""What the operator was started with; `python -m controllers --help` has the flags."""

from dataclasses import dataclass, field

from artifacts import EndpointPolicy

from .analysis.server import Server
from .traffic.options import TrafficOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Seconds are floats; see `python -m controllers --help` for what each one is for."""

    runtime_image: str
    #: The Paddle version inside `runtime_image`; what `compatibility.runtime` is compared with.
    runtime_version: str = "3.3.1"
    image_pull_policy: str = "IfNotPresent"
    #: Where `minio://bucket/key` without an endpoint of its own points.
    minio_endpoint: str = "http://minio.minio.svc:9000"
    endpoint_policy: EndpointPolicy = field(default_factory=EndpointPolicy)
    resolve_timeout: float = 8.0
    resolve_concurrency: int = 16
    #: How often the store is asked whether the content behind the same address has changed.
    drift_interval: float = 600.0
    #: Reconciles at once, per controller: they wait for the API server most of their time.
    workers: int = 16
    #: The Prometheus servers that canaries may be judged by.
    prometheus: tuple[Server, ...] = ()
    #: Whether canaries may be judged by queries that users write.
    allow_custom_promql: bool = False
    #: After endpoints or weights have changed, until clients and measurements are taken to follow.
    settle: float = 15.0
    #: Routers, and where ADS is served for them.
    traffic: TrafficOptions = field(default_factory=TrafficOptions)
    #: The admin port of a serving pod.
    probe_port: int = 8081
