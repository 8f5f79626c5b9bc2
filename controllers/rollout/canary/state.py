"""What a canary remembers: all that its decisions rest on besides the spec and what is observed. Pure.

It is written to the status before anything it asks for is done, so that a crash between any two actions loses
nothing: the next pass reads it and asks for the same again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ...analysis.verdict import Ledger


class Phase(StrEnum):
    Idle = "Idle"
    Preparing = "Preparing"
    Shifting = "Shifting"
    Analysing = "Analysing"
    Paused = "Paused"
    Promoting = "Promoting"
    Soaking = "Soaking"
    RollingBack = "RollingBack"
    Draining = "Draining"


#: A run is under way and its candidate may still win.
ACTIVE = (
    Phase.Preparing,
    Phase.Shifting,
    Phase.Analysing,
    Phase.Paused,
    Phase.Promoting,
    Phase.Soaking,
)


class Pause(StrEnum):
    """Whom a paused run waits for: the clock, a person, Prometheus or the traffic provider."""

    Step = "Step"
    User = "User"
    Inconclusive = "Inconclusive"
    MetricsUnavailable = "MetricsUnavailable"
    TrafficProvider = "TrafficProvider"


class Ending(StrEnum):
    """How a run ended, or why it rolls back."""

    Promoted = "Promoted"
    Aborted = "Aborted"
    Reverted = "Reverted"
    Superseded = "Superseded"
    AnalysisFailed = "AnalysisFailed"
    NotReady = "NotReady"
    Unhealthy = "Unhealthy"
    TrafficRefused = "TrafficRefused"
    TrafficNotVerified = "TrafficNotVerified"
    NoData = "NoData"
    NotDecided = "NotDecided"


#: Endings that say nothing against the candidate: the same revision may come again by itself.
BLAMELESS = frozenset({Ending.Promoted, Ending.Reverted, Ending.Superseded})

#: How many finished runs and rejected revisions a status keeps.
KEPT = 5

Weights = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The weights asked for, and the most that each revision may have in force.

    change: grows with every ask. A report of the provider counts only for the change it names, and a provider
    ignores a change lower than one that it has seen: that is what makes a late reply and a late writer
    harmless. verified_at: None while the change is in flight. possible: the weights last verified, raised by
    every ask since.
    """

    weights: Weights = ()
    change: int = 0
    asked_at: float = 0.0
    verified_at: float | None = None
    possible: Weights = ()

    @property
    def settled(self) -> bool:
        return self.verified_at is not None

    @property
    def in_flight(self) -> bool:
        return self.change > 0 and self.verified_at is None

    def share(self, revision: str) -> int:
        """The weight asked for, in percent."""
        return dict(self.weights).get(revision, 0)

    def most(self, revision: str) -> int:
        """The highest weight that may be in force, in percent."""
        return dict(self.possible).get(revision, 0)

    def ask(self, weights: Weights, now: float) -> "Traffic":
        """Ask for `weights` (every revision of the route, once); what is asked for already stays."""
        return self if weights == self.weights else self._asked(weights, self.possible, now)

    def again(self, now: float) -> "Traffic":
        """Somebody else changed the route: any split may be in force until it is verified anew."""
        everything = tuple((name, 100) for name, _ in self.weights)
        return self._asked(self.weights, everything, now)

    def _asked(self, weights: Weights, before: Weights, now: float) -> "Traffic":
        most = dict(before)
        for name, weight in weights:
            most[name] = max(weight, most.get(name, 0))
        return Traffic(
            weights=weights,
            change=self.change + 1,
            asked_at=now,
            verified_at=None,
            possible=tuple(sorted((name, weight) for name, weight in most.items() if weight)),
        )

    def verified(self, now: float) -> "Traffic":
        force = tuple(sorted((name, weight) for name, weight in self.weights if weight))
        return replace(self, verified_at=now, possible=force)

    def renewed(self, now: float) -> "Traffic":
        """Asked for once more, because the rules beside the weights are others."""
        return replace(self, change=self.change + 1, asked_at=now, verified_at=None)

    def cleared(self, now: float) -> "Traffic":
        """There is no route any more. The number stays: a later ask must be higher."""
        return replace(self, weights=(), possible=(), verified_at=now)


