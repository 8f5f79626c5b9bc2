"""The conditions of a PaddleService and the one line that stands for them. Pure."""

from ..conditions import Condition, Status, Type
from ..phases import Facts, Phase
from ..reasons import Reason
from ..resources.wire import text
from . import canary_status, inplace
from .models import downloads, seen_of
from .observed import Observed
from .rollout import Rollout, pods_of


def conditions(
    observed: Observed,
    rollout: Rollout,
    phase: Phase,
    ready: int,
    wanted: int,
    drifted: tuple[str, ...],
    disagreement: str,
    facts: Facts,
) -> tuple[Condition, ...]:
    reason, line = _headline(observed, rollout, phase, facts, ready, wanted)
    moving = phase in (Phase.Initialized, Phase.Deploying)
    found = [
        Condition(Type.Ready, "True" if phase is Phase.Ready else "False", reason, line),
        _available(ready, wanted),
        canary_status.progressing(rollout)
        or inplace.progressing(rollout)
        or _progressing(phase, reason, line),
        _degraded(
            rollout, phase, ready, wanted, reason, line, disagreement, refused=observed.refusal is not None
        ),
        *canary_status.conditions(observed, rollout),
        _resolved(observed),
        canary_status.reconciling(rollout)
        or Condition(Type.Reconciling, "True" if moving else "False", reason, line),
        Condition(Type.Stalled, "True" if phase is Phase.Failed else "False", reason, line),
    ]
    foreign = [item for item in observed.foreign if not item.predecessor]
    if foreign:
        found.append(Condition(Type.NameConflict, "True", Reason.NameConflict, _conflict(observed)))
    if drifted:
        names = ", ".join(drifted[:3])
        found.append(
            Condition(
                Type.Drifted,
                "True",
                Reason.Drifted,
                f"the pod template of Deployment {names} was changed by hand; it is left as it is: "
                "delete the Deployment to have it made anew",
            )
        )
    return tuple(found)


def _conflict(observed: Observed) -> str:
    first = next(item for item in observed.foreign if not item.predecessor)
    return (
        f"{first.kind} {observed.owner.namespace}/{first.name} exists and does not belong to this "
        "PaddleService: delete it or choose another name for the PaddleService"
    )


def _available(ready: int, wanted: int) -> Condition:
    if ready:
        return Condition(Type.Available, "True", Reason.Serving, f"{_pods(ready)} can answer")
    if not wanted:
        return Condition(Type.Available, "False", Reason.ScaledToZero, "replicas is 0")
    return Condition(Type.Available, "False", Reason.NotServing, "no pod is ready")


def _progressing(phase: Phase, reason: Reason, line: str) -> Condition:
    if phase is Phase.Ready:
        return Condition(Type.Progressing, "False", Reason.Complete, "the newest revision serves")
    return Condition(Type.Progressing, "False" if phase is Phase.Failed else "True", reason, line)


def _degraded(
    rollout: Rollout,
    phase: Phase,
    ready: int,
    wanted: int,
    reason: Reason,
    line: str,
    disagreement: str,
    *,
    refused: bool,
) -> Condition:
    if phase is Phase.Failed or refused:
        return Condition(Type.Degraded, "True", reason, line)
    rolled_back = canary_status.degraded(rollout) or inplace.degraded(rollout)
    if rolled_back is not None:
        return rolled_back
    if disagreement:
        return Condition(Type.Degraded, "True", Reason.ContentChanged, disagreement)
    if (rollout.promoted or rollout.canary) and ready < wanted:
        blocker = rollout.blocker
        missing = f"{ready} of {wanted} pods ready"
        return Condition(
            Type.Degraded,
            "True",
            blocker.reason if blocker else Reason.NotServing,
            f"{missing}: {blocker.message}" if blocker else missing,
        )
    return Condition(Type.Degraded, "False", Reason.AsExpected)


def _resolved(observed: Observed) -> Condition:
    if observed.waiting is not None:
        waiting = observed.waiting
        return Condition(Type.ArtifactResolved, "False", waiting.reason, waiting.message)
    models = observed.desired.models if observed.desired else ()
    unknown = [model.name for model in models if not model.digest]
    if unknown:
        line = f"the content of {', '.join(unknown[:4])} is known once a pod has read it"
        status: Status = "Unknown"
        return Condition(Type.ArtifactResolved, status, Reason.UnresolvedUntilPodReports, line)
    return Condition(Type.ArtifactResolved, "True", Reason.Resolved, "every model has a digest")


