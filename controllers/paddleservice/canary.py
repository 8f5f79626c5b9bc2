"""A PaddleService's canary: from what is observed to the step machine, and from there to a rollout. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ..blockers import Blocker
from ..reasons import Reason
from ..resources.wire import at, integer, mapping, maps, text
from ..rollout import canary
from ..rollout.canary import Canary, Ensure, Facts, Phase, Plan, Pods, Report, Route, Scale
from ..rollout.identity import Identity
from ..traffic import Revision as Side
from ..traffic import Rule, Split, from_wire, refusal
from ..traffic import rules as rules_of
from .observed import Observed, Pod, Revision
from .plan import plan, provider
from .rollout import Canarying, Rollout, find_blocker, hold, identify, pods_of

#: Restarts of a container that make it a crash loop.
RESTARTS: Final = 3
#: Of these blockers a candidate does not come back by itself, once it has restarted often enough.
_LOOPS: Final = (Reason.CrashLoop, Reason.OutOfMemory, Reason.WorkerCrashed)


def remembered(status: Mapping[str, object]) -> Canary:
    """The state in status. ValueError, with what to do, for one that cannot be read."""
    raw = mapping(status.get("canary"))
    stable = text(status.get("stableRevision"))
    state = canary.from_wire(raw)
    # Another strategy, or the first rollout, may have moved the stable revision meanwhile.
    return replace(state, stable=stable) if state.at_rest and stable and stable != state.stable else state


def follow(observed: Observed, state: Canary, now: datetime) -> Rollout:
    """Where the run stands and what comes next."""
    identity, by_hash = identify(observed)
    wanted = identity.hash if identity else ""
    name = provider(observed.settings, observed.status, at_rest=state.at_rest)
    course = plan(observed.settings, name, settle=observed.watched.settle)
    if state.at_rest and state.stable not in by_hash and state.stable != wanted:
        state = replace(state, stable="")  # it was taken away by hand: there is nothing to compare with
    settings = observed.settings
    if settings.strategy.type != "Canary" or not settings.replicas:
        # The run is not wanted any more: it ends where it came from, and the clients back on the pods.
        wanted = state.stable
    elif observed.watched.problem and state.phase is Phase.Idle and wanted != state.stable and state.stable:
        wanted = ""  # nothing could judge it
    state = _ruled(observed, state, now)
    facts = _facts(observed, state, course, wanted, now)
    decision = canary.decide(observed.owner.name, state, course, facts)
    return _rollout(observed, identity, by_hash, decision, course, name, now)


def unreadable(observed: Observed, why: str) -> Rollout:
    """Nothing is done before somebody has looked at the state."""
    identity, by_hash = identify(observed)
    name = identity.hash if identity else ""
    return Rollout(
        identity=identity,
        target=by_hash.get(name),
        stable=text(observed.status.get("stableRevision")),
        blocker=Blocker(Reason.CanaryUnreadable, why, True),
        shown=by_hash.get(text(observed.status.get("stableRevision"))),
        ensured=False,
    )


def _rollout(
    observed: Observed,
    identity: Identity | None,
    by_hash: Mapping[str, Revision],
    decision: canary.Decision,
    course: Plan,
    provider: str,
    now: datetime,
) -> Rollout:
    state = decision.state
    wanted = identity.hash if identity else ""
    target = by_hash.get(wanted)
    sizes = {effect.revision: effect.replicas for effect in decision.effects if isinstance(effect, Scale)}
    # Only what keeps stable from serving is in the service's way; of the candidate the run tells.
    blocker = find_blocker(observed, by_hash.get(state.stable) if state.stable else target)
    if observed.refusal is not None:
        blocker = Blocker(observed.refusal.reason, observed.refusal.message, observed.refusal.fatal)
    held, awaiting = hold(observed, target, now)
    before = text(observed.status.get("stableRevision"))
    return Rollout(
        identity=identity,
        target=target,
        stable=state.stable,
        sizes=sizes,
        hold=held if state.phase in (Phase.Idle, Phase.Preparing) else "",
        awaiting_latency=awaiting,
        promoted=bool(wanted) and state.stable == wanted,
        promoting=bool(wanted) and state.stable == wanted != before,
        blocker=blocker,
        shown=by_hash.get(state.stable) or target,
        ensured=target is not None or Ensure(revision=wanted) in decision.effects,
        canary=Canarying(
            decision=decision,
            plan=course,
            provider=provider,
            split=_split(observed, by_hash, state),
            problem=observed.watched.problem,
            answered=bool(state.token) and state.token != text(at(observed.status, "canary", "token")),
        ),
    )


def _ruled(observed: Observed, state: Canary, now: datetime) -> Canary:
    """Other rules beside the same weights are another change of the split."""
    traffic = mapping(observed.status.get("traffic"))
    if not traffic or state.at_rest:
        return state
    same = _rules(observed) == rules_of({"traffic": traffic})
    return state if same else replace(state, traffic=state.traffic.renewed(now.timestamp()))


def _split(observed: Observed, by_hash: Mapping[str, Revision], state: Canary) -> Split | None:
    """What the provider is to know; None while there is no route."""
    weights = state.traffic.weights
    if not weights or state.path.way is canary.Way.Closing:
        return None
    owner = observed.owner
    known = from_wire(owner.key, owner.uid, mapping(observed.status.get("traffic")))
    if known is not None and known.change == state.traffic.change:
        return known  # one number means one split
    sides = [Side(hash=name, versions=_versions(by_hash.get(name))) for name, _ in weights]
    return Split(
        service=owner.key,
        uid=owner.uid,
        port=observed.watched.port or integer(at(observed.status, "traffic", "port")),
        change=state.traffic.change,
        stable=sides[0],
        candidate=sides[1] if len(sides) > 1 else None,
        weight=weights[1][1] if len(weights) > 1 else 0,
        rules=_rules(observed),
        route=observed.watched.home.route if observed.watched.home else None,
    )


def _rules(observed: Observed) -> tuple[Rule, ...]:
    """Those of the spec; none while they cannot be followed, which is told."""
    wanted = rules_of({"traffic": observed.settings.traffic})
    return () if refusal(wanted) else wanted


def _versions(revision: Revision | None) -> tuple[str, ...]:
    found = (text(model.get("version")) for model in (revision.models if revision else ()))
    return tuple(dict.fromkeys(version for version in found if version))


def _facts(observed: Observed, state: Canary, course: Plan, wanted: str, now: datetime) -> Facts:
    watched = observed.watched
    pods = {revision.hash: _pods(observed, revision, state, now) for revision in observed.revisions}
    return Facts(
        now=now.timestamp(),
        wanted=wanted,
        pods=pods,
        report=_counted(state, course, pods) if course.means == "Pods" else watched.report,
        found=watched.found,
        command=watched.command,
        checked=watched.checked,
        metrics=watched.metrics,
        hold=watched.hold,
        endpoints=watched.endpoints,
        removed=watched.removed == state.traffic.change > 0,
    )


def _counted(state: Canary, course: Plan, pods: Mapping[str, Pods]) -> Report:
    """Where pods are the weight, what is ready tells whether it is in force."""
    share = state.traffic.share(state.candidate)
    sizes = zip((state.stable, state.candidate), canary.counts(course.replicas, share), strict=True)
    missing = [
        f"{pods.get(name, Pods()).ready} of {size} pods of {name} ready"
        for name, size in sizes
        if name and pods.get(name, Pods()).ready != size
    ]
    route = Route.Pending if missing else Route.Verified
    return Report(change=state.traffic.change, route=route, message=", ".join(missing))


def effective(rollout: Rollout, observed: Observed) -> float | None:
    """The candidate's share that is in force, in percent; None if nobody knows."""
    run = rollout.canary
    if run is None or run.split is None or run.split.candidate is None:
        return None
    if run.plan.means != "Pods":
        return observed.watched.effective
    ready = {item.hash: item.ready for item in observed.revisions}
    mine, other = ready.get(run.split.candidate.hash, 0), ready.get(run.split.stable.hash, 0)
    return round(100 * mine / (mine + other), 1) if mine + other else None


