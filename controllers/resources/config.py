"""models.yaml, the desired state of a serving pod, and the ConfigMap that carries it. Pure."""

from collections.abc import Mapping
from typing import Literal

import controller_runtime as ctrl
from artifacts import Batching, File, ModelEntry, PinnedSource, Tensor, WarmUp, models_yaml
from artifacts import Desired as PodState

from ..kinds import ANNOTATION_RELEASE
from .desired import Desired, Model
from .meta import Owner, Rendered, child_name, metadata, rendered
from .wire import integer, maps, number, text

CONFIG_FOLDER = "/etc/paddle"
CONFIG_FILE = "models.yaml"


def credentials_env(index: int) -> str:
    """The prefix of the environment variables that hold the credentials of model number `index`."""
    return f"MODEL_{index}"


def ca_path(index: int) -> str:
    """Where the CA bundle of model number `index` lies, below CONFIG_FOLDER."""
    return f"ca/{index}/ca.crt"


def _source(wire: Mapping[str, object]) -> PinnedSource:
    files = tuple(
        File(
            key=text(item.get("key")),
            path=text(item.get("path")),
            size=integer(item.get("size")),
            etag=text(item.get("etag")),
            sha256=text(item.get("sha256")),
        )
        for item in maps(wire.get("files"))
    )
    known: dict[str, Literal["s3", "http", "pvc", "file"]] = {"http": "http", "pvc": "pvc", "file": "file"}
    return PinnedSource(
        scheme=known.get(text(wire.get("scheme")), "s3"),
        endpoint=text(wire.get("endpoint")),
        region=text(wire.get("region")),
        bucket=text(wire.get("bucket")),
        path_style=wire.get("pathStyle") is not False,
        archive="tar" if wire.get("archive") == "tar" else "none",
        root=text(wire.get("root")),
        files=files,
    )


def _warm_up(wire: Mapping[str, object]) -> WarmUp | None:
    if not wire:
        return None
    samples = wire.get("samples")
    sizes = wire.get("batchSizes")
    return WarmUp(
        samples=tuple(samples) if isinstance(samples, list) else (),
        from_file=text(wire.get("fromFile")),
        runs=integer(wire.get("runs"), 3),
        batch_sizes=tuple(integer(size, 1) for size in sizes) if isinstance(sizes, list) and sizes else (1,),
        timeout_seconds=number(wire.get("timeoutSeconds"), 120.0),
    )


def _batching(wire: Mapping[str, object]) -> Batching | None:
    if not wire:
        return None
    return Batching(
        max_batch_size=integer(wire.get("maxBatchSize"), 8),
        max_delay_milliseconds=number(wire.get("maxDelayMilliseconds")),
    )


def _tensors(items: tuple[Mapping[str, object], ...]) -> tuple[Tensor, ...]:
    def shape(value: object) -> tuple[int, ...]:
        return tuple(integer(size, -1) for size in value) if isinstance(value, list) else ()

    return tuple(
        Tensor(
            name=text(item.get("name")), datatype=text(item.get("datatype")), shape=shape(item.get("shape"))
        )
        for item in items
    )


def _entry(desired: Desired, model: Model, index: int) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        uid=model.uid,
        version=model.version,
        digest=model.digest,
        framework="onnx" if model.framework == "onnx" else "paddle",
        source=_source(model.source),
        checksum=model.checksum.removeprefix("sha256:"),
        credentials_env=credentials_env(index) if model.secret else "",
        ca_file=f"{CONFIG_FOLDER}/{ca_path(index)}" if model.ca_secret else "",
        priority=100 if model.priority is None else model.priority,
        latency_sla_milliseconds=float(model.latency_sla) if model.latency_sla else None,
        batching=_batching(model.batching),
        warm_up=_warm_up(model.warm_up or desired.warm_up),
        engine=desired.engine or "auto",
        workers=desired.workers or 1,
        threads=desired.threads or 0,
        inputs=_tensors(model.inputs),
        outputs=_tensors(model.outputs),
    )


def config_text(owner: Owner, desired: Desired, revision: str) -> str:
    """models.yaml as text; equal input gives equal text."""
    entries = tuple(_entry(desired, model, index) for index, model in enumerate(desired.models))
    return models_yaml(
        PodState(service=owner.name, namespace=owner.namespace, revision=revision, models=entries)
    )


def release_file(release: str) -> str:
    """The key, and the file, of one release for pods that change their models in place."""
    return f"models-{release}.yaml"


def config_map(owner: Owner, desired: Desired, revision: str, *, release: str = "") -> Rendered:
    """ConfigMap <service>-<revision>. Immutable: kubelets need not watch it, and nobody edits it by
    mistake. With a release it is not: it is for pods that change their models in place, and begins so.
    """
    name = child_name(owner.name, revision)
    if release:
        return rendered(
            ctrl.CONFIG_MAP,
            metadata(owner, name, revision=revision, annotations={ANNOTATION_RELEASE: release}),
            data={CONFIG_FILE: config_text(owner, desired, release)},
        )
    return rendered(
        ctrl.CONFIG_MAP,
        metadata(owner, name, revision=revision),
        immutable=True,
        data={CONFIG_FILE: config_text(owner, desired, revision)},
    )
