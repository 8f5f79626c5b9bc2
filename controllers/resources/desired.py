"""What a PaddleService asks for, decoded once at the edge.

Everything behind this module works on these frozen values: no pydantic object, no client and no cache
reaches a decision. Fields that are unset stay unset here (None or empty); defaults that belong to a
rendered object are put in where it is rendered, so that a new default never changes a revision's identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .wire import at, integer, mapping, maps, plain, text

StrategyType = Literal["RollingUpdate", "Canary", "InPlace", "Recreate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of a service with everything pinned.

    name: the serving name (URL). model: the PaddleModel's name. source: the `source` mapping of models.yaml.
    latency_sla: milliseconds, 0 for none. secret, ca_secret: names of Secrets in the service's namespace,
    or "".
    """

    name: str
    model: str = ""
    uid: str = ""
    version: str = ""
    digest: str = ""
    framework: str = "paddle"
    source: Mapping[str, object] = field(default_factory=dict)
    checksum: str = ""
    secret: str = ""
    ca_secret: str = ""
    ca_key: str = "ca.crt"
    priority: int | None = None
    latency_sla: int = 0
    batching: Mapping[str, object] = field(default_factory=dict)
    warm_up: Mapping[str, object] = field(default_factory=dict)
    inputs: tuple[Mapping[str, object], ...] = ()
    outputs: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How a new revision replaces the old. Surge and unavailable: a count, or a percentage such as "25%"."""

    type: StrategyType = "RollingUpdate"
    max_surge: int | str = 1
    max_unavailable: int | str = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds whether or not the models are known. progress_deadline in seconds. canary, traffic: as they
    are on the wire; `paddleservice.plan` reads them.
    """

    replicas: int = 1
    strategy: Strategy = Strategy()
    progress_deadline: float = 600.0
    history_limit: int = 10
    canary: Mapping[str, object] = field(default_factory=dict)
    traffic: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What runs in a pod: the spec fields that reach it, and the pinned models. in_place: pods take other
    versions of the models while they run; the models then stand in the order of their names.
    """

    models: tuple[Model, ...]
    image: str = ""
    engine: str = ""
    workers: int | None = None
    threads: int | None = None
    resources: Mapping[str, object] = field(default_factory=dict)
    gpu: Mapping[str, object] = field(default_factory=dict)
    warm_up: Mapping[str, object] = field(default_factory=dict)
    pod: Mapping[str, object] = field(default_factory=dict)
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One entry of spec.models before it is pinned: `reference` names a PaddleModel unless `pinned` is
    there.
    """

    name: str
    reference: str
    pinned: Mapping[str, object]
    entry: Mapping[str, object]


def requests(spec: Mapping[str, object]) -> tuple[ModelRequest, ...]:
    """The models that a spec asks for, in its order."""
    found = []
    for entry in maps(spec.get("models")):
        pinned = mapping(entry.get("pinned"))
        reference = text(at(entry, "modelRef", "name")) or text(pinned.get("modelName"))
        found.append(ModelRequest(text(entry.get("name")) or reference, reference, pinned, entry))
    return tuple(found)


def pin(request: ModelRequest, pinned: Mapping[str, object]) -> Model:
    """`request` with what `pinned` (its own block, or one made by `pinned_by`) fixes."""
    entry = request.entry
    priority = entry.get("priority")
    return Model(
        name=request.name,
        model=text(pinned.get("modelName")) or request.reference,
        uid=text(pinned.get("uid")),
        version=text(pinned.get("version")),
        digest=text(pinned.get("digest")),
        framework=text(pinned.get("framework"), "paddle"),
        source=mapping(pinned.get("source")),
        checksum=text(pinned.get("checksum")),
        secret=text(at(pinned, "secretRef", "name")),
        ca_secret=text(at(pinned, "caSecretRef", "name")),
        ca_key=text(at(pinned, "caSecretRef", "key"), "ca.crt") or "ca.crt",
        priority=priority if isinstance(priority, int) else None,
        latency_sla=integer(entry.get("latencySLAMilliseconds")),
        batching=mapping(entry.get("batching")),
        warm_up=mapping(entry.get("warmUp")),
        inputs=tuple(maps(pinned.get("inputs"))),
        outputs=tuple(maps(pinned.get("outputs"))),
    )


def pinned_by(model: Mapping[str, object]) -> Mapping[str, object] | None:
    """The pinned block that a PaddleModel (a wire object) gives; None while its newest version is not
    resolved.
    """
    metadata, spec = mapping(model.get("metadata")), mapping(model.get("spec"))
    artifact = mapping(at(model, "status", "artifact"))
    # New content needs a new version (a rule of the schema), so the version tells whether the artefact is
    # current.
    if not artifact.get("resolved") or artifact.get("version") != spec.get("version"):
        return None
    holder = mapping(spec.get("storage")) or spec
    return {
        "modelName": metadata.get("name"),
        "uid": metadata.get("uid"),
        "version": spec.get("version"),
        "digest": artifact.get("digest") or "",
        "framework": spec.get("framework"),
        "source": artifact.get("resolved"),
        "checksum": spec.get("checksum") or "",
        "secretRef": holder.get("secretRef"),
        "caSecretRef": holder.get("caSecretRef"),
        "inputs": spec.get("inputs"),
        "outputs": spec.get("outputs"),
    }


def _count_or_percent(value: object, default: int) -> int | str:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else default


def _strategy(spec: Mapping[str, object]) -> Strategy:
    wanted = text(at(spec, "updateStrategy", "type"), "RollingUpdate")
    rolling = mapping(at(spec, "updateStrategy", "rollingUpdate"))
    known: dict[str, StrategyType] = {"Canary": "Canary", "InPlace": "InPlace", "Recreate": "Recreate"}
    return Strategy(
        type=known.get(wanted, "RollingUpdate"),
        max_surge=_count_or_percent(rolling.get("maxSurge"), 1),
        max_unavailable=_count_or_percent(rolling.get("maxUnavailable"), 0),
    )


def _optional(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def settings(spec: Mapping[str, object]) -> Settings:
    """How `spec` (a PaddleService's, as on the wire) wants to be scaled and updated."""
    autoscaled = integer(at(spec, "autoscaling", "minReplicas"), 1)
    return Settings(
        replicas=integer(spec.get("replicas"), autoscaled),
        strategy=_strategy(spec),
        progress_deadline=float(integer(spec.get("progressDeadlineSeconds"), 600)),
        history_limit=integer(spec.get("revisionHistoryLimit"), 10),
        canary=mapping(at(spec, "updateStrategy", "canary")),
        traffic=mapping(spec.get("traffic")),
    )


def decode(spec: Mapping[str, object], models: tuple[Model, ...]) -> Desired:
    """What `spec` (a PaddleService's, as on the wire) wants in its pods, with its models already pinned."""
    runtime = mapping(spec.get("runtime"))
    copied = {key: mapping(plain(mapping(spec.get(key)))) for key in ("resources", "gpu", "warmUp", "pod")}
    in_place = _strategy(spec).type == "InPlace"
    return Desired(
        models=tuple(sorted(models, key=lambda model: model.name)) if in_place else models,
        in_place=in_place,
        image=text(runtime.get("image")),
        engine=text(runtime.get("engine")),
        workers=_optional(runtime.get("workers")),
        threads=_optional(runtime.get("threads")),
        resources=copied["resources"],
        gpu=copied["gpu"],
        warm_up=copied["warmUp"],
        pod=copied["pod"],
    )
