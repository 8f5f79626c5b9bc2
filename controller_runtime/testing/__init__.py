"""For tests of operators: a real API server, proxies that break connections, a clock that stands still, a
manager that runs as long as a block.

Needs the `cryptography` and `PyYAML` packages, which the library itself does without.
"""

from __future__ import annotations

from ._processes import EnvtestError as EnvtestError
from .clock import FakeClock as FakeClock
from .clock import settle as settle
from .envtest import Envtest as Envtest
from .faults import FaultProxy as FaultProxy
from .faults import HTTPFaultProxy as HTTPFaultProxy
from .faults import Seen as Seen
from .running import running as running

__all__ = [
    "Envtest",
    "EnvtestError",
    "FakeClock",
    "FaultProxy",
    "HTTPFaultProxy",
    "Seen",
    "running",
    "settle",
]
