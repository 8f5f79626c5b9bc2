"""Which revision is wanted and how far it got: what both effects and status rest on. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..blockers import Blocker, choose, of_deployment, of_pod
from ..conditions import one_line
from ..reasons import Reason
from ..resources.desired import Desired
from ..resources.wire import JSON, text
from ..rollout.canary import Canary, Decision, Plan
from ..rollout.identity import Identity
from ..rollout.identity import choose as choose_revision
from ..rollout.inplace import Release
from ..rollout.planner import budget, plan
from ..traffic import Split
from .observed import Observed, Pod, Revision

#: Seconds that a ready pod's warm-up latency is waited for before it is promoted without.
LATENCY_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Canarying:
    """A canary's side of a rollout. split: what the provider is to know, None while there is no route.

    problem: why no run can be judged by the spec, or "". answered: a command was, in this pass.
    """

    decision: Decision
    plan: Plan
    provider: str
    split: Split | None
    problem: str = ""
    answered: bool = False

    @property
    def state(self) -> Canary:
        return self.decision.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """identity: None when nothing was ever resolved. sizes: the next replicas of each revision.

    hold: why the target replaces nothing more yet. awaiting_latency: it is held only until a pod was asked.
    promoted: the target is (or becomes now) the stable revision. shown: the revision whose models the status
    shows: the one that serves. ensured: the objects of the identity are to be there. canary, release: None
    for strategies that have none.
    """

    identity: Identity | None
    target: Revision | None
    stable: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    hold: str = ""
    awaiting_latency: bool = False
    promoted: bool = False
    promoting: bool = False
    blocker: Blocker | None = None
    shown: Revision | None = None
    ensured: bool = True
    canary: Canarying | None = None
    release: Release | None = None

    @property
    def hash(self) -> str:
        return self.identity.hash if self.identity else ""

    @property
    def shown_hash(self) -> str:
        return self.shown.hash if self.shown else self.hash

    @property
    def candidate(self) -> str:
        return self.canary.state.candidate if self.canary else ""


def follow(observed: Observed, now: datetime) -> Rollout:
    """Where the rollout stands and what sizes come next."""
    identity, by_hash = identify(observed)
    stable = text(observed.status.get("stableRevision"))
    name = identity.hash if identity else ""
    if stable not in by_hash and stable != name:
        stable = ""
    target = by_hash.get(name)
    if identity is None:
        return Rollout(identity=None, target=None, stable=stable)

    held, awaiting = hold(observed, target, now)
    wanted = observed.settings.replicas
    sizes = plan(
        target=name,
        stable=stable,
        desired=wanted,
        strategy=observed.settings.strategy,
        sizes=[revision.size for revision in observed.revisions],
        hold=bool(held) or awaiting,
    )
    blocker = find_blocker(observed, target)
    if observed.refusal is not None:
        blocker = Blocker(observed.refusal.reason, observed.refusal.message, observed.refusal.fatal)
    elif blocker is not None and blocker.reason is Reason.Unschedulable:
        blocker = _with_remedy(blocker, observed, name)
    proven = target is not None and wanted > 0 and min(target.ready, target.replicas) >= wanted
    others_gone = all(sizes[revision.hash] == 0 for revision in observed.revisions if revision.hash != name)
    promoting = proven and others_gone and not held and not awaiting and stable != name
    return Rollout(
        identity=identity,
        target=target,
        stable=name if promoting else stable,
        sizes=sizes,
        hold=held,
        awaiting_latency=awaiting,
        promoted=promoting or stable == name,
        promoting=promoting,
        blocker=blocker,
        shown=target,
    )


def identify(observed: Observed) -> tuple[Identity | None, Mapping[str, Revision]]:
    """The revision that the spec is, None when nothing was ever resolved; and all that are there, by hash."""
    by_hash = {revision.hash: revision for revision in observed.revisions}
    status = observed.status
    current, stable = text(status.get("updatedRevision")), text(status.get("stableRevision"))
    return _identity(observed, by_hash, current, stable), by_hash


def wanted(observed: Observed) -> str:
    """The hash of the revision that is to be; "" when nothing was ever resolved."""
    identity, _ = identify(observed)
    return identity.hash if identity else ""


def _identity(
    observed: Observed, by_hash: Mapping[str, Revision], current: str, stable: str
) -> Identity | None:
    if observed.desired is not None:
        return choose_revision(
            observed.desired,
            (revision.recorded for revision in observed.revisions),
            default_image=observed.default_image,
            preferred=(current, stable),
        )
    # A model is missing: what runs keeps running.
    revision = by_hash.get(current) or by_hash.get(stable)
    if revision is None:
        return None
    recorded = revision.recorded
    return Identity(recorded.hash, recorded.image, recorded.version, recorded.inputs)


def pods_of(observed: Observed, revision: str) -> list[Pod]:
    """The pods of a revision that are there to stay."""
    mine = (pod for pod in observed.pods if pod.revision == revision)
    return [pod for pod in mine if not pod.deleting and not pod.ended]


def find_blocker(observed: Observed, target: Revision | None) -> Blocker | None:
    if target is None:
        return None
    pods = pods_of(observed, target.hash)
    if not pods:  # what ended the last ones is all there is to tell until there are others
        pods = [pod for pod in observed.pods if pod.revision == target.hash and not pod.deleting]
    found = [of_pod(pod.raw, observed.seen.get(pod.uid)) for pod in pods if not pod.ready]
    found.append(of_deployment(target.name, target.status))
    return choose(found)


def _with_remedy(blocker: Blocker, observed: Observed, target: str) -> Blocker:
    """A surge that finds no place waits for a pod that waits for the surge: say how out."""
    settings = observed.settings
    if not any(rev.replicas for rev in observed.revisions if rev.hash != target):
        return blocker
    if settings.strategy.type != "RollingUpdate" or budget(settings.strategy, settings.replicas).surge == 0:
        return blocker
    remedy = (
        "if no node has room for one more, set updateStrategy.rollingUpdate {maxSurge: 0, maxUnavailable: 1}"
    )
    return Blocker(blocker.reason, one_line(f"{blocker.message}; {remedy}"), blocker.fatal, blocker.pod)


def hold(observed: Observed, target: Revision | None, now: datetime) -> tuple[str, bool]:
    """(why a first promotion is held, or "", whether its latency is still to be asked for)."""
    desired = observed.desired
    if desired is None or target is None or target.promoted or not observed.settings.replicas:
        return "", False
    promised = {model.name: model.latency_sla for model in desired.models if model.latency_sla}
    if not promised:
        return "", False
    known: dict[str, float] = {}
    waiting = False
    for pod in pods_of(observed, target.hash):
        if not pod.ready:
            continue
        seen = observed.seen.get(pod.uid)
        measured = {m.name: m.warm_up_median for m in seen.models if m.warm_up_median > 0} if seen else {}
        for name, median in measured.items():
            known[name] = max(known.get(name, 0.0), median)
        recently = pod.ready_since is None or now - pod.ready_since < timedelta(seconds=LATENCY_PATIENCE)
        waiting = waiting or (recently and not set(promised) <= set(measured))
    over = [
        f"model {name} answered its warm-up in {known[name]:.0f} ms (median), "
        f"its latencySLAMilliseconds is {promised[name]}"
        for name in sorted(promised)
        if known.get(name, 0.0) > promised[name]
    ]
    return "; ".join(over), waiting and not over


def models_of(desired: Desired) -> list[JSON]:
    """What a revision serves."""
    return [
        {
            "name": model.name,
            "modelName": model.model,
            "uid": model.uid,
            "version": model.version,
            "digest": model.digest,
        }
        for model in desired.models
    ]


def models_json(desired: Desired) -> str:
    """What a revision serves, for the annotation that status reads back."""
    return json.dumps(models_of(desired), separators=(",", ":"))