class Way(StrEnum):
    """Where the Service of the name leads: to the pods (Direct), or to the routers.

    Opening: the routers get the route, clients still go to the pods. Entering, Leaving: the Service's
    selector is switched and clients follow. Closing: clients are back on the pods, the route is to go.
    """

    Direct = "Direct"
    Opening = "Opening"
    Entering = "Entering"
    Routed = "Routed"
    Leaving = "Leaving"
    Closing = "Closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """since: when it began. seen_at: when the endpoints were first seen to lead there; None before."""

    way: Way = Way.Direct
    since: float = 0.0
    seen_at: float | None = None

    @property
    def to_routers(self) -> bool:
        """Whether the Service must select the routers."""
        return self.way in (Way.Entering, Way.Routed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run of the past."""

    run: int
    attempt: int
    candidate: str
    ending: Ending
    step: int
    reason: str
    started: float
    finished: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The persisted state. Times are seconds since the epoch; 0 means none.

    stable: the revision to return to. candidate: the one on trial. retiring: the one that drains. run, step,
    attempt: the fence of every verdict; a step that starts its analysis anew is a new attempt. steps: the
    weights this run follows. since: when the phase began. deadline: when it is overdue. until: end of a pause
    or of the soak. path: where clients are led. ending, reason: why it rolls back, or how the last run
    ended. token, answer: the last command and what came of it. ledger: the evidence of all steps passed.
    """

    phase: Phase = Phase.Idle
    stable: str = ""
    candidate: str = ""
    retiring: str = ""
    run: int = 0
    step: int = 0
    attempt: int = 0
    steps: tuple[int, ...] = ()
    peak: int = 0
    traffic: Traffic = Traffic()
    path: Path = Path()
    started: float = 0.0
    since: float = 0.0
    deadline: float = 0.0
    until: float = 0.0
    pause: Pause | None = None
    ending: Ending | None = None
    reason: str = ""
    token: str = ""
    answer: str = ""
    rejected: tuple[str, ...] = ()
    history: tuple[Finished, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def active(self) -> bool:
        return self.phase in ACTIVE

    def split(self, weight: int) -> Weights:
        """The route with the candidate at `weight` percent; both pairs, always in the same order."""
        return ((self.stable, 100 - weight), (self.candidate, weight))

    @property
    def alone(self) -> Weights:
        """The route without a candidate."""
        return ((self.stable, 100),)

    @property
    def at_rest(self) -> bool:
        """No run is on, and clients go straight to the pods."""
        return self.phase is Phase.Idle and self.path.way is Way.Direct


def rewound(state: Canary, now: float) -> Canary:
    """`state` as if the clock had always been what it is now.

    A clock that was set back would otherwise keep every timer waiting for as long as it jumped.
    """
    path = state.path
    moments = (
        state.since,
        state.traffic.asked_at,
        state.traffic.verified_at or 0.0,
        path.since,
        path.seen_at or 0.0,
    )
    ahead = max(moments) - now
    if ahead <= 0:
        return state

    def back(moment: float) -> float:
        return max(0.0, moment - ahead) if moment else 0.0

    seen = state.traffic.verified_at
    return replace(
        state,
        started=back(state.started),
        since=back(state.since),
        deadline=back(state.deadline),
        until=back(state.until),
        traffic=replace(
            state.traffic,
            asked_at=back(state.traffic.asked_at),
            verified_at=None if seen is None else back(seen),
        ),
        path=replace(
            path, since=back(path.since), seen_at=None if path.seen_at is None else back(path.seen_at)
        ),
    )


def analysis_name(service: str, state: Canary) -> str:
    """The name of the step's CanaryAnalysis: nothing that starts anew ever finds an old one."""
    return f"{service}-{state.candidate}-{state.run}-{state.step}-{state.attempt}"


def mapping(raw: object) -> Mapping[str, object]:
    return raw if isinstance(raw, Mapping) else {}
