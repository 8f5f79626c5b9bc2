"""The status of a PaddleService: phase, conditions, counts and one line for people. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..conditions import Condition, merge, one_line
from ..phases import Facts, Phase, Transition, parse, walk
from ..resources.meta import selector
from ..resources.wire import JSON, at, integer, mapping, maps, pruned, text
from ..rollout import canary
from . import canary_status, inplace
from . import progress as progressing
from .conditions import conditions
from .models import content_disagrees, downloads, revision_list, served_models, stages
from .observed import Observed
from .rollout import Rollout, pods_of

_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the status says, and what the decision needs to know of it.

    settled: nothing is under way, so no pod needs to be asked.
    """

    status: JSON
    phase: Phase
    transitions: tuple[Transition, ...]
    conditions: tuple[Condition, ...]
    message: str
    settled: bool
    progress: progressing.Progress | None = field(default=None)

    def steady(self, status: Mapping[str, object] | None = None) -> JSON:
        """A status (this one's, or the given) without what moves with every byte of a download."""
        whole = self.status if status is None else status
        kept = {key: value for key, value in whole.items() if key not in ("download", "message", "progress")}
        marks = {
            key: value for key, value in mapping(at(whole, "progress", "marks")).items() if key != "bytes"
        }
        told = whole.get("conditions")
        if isinstance(told, list):
            kept["conditions"] = [{k: v for k, v in mapping(item).items() if k != "message"} for item in told]
        return kept | {"marks": marks, "downloading": "download" in whole}

    def worded(self, status: Mapping[str, object] | None = None) -> JSON:
        """A status without the numbers of its messages, which in a run change with every second."""
        whole = dict(self.status if status is None else status)
        whole["message"] = _DIGITS.sub("#", text(whole.get("message")))
        whole["conditions"] = [
            {**item, "message": _DIGITS.sub("#", text(item.get("message")))}
            for item in maps(whole.get("conditions"))
        ]
        return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Pods: wanted, ready of all revisions, ready of the wanted revision."""

    wanted: int
    ready: int
    updated: int
    updated_ready: int


def counts(observed: Observed, rollout: Rollout) -> Counts:
    """Of a canary the stable revision's pods are counted: what comes and goes beside it is no capacity."""
    target = rollout.target
    counted = {rollout.stable} if rollout.canary and rollout.stable else None
    return Counts(
        wanted=observed.settings.replicas,
        ready=sum(rev.ready for rev in observed.revisions if counted is None or rev.hash in counted),
        updated=target.pods if target else 0,
        updated_ready=target.ready if target else 0,
    )


def report(observed: Observed, rollout: Rollout, drifted: tuple[str, ...], now: datetime) -> Report:
    """The status to be, given what was observed. Equal to the one there when nothing changed."""
    status = observed.status
    before = parse(status.get("phase"))
    changed = observed.generation > integer(status.get("observedGeneration"))
    number = counts(observed, rollout)
    serving = _serving(observed, rollout, number)
    resolved = observed.waiting is None
    refusal = observed.refusal
    serves = serving and rollout.canary is not None  # the stable one does, whatever is refused to the other
    serving = serves or (serving and refusal is None)
    fatal = rollout.blocker is not None and rollout.blocker.fatal

    progress = None
    if not (serving and resolved) or observed.foreign:
        marks = progressing.Marks(
            revision=rollout.hash if resolved else "",
            pods=number.updated,
            ready=number.updated_ready,
            stage=stages(observed, rollout.hash),
            bytes=downloads(observed, rollout.hash).done,
        )
        progress = progressing.follow(
            status, marks, fresh=changed, deadline=observed.settings.progress_deadline, now=now
        )
    # The phase of a canary is that of the stable revision: another spec is no news to it.
    apart = rollout.canary is not None or rollout.release is not None
    stays = apart and bool(rollout.stable) and serving and before is Phase.Ready
    facts = Facts(
        changed=changed and not stays,
        refused=any(not item.predecessor for item in observed.foreign)
        or (refusal is not None and refusal.fatal and not serves),
        resolved=resolved or stays,
        serving=serving and not observed.foreign,
        broken=fatal and not serving,
        overdue=progress is not None and progress.overdue(now),
    )
    phase, transitions = walk(before, facts)
    disagreement = content_disagrees(observed, rollout.hash)
    told = conditions(observed, rollout, phase, number.ready, number.wanted, drifted, disagreement, facts)
    line = next(item.message for item in told if item.type == "Ready")
    models = served_models(observed, rollout)
    return Report(
        status=_wire(observed, rollout, phase, told, line, number, models, progress, now),
        phase=phase,
        transitions=transitions,
        conditions=told,
        message=line,
        settled=phase is Phase.Ready and _settled(rollout, number),
        progress=progress,
    )


