"""From the objects of one service to what the canary's own step machine would see. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controllers.analysis.tally import Verdict
from controllers.rollout.canary import Canary, Facts, Found, Means, Plan, Pods, Report, Step, from_wire
from controllers.rollout.canary.facts import View
from controllers.rollout.canary.machine import waits_for

from .cluster import LABEL_REVISION
from .errors import CliError

Wire = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A revision as a person sees it. weight: percent asked for; None for one that is in no route."""

    revision: str
    version: str = ""
    weight: int | None = None
    ready: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One service at one moment. analysis: that of the present step and attempt, if there is one. trouble:
    what could not be read besides, in one line.
    """

    name: str
    namespace: str
    now: float
    view: View
    analysis: Wire = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    pods: Sequence[Wire] = ()
    provider: str = ""
    said: str = ""
    condition: str = ""
    trouble: str = ""

    @property
    def state(self) -> Canary:
        return self.view.state

    @property
    def steps(self) -> tuple[int, ...]:
        return self.state.steps or self.view.plan.weights

    def version(self, revision: str) -> str:
        return self.versions.get(revision, "")

    def side(self, revision: str) -> Side:
        pods = self.view.pods(revision)
        weights = dict(self.state.traffic.weights)
        return Side(
            revision=revision,
            version=self.version(revision),
            weight=weights.get(revision),
            ready=pods.ready,
            wanted=pods.spec,
        )

    @property
    def waits(self) -> str:
        """The one guard that blocks, "" at rest. The operator's words, because it knows most; its numbers are
        counted anew where the step machine gives the same sentence here.
        """
        here = waits_for(self.view)
        current = self.condition in (f"Canary{self.state.phase}", "CanaryRefused")
        if not self.said or not current or _shape(self.said) == _shape(here):
            # Steps count from 1 for people, and which one it is stands beside.
            return here.replace(f"of step {self.state.step}, ", "of this step, ")
        return self.said


def _guard(message: str) -> str:
    """Of "canary x is Shifting, waiting for y": y."""
    head, found, guard = message.partition(", waiting for ")
    return guard if found and head.startswith("canary ") else message


def _shape(sentence: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", sentence)


def read(service: Wire, others: Sequence[Wire], now: float, *, trouble: str = "") -> Reading:
    """others: the analyses, Deployments and pods of the service. Raises CliError for a status that no step
    machine of ours can read.
    """
    metadata, status, spec = (mapping(service.get(key)) for key in ("metadata", "status", "spec"))
    try:
        state = from_wire(mapping(status.get("canary")))
    except ValueError as error:
        raise CliError(str(error)) from None
    if not state.stable:
        state = _before_any(state, status)
    by_kind: dict[str, list[Wire]] = {}
    for item in others:
        by_kind.setdefault(str(item.get("kind")), []).append(item)
    pods = by_kind.get("Pod", [])
    analysis = _analysis(by_kind.get("CanaryAnalysis", []), state)
    facts = Facts(
        now=now,
        wanted=text(status.get("updatedRevision")),
        pods=_pods(by_kind.get("Deployment", []), pods, now),
        report=Report(change=state.traffic.change),
        found=_found(analysis, state),
        metrics=_condition(analysis, "AnalysisAvailable").get("status") != "False",
    )
    progressing = _condition(service, "Progressing")
    provider = text(mapping(status.get("traffic")).get("provider"))
    return Reading(
        name=text(metadata.get("name")),
        namespace=text(metadata.get("namespace")),
        now=now,
        view=View(state, _plan(spec, state, provider), facts),
        analysis=analysis,
        versions=_versions(status),
        pods=pods,
        provider=provider,
        said=_guard(text(progressing.get("message"))),
        condition=text(progressing.get("reason")),
        trouble=trouble,
    )


def _before_any(state: Canary, status: Wire) -> Canary:
    """A service that never had a canary: its stable revision is told elsewhere."""
    return Canary(
        stable=text(status.get("stableRevision")),
        token=state.token,
        answer=state.answer,
        history=state.history,
    )


_MEANS: Mapping[str, Means] = {"Envoy": "Switched", "Replicas": "Pods"}


def _plan(spec: Wire, state: Canary, provider: str) -> Plan:
    """What the sentences need of it. The steps are the run's: it follows them until it sees others."""
    strategy = mapping(spec.get("updateStrategy"))
    canary = mapping(strategy.get("canary"))
    steps = [whole(step.get("weight")) for step in maps(canary.get("steps"))]
    weights = state.steps or tuple(steps) or (whole(canary.get("weight")) or 5,)
    replicas = spec.get("replicas")
    return Plan(
        steps=[Step(min(100, max(1, weight))) for weight in weights],
        replicas=whole(replicas) if replicas is not None else 1,
        means=_MEANS.get(provider, "Standing"),
    )


def _pods(deployments: Sequence[Wire], pods: Sequence[Wire], now: float) -> dict[str, Pods]:
    sizes = {revision_of(item): whole(mapping(item.get("spec")).get("replicas")) for item in deployments}
    ready: dict[str, int] = {}
    last: dict[str, float] = {}
    for pod in pods:
        revision = revision_of(pod)
        if mapping(pod.get("metadata")).get("deletionTimestamp"):
            continue
        condition = _condition(pod, "Ready")
        ready[revision] = ready.get(revision, 0) + (condition.get("status") == "True")
        last[revision] = max(last.get(revision, 0.0), moment(condition.get("lastTransitionTime")))
    return {
        revision: Pods(
            spec=sizes.get(revision, 0),
            ready=ready.get(revision, 0),
            unready_for=max(0.0, now - last[revision]) if last.get(revision) else 0.0,
        )
        for revision in sorted(set(sizes) | set(ready))
    }


def _analysis(analyses: Sequence[Wire], state: Canary) -> Wire:
    """The one of this very run, step and attempt."""
    if not state.active:
        return {}
    for item in analyses:
        spec = mapping(item.get("spec"))
        fence = tuple(whole(spec.get(name)) for name in ("run", "step", "attempt"))
        if fence == (state.run, state.step, state.attempt) and spec.get("candidate") == state.candidate:
            return item
    return {}


def _found(analysis: Wire, state: Canary) -> Found | None:
    verdict = text(mapping(analysis.get("status")).get("verdict"))
    for known in Verdict:
        if known == verdict:
            return Found(
                run=state.run,
                step=state.step,
                attempt=state.attempt,
                verdict=known,
                reason=text(mapping(analysis.get("status")).get("message")),
            )
    return None


def _versions(status: Wire) -> dict[str, str]:
    return {
        text(revision.get("hash")): ", ".join(
            text(model.get("version")) for model in maps(revision.get("models")) if model.get("version")
        )
        for revision in maps(status.get("revisions"))
    }


def revision_of(item: Wire) -> str:
    return text(mapping(mapping(item.get("metadata")).get("labels")).get(LABEL_REVISION))


def _condition(item: Wire, kind: str) -> Wire:
    for condition in maps(mapping(item.get("status")).get("conditions")):
        if condition.get("type") == kind:
            return condition
    return {}


def mapping(value: object) -> Wire:
    return value if isinstance(value, Mapping) else {}


def maps(value: object) -> list[Wire]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def moment(value: object) -> float:
    """Seconds since the epoch of an RFC 3339 text; 0 for anything else."""
    try:
        return datetime.fromisoformat(text(value)).timestamp() if value else 0.0
    except ValueError:
        return 0.0
