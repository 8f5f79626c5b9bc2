"""What canaries report about themselves."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import controller_runtime as ctrl

from ..rollout.canary import Ending, Phase
from .canary_status import weight
from .rollout import Canarying

_SERVICE: Final = ("paddle_namespace", "paddle_service")
_SECONDS: Final = (60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)


class CanaryMetrics:
    """On the manager's registry. ValueError if the names are taken.

    A service has series from its first run on until it is deleted. Counters count what this process wrote.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._phase = Gauge(
            "paddle_canary_phase",
            "1 for the present phase of a canary; pause says whom a paused one waits for.",
            [*_SERVICE, "phase", "pause"],
            registry=registry,
        )
        self._weight = Gauge(
            "paddle_canary_weight",
            "Share of the candidate in percent. desired: asked for. applied: may be in force.",
            [*_SERVICE, "kind"],
            registry=registry,
        )
        self._runs = Counter(
            "paddle_canary_runs",
            "Runs that were decided, by outcome.",
            [*_SERVICE, "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "paddle_canary_duration_seconds",
            "From the start of a run until it was decided.",
            ["outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._shown: dict[ctrl.Key, tuple[str, str]] = {}
        self._told: dict[ctrl.Key, set[str]] = {}

    def moved(self, key: ctrl.Key, run: Canarying) -> None:
        """The state of `run` was written."""
        state = run.state
        if not state.run:
            return
        now = (str(state.phase), str(state.pause or ""))
        before = self._shown.get(key)
        if before is not None and before != now:
            self._phase.remove(*key, *before)
        self._phase.labels(*key, *now).set(1)
        self._shown[key] = now
        self._weight.labels(*key, "desired").set(state.traffic.share(state.candidate))
        self._weight.labels(*key, "applied").set(weight(state))
        decided = any(step.after is Phase.Draining is not step.before for step in run.decision.transitions)
        if decided and state.history:
            last = state.history[-1]
            self._runs.labels(*key, str(last.ending)).inc()
            self._seconds.labels(str(last.ending)).observe(max(0.0, last.finished - last.started))
            self._told.setdefault(key, set()).add(str(last.ending))

    def forget(self, key: ctrl.Key) -> None:
        """The service is gone."""
        before = self._shown.pop(key, None)
        if before is None:
            return
        self._phase.remove(*key, *before)
        for kind in ("desired", "applied"):
            self._weight.remove(*key, kind)
        for outcome in self._told.pop(key, set()) & {str(ending) for ending in Ending}:
            self._runs.remove(*key, outcome)