def _pods(observed: Observed, revision: Revision, state: Canary, now: datetime) -> Pods:
    mine = pods_of(observed, revision.hash)
    ready = sum(pod.ready for pod in mine)
    if state.phase in (Phase.Idle, Phase.Preparing) and revision.hash != state.stable:
        held, awaiting = hold(observed, revision, now)
        ready = 0 if held or awaiting else ready
    obstacle = find_blocker(observed, revision)
    return Pods(
        spec=revision.replicas,
        ready=ready,
        unready_for=0.0 if ready else _unready_for(revision, mine, now),
        broken=_broken(observed, revision, mine),
        obstacle=obstacle.message if obstacle else "",
        change=revision.change,
    )


def _unready_for(revision: Revision, pods: list[Pod], now: datetime) -> float:
    """Seconds since one of the pods was ready, or could first have been."""
    moments = [pod.unready_since for pod in pods if pod.unready_since is not None]
    if not moments:
        moments = [revision.unavailable_since] if revision.unavailable_since is not None else []
    since = max(moments, default=now)
    return max(timedelta(), now - since).total_seconds()


def _broken(observed: Observed, revision: Revision, pods: list[Pod]) -> str:
    """Why its pods do not come back by themselves, or ""."""
    found = find_blocker(observed, revision)
    if found is None:
        return ""
    if found.fatal:
        return found.message
    restarts = max((_restarts(pod) for pod in pods if not pod.ready), default=0)
    return found.message if found.reason in _LOOPS and restarts >= RESTARTS else ""


def _restarts(pod: Pod) -> int:
    status = mapping(pod.raw.get("status"))
    return max(
        (
            integer(container.get("restartCount"))
            for part in ("initContainerStatuses", "containerStatuses")
            for container in maps(status.get(part))
        ),
        default=0,
    )
