"""What a pass of the canary is given: the plan from the spec, and what was observed. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal

from ...analysis.tally import Verdict
from ...analysis.verdict import Ledger
from .state import Canary, Path, Way

Policy = Literal["Hold", "Rollback"]

#: How a provider gets requests. Standing: its route is always in their way. Switched: the Service must be
#: turned to routers first. Pods: there is no proxy, the number of pods is the weight.
Means = Literal["Standing", "Switched", "Pods"]


@dataclass(frozen=True, slots=True)
class Step:
    """weight: percent of the requests. pause: seconds to wait after the analysis has passed."""

    weight: int
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run goes. Seconds throughout.

    settle: after a verified weight, before its first window; and after the endpoints of the Service have
    changed, before anybody relies on it. prepare: for pods to become ready, at each step.
    shift: for a weight to be verified. unready: without any ready pod before a candidate with traffic is sent
    back. drain: between the last request and the end of the pods. stable_for: at 100 % with the old revision
    at full size. decide: how long an undecided run is held if on_deadline is Rollback.
    """

    steps: Sequence[Step] = (Step(5),)
    replicas: int = 1
    means: Means = "Standing"
    settle: float = 15.0
    prepare: float = 600.0
    shift: float = 300.0
    unready: float = 10.0
    drain: float = 30.0
    stable_for: float = 300.0
    decide: float = 1800.0
    on_no_data: Policy = "Hold"
    on_deadline: Policy = "Hold"

    @property
    def weights(self) -> tuple[int, ...]:
        return tuple(step.weight for step in self.steps)

    def __post_init__(self) -> None:
        """ValueError for steps that no run can follow."""
        if not self.steps or any(not 1 <= step.weight <= 100 for step in self.steps):
            raise ValueError(f"steps need weights from 1 to 100, got {self.weights}: give at least one")

    def pods(self, weight: int) -> int:
        """Replicas that carry `weight` percent."""
        return max(1, math.ceil(self.replicas * weight / 100))

    @property
    def patience(self) -> float:
        """Seconds for a weight to be verified; where pods are the weight, they have to start first."""
        return self.prepare if self.means == "Pods" else self.shift


def counts(replicas: int, weight: int) -> tuple[int, int]:
    """(stable, candidate) pods that stand for `weight` percent where pods are the weight.

    Never fewer than `replicas` together; at 1..99 % each side has a pod (of one replica: one each).
    """
    if not weight:
        return replicas, 0
    return replicas - replicas * weight // 100, max(1, math.ceil(replicas * weight / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """A revision's pods. spec: asked for. ready: with endpoints. unready_for: seconds since one was ready.
    broken: why they cannot come back by themselves (a crash loop, a model that does not load), or "".
    obstacle: what is in the way of one that is not ready, or "". change: the highest change of weights that
    is stamped on the Deployment.
    """

    spec: int = 0
    ready: int = 0
    unready_for: float = 0.0
    broken: str = ""
    obstacle: str = ""
    change: int = 0


class Endpoints(StrEnum):
    """Where the Service of the name leads, by its selector and all of its EndpointSlices."""

    Pods = "Pods"
    Routers = "Routers"
    Mixed = "Mixed"


class Route(StrEnum):
    """What the traffic provider says of a change."""

    Pending = "Pending"
    Verified = "Verified"
    Refused = "Refused"
    Unreachable = "Unreachable"
    Drifted = "Drifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    change: int = 0
    route: Route = Route.Pending
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The verdict of a CanaryAnalysis that is ours, with the fence in its spec."""

    run: int
    step: int
    attempt: int
    verdict: Verdict
    reason: str = ""
    ledger: Ledger = field(default_factory=Ledger)


