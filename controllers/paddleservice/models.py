"""The models of a service in its status: what is served, how far each pod is with it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..probe import ModelProgress, Observation
from ..resources.wire import JSON, maps, pruned, text
from .observed import Observed, Revision
from .rollout import Rollout, models_of, pods_of

#: Revisions that are listed in status, newest first.
MAX_LISTED = 12
#: Models named of a revision that nothing runs on.
MAX_NAMED = 2
_STATES = ("Failed", "Waiting", "Pulling", "Loading", "WarmingUp", "Ready")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """Bytes, of all pods together; rate in bytes a second, rest in seconds (of the slowest)."""

    done: int = 0
    total: int = 0
    rate: float = 0.0
    rest: float = 0.0


def seen_of(observed: Observed, revision: str) -> list[Observation]:
    found = (observed.seen.get(pod.uid) for pod in pods_of(observed, revision))
    return [item for item in found if item is not None]


def downloads(observed: Observed, revision: str) -> Downloaded:
    models = [model for seen in seen_of(observed, revision) for model in seen.models]
    return Downloaded(
        done=sum(model.bytes_done for model in models),
        total=sum(model.bytes_total for model in models),
        rate=sum(model.bytes_per_second for model in models),
        rest=max((model.eta for model in models), default=0.0),
    )


def stages(observed: Observed, revision: str) -> int:
    """Stages that the pods have behind them, all together: a ready pod has passed them all."""
    passed = 0
    for pod in pods_of(observed, revision):
        seen = observed.seen.get(pod.uid)
        passed += 3 if pod.ready else max(0, seen.rank) if seen else 0
    return passed


def served_models(observed: Observed, rollout: Rollout) -> list[JSON]:
    """The models of the revision that is shown, with what its pods found out; what was found is kept."""
    if rollout.shown is not None:
        wanted = list(rollout.shown.models)
    elif observed.desired is not None:
        wanted = list(models_of(observed.desired))
    else:
        wanted = []
    before = {text(item.get("name")): item for item in maps(observed.status.get("models"))}
    content = content_digests(observed, rollout.shown_hash)
    result = []
    for model in sorted(wanted, key=lambda item: text(item.get("name"))):
        name = text(model.get("name"))
        old = before.get(name, {})
        same = all(old.get(key) == (model.get(key) or None) for key in ("uid", "version", "digest"))
        kept = {
            key: old[key]
            for key in ("contentDigest", "engine", "warmUpMedianMilliseconds")
            if same and key in old
        }
        told = {"contentDigest": min(content[name])} if content.get(name) else {}
        result.append(pruned(kept | dict(model) | told | _state(observed, rollout, name)))
    return result


def _state(observed: Observed, rollout: Rollout, name: str) -> JSON:
    """State of a model: of the pod that is least far, because that one is waited for."""
    found: list[ModelProgress] = []
    for pod in pods_of(observed, rollout.shown_hash):
        seen = observed.seen.get(pod.uid)
        if seen is not None and not pod.ready:
            found += [model for model in seen.models if model.name == name]
    known = [
        model for seen in seen_of(observed, rollout.shown_hash) for model in seen.models if model.name == name
    ]
    measured: JSON = {}
    medians = [model.warm_up_median for model in known if model.warm_up_median > 0]
    if medians:
        measured["warmUpMedianMilliseconds"] = round(max(medians), 3)
    engines = sorted({model.engine for model in known if model.engine})
    if engines:
        measured["engine"] = engines[0]
    if not found:
        ready = rollout.shown is not None and rollout.shown.ready > 0
        return measured | {"state": "Ready" if ready else "Waiting"}
    least = min(found, key=lambda item: _STATES.index(item.state) if item.state in _STATES else 1)
    failed = {"reason": least.reason, "message": least.message} if least.state == "Failed" else {}
    return measured | {"state": least.state} | failed


def content_digests(observed: Observed, revision: str) -> Mapping[str, set[str]]:
    """The content digests that pods computed, by model. More than one for a model means they disagree."""
    found: dict[str, set[str]] = {}
    if observed.desired is not None and observed.desired.in_place:
        return {}  # what a pod started with is not what it serves, and while they change they differ
    for pod in pods_of(observed, revision):
        for name, digest in pod.content.items():
            found.setdefault(name, set()).add(digest)
        seen = observed.seen.get(pod.uid)
        for model in seen.models if seen else ():
            if model.content_digest:
                found.setdefault(model.name, set()).add(model.content_digest)
    return found


def content_disagrees(observed: Observed, revision: str) -> str:
    """One line when pods of one revision hold different content, else ""."""
    for name, digests in sorted(content_digests(observed, revision).items()):
        if len(digests) > 1:
            listed = " and ".join(item[:19] for item in sorted(digests)[:2])
            return (
                f"pods hold different content of model {name} ({listed}): its files changed "
                "while pods started; give the new content a new version"
            )
    return ""


def revision_list(observed: Observed, rollout: Rollout) -> list[JSON]:
    """Revisions, newest first; models only of those that matter now, so that status stays small."""
    ordered = sorted(
        observed.revisions, key=lambda item: (item.created, item.promoted, item.hash), reverse=True
    )
    important = (rollout.hash, rollout.stable, rollout.candidate)
    ordered = [rev for rev in ordered if rev.hash in important or rev.pods or rev.replicas] + [
        rev for rev in ordered if not (rev.hash in important or rev.pods or rev.replicas)
    ]
    return [_listed(revision, revision.hash in important) for revision in ordered[:MAX_LISTED]]


def _listed(revision: Revision, with_models: bool) -> JSON:
    models = [dict(model) for model in revision.models]
    if not with_models:
        models = [{key: model[key] for key in ("name", "version") if key in model} for model in models]
        models = models[:MAX_NAMED]
    return pruned(
        {
            "hash": revision.hash,
            "replicas": revision.replicas,
            "ready": revision.ready,
            "available": revision.ready,
            "image": revision.recorded.image,
            "createdTime": revision.created,
            "models": [pruned(model) for model in models],
        }
    )
