"""The metrics that need no query of the user's own. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from .condition import Values

#: By the name that stands in spec.metrics. Rates are shares of 1, latencies milliseconds.
BUILT_IN: Final[Mapping[str, Callable[[Values], float | None]]] = {
    "errorRate": lambda values: values.error_rate,
    "slowRate": lambda values: values.slow_rate,
    "latencyP50": lambda values: values.p50,
    "latencyP95": lambda values: values.p95,
    "latencyP99": lambda values: values.p99,
    "qps": lambda values: values.qps,
}