class Verb(StrEnum):
    Promote = "promote"
    PromoteFull = "promote-full"
    Pause = "pause"
    Resume = "resume"
    Abort = "abort"
    Retry = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asks for, bound to a run and done once."""

    verb: Verb
    run: int
    token: str


#: The longest token of a command that is believed.
MAX_TOKEN: Final = 64


def command(text: str) -> Command | None:
    """The annotation `<verb>/<run>/<token>`; None for anything else: anybody can write one."""
    parts = text.strip().split("/")
    if len(parts) != 3 or parts[0] not in list(Verb) or not (parts[1].isascii() and parts[1].isdigit()):
        return None
    if not 0 < len(parts[2]) <= MAX_TOKEN or len(parts[1]) > 9:
        return None
    return Command(Verb(parts[0]), int(parts[1]), parts[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """wanted: the revision that the spec is. checked: every candidate pod answered on the readiness path.
    metrics: Prometheus answers. hold: why a verification hook does not let the step go on, or "".
    removed: the route of this change was removed.
    """

    now: float
    wanted: str
    pods: Mapping[str, Pods] = field(default_factory=dict)
    report: Report = Report()
    found: Found | None = None
    command: Command | None = None
    checked: bool = True
    metrics: bool = True
    hold: str = ""
    endpoints: Endpoints = Endpoints.Pods
    removed: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One pass: what is remembered, wanted and seen."""

    state: Canary
    plan: Plan
    facts: Facts

    def pods(self, revision: str) -> Pods:
        return self.facts.pods.get(revision, Pods())

    @property
    def candidate(self) -> Pods:
        return self.pods(self.state.candidate)

    @property
    def stable(self) -> Pods:
        return self.pods(self.state.stable)

    @property
    def route(self) -> Route:
        """What the provider says of the change in force; of any other it says nothing."""
        report = self.facts.report
        return report.route if report.change == self.state.traffic.change else Route.Pending

    @property
    def verdict(self) -> Verdict:
        """Of this very step and attempt; a late one of another is Running."""
        found, state = self.facts.found, self.state
        if found is None or (found.run, found.step, found.attempt) != (state.run, state.step, state.attempt):
            return Verdict.Running
        return found.verdict

    @property
    def last_step(self) -> bool:
        return self.state.step >= len(self.plan.steps)

    @property
    def weight(self) -> int:
        """The candidate's weight that the present step is about."""
        return 100 if self.last_step else self.plan.steps[self.state.step].weight

    @property
    def need(self) -> int:
        """Ready pods that the candidate needs for it."""
        return self.plan.pods(self.weight)

    @property
    def led(self) -> bool:
        """Requests go where the weights say: a candidate's pods get none but by a weight."""
        return self.plan.means != "Switched" or self.state.path.way is Way.Routed

    @property
    def arrived(self) -> bool:
        """The endpoints lead where the path is to go."""
        to = Endpoints.Routers if self.state.path.to_routers else Endpoints.Pods
        return self.facts.endpoints is to

    @property
    def missing(self) -> str:
        """How many ready pods the candidate has of those it needs, and what is in the way of the others."""
        words = f"{self.candidate.ready} of {self.need} pods ready"
        return f"{words}: {self.candidate.obstacle}" if self.candidate.obstacle else words

    @property
    def carried(self) -> bool:
        """The candidate may get the step's weight. Where pods are the weight, they follow it."""
        return self.plan.means == "Pods" or (self.candidate.ready >= self.need and self.facts.checked)

    def on(self, way: Way) -> Canary:
        """The path goes on to `way` now."""
        return replace(self.state, path=Path(way=way, since=self.facts.now))

    @property
    def at_weight(self) -> bool:
        """The present step's weights are asked for and verified."""
        return self.state.traffic.settled and self.state.traffic.weights == self.state.split(self.weight)

    def asks(self, verb: Verb) -> bool:
        """A command that was not seen yet and is bound to this run."""
        given = self.facts.command
        return self.fresh and given is not None and given.verb is verb and given.run == self.state.run

    @property
    def fresh(self) -> bool:
        given = self.facts.command
        return given is not None and given.token != self.state.token