def _settled(rollout: Rollout, number: Counts) -> bool:
    if rollout.canary is not None:
        return rollout.canary.state.phase is canary.Phase.Idle
    if rollout.release is not None and not rollout.release.settled:
        return False
    return rollout.promoted and number.updated_ready >= number.wanted


def _serving(observed: Observed, rollout: Rollout, number: Counts) -> bool:
    """The newest revision serves with all it was asked for; once promoted, it serves as long as a pod does.

    A pod that a node drain moves elsewhere is Degraded, not a new deployment.
    """
    if rollout.identity is None:
        return False
    if number.wanted == 0:
        return sum(revision.pods for revision in observed.revisions) == 0 and rollout.target is not None
    if rollout.canary is not None:
        return bool(rollout.stable) and number.ready > 0
    return rollout.promoted and number.updated_ready > 0


def models_line(models: list[JSON]) -> str:
    names = [f"{item.get('name')} {item.get('version') or ''}".strip() for item in models]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _wire(
    observed: Observed,
    rollout: Rollout,
    phase: Phase,
    told: tuple[Condition, ...],
    line: str,
    number: Counts,
    models: list[JSON],
    progress: progressing.Progress | None,
    now: datetime,
) -> JSON:
    owner, status = observed.owner, observed.status
    counted = rollout.stable or rollout.hash
    stable = next((item for item in observed.revisions if item.hash == counted), None)
    chosen = selector(owner.name, counted)
    previous = status.get("conditions")
    body = pruned(
        {
            "url": "" if observed.foreign else f"http://{owner.name}.{owner.namespace}.svc",
            "message": one_line(line),
            "stableRevision": rollout.stable,
            "updatedRevision": rollout.hash,
            "revisions": revision_list(observed, rollout),
            "models": models,
            "selector": ",".join(f"{key}={value}" for key, value in chosen.items()) if counted else "",
            "download": _download(observed, rollout) if phase is not Phase.Ready else {},
            "progress": progress.wire() if progress is not None else {},
        }
    )
    return body | {
        "phase": str(phase),
        "observedGeneration": observed.generation,
        "conditions": merge(
            previous if isinstance(previous, list) else [], told, generation=observed.generation, now=now
        ),
        "replicas": stable.pods if stable else 0,
        "readyReplicas": number.ready,
        "updatedReplicas": number.updated,
        "availableReplicas": number.ready,
        "display": pruned(
            {
                "ready": f"{min(number.ready, number.wanted)}/{number.wanted}",
                "canary": canary_status.display(rollout.canary) or inplace.display(rollout),
            }
        ),
        **canary_status.wire(observed, rollout),
        **inplace.wire(observed, rollout),
    }


def _download(observed: Observed, rollout: Rollout) -> JSON:
    """Of the slowest pod that pulls; empty when none does."""
    slowest: tuple[int, str, JSON] | None = None
    for pod in pods_of(observed, rollout.hash):
        seen = observed.seen.get(pod.uid)
        if seen is None or seen.stage != "Pulling":
            continue
        total = sum(model.bytes_total for model in seen.models)
        block: JSON = {
            "pod": pod.name,
            "bytesDone": seen.bytes_done,
            "bytesTotal": total,
            "bytesPerSecond": round(sum(model.bytes_per_second for model in seen.models), 1),
            "etaSeconds": round(max((model.eta for model in seen.models), default=0.0), 1),
        }
        rest = total - seen.bytes_done
        if slowest is None or (rest, pod.name) > slowest[:2]:
            slowest = (rest, pod.name, block)
    return slowest[2] if slowest else {}