def _headline(
    observed: Observed, rollout: Rollout, phase: Phase, facts: Facts, ready: int, wanted: int
) -> tuple[Reason, str]:
    """The reason and the line that Ready, the message column and events carry."""
    if observed.foreign:
        if facts.refused:
            return Reason.NameConflict, _conflict(observed)
        line = "waiting for objects of the deleted PaddleService of the same name to go"
        return Reason.RollingOut, line
    if observed.refusal is not None:
        # Word for word, whatever the phase: the next process reads it back from here.
        return observed.refusal.reason, observed.refusal.message
    if observed.waiting is not None:
        reason, line = observed.waiting.reason, observed.waiting.message
        if facts.overdue:
            line = f"{line} (for longer than {observed.settings.progress_deadline:.0f} s)"
        return reason, line + _still(rollout, ready)
    if phase is Phase.Ready:
        if not wanted:
            return Reason.ScaledToZero, "scaled to zero: replicas is 0"
        serving = f"{min(ready, wanted)} of {wanted} pods ready, serving {_models(observed, rollout)}"
        run = canary_status.line(rollout) or inplace.line(rollout)
        return Reason.Serving, f"{serving}; {run}" if run else serving
    reason, line = _under_way(observed, rollout, wanted)
    if phase is Phase.Failed and facts.overdue and not facts.broken:
        line = f"no progress for {observed.settings.progress_deadline:.0f} s: {line}"
        reason = Reason.ProgressDeadlineExceeded
    return reason, line + _still(rollout, ready)


def _still(rollout: Rollout, ready: int) -> str:
    if rollout.stable and rollout.stable != rollout.hash and ready:
        return f"; revision {rollout.stable} still serves"
    return ""


def _under_way(observed: Observed, rollout: Rollout, wanted: int) -> tuple[Reason, str]:
    target = rollout.target
    blocker = rollout.blocker
    if blocker is not None:
        return blocker.reason, blocker.message
    if rollout.hold:
        return Reason.LatencyOverSLA, f"revision {rollout.hash} is held: {rollout.hold}"
    if target is None:
        return Reason.Starting, f"creating revision {rollout.hash}"
    if target.promoted and rollout.stable and rollout.stable != rollout.hash:
        reason = Reason.RollingBack
    else:
        reason = Reason.RollingOut
    staged = _stage(observed, rollout)
    if staged is not None:
        stage, line = staged
        return (reason if target.ready and stage is not Reason.Pulling else stage), line
    if target.ready < wanted:
        return (
            reason if target.ready or rollout.stable else Reason.Starting
        ), f"{target.ready} of {wanted} pods of revision {rollout.hash} ready"
    rest = sum(revision.pods for revision in observed.revisions if revision.hash != rollout.hash)
    return reason, f"{_pods(wanted)} of revision {rollout.hash} ready, {rest} of older revisions still leave"


def _stage(observed: Observed, rollout: Rollout) -> tuple[Reason, str] | None:
    stages = {seen.stage for seen in seen_of(observed, rollout.hash)}
    unready = [pod for pod in pods_of(observed, rollout.hash) if not pod.ready]
    if not unready or not stages:
        return None
    ready = f"{rollout.target.ready if rollout.target else 0} ready"
    if "Pulling" in stages:
        got = downloads(observed, rollout.hash)
        share = f"{_size(got.done)} of {_size(got.total)}" if got.total else _size(got.done)
        rest = f", {got.rest:.0f} s left" if got.rest > 0 else ""
        return Reason.Pulling, f"pulling {_models(observed, rollout)}: {share} at {_size(got.rate)}/s{rest}"
    if "Loading" in stages:
        return Reason.Loading, f"loading {_models(observed, rollout)} ({ready})"
    if "WarmingUp" in stages:
        return Reason.WarmingUp, f"warming up {_models(observed, rollout)} ({ready})"
    return None


def _models(observed: Observed, rollout: Rollout) -> str:
    models = rollout.shown.models if rollout.shown else ()
    named = [f"{text(item.get('name'))} {text(item.get('version'))}".strip() for item in models]
    if not named and observed.desired:
        named = [f"{model.name} {model.version}".strip() for model in observed.desired.models]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _pods(count: int) -> str:
    return f"{count} pod" if count == 1 else f"{count} pods"


def _size(amount: float) -> str:
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"
