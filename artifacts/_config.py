"""models.yaml: the desired state of a serving pod, read by the pull and by the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml

from artifacts._errors import ArtifactError, Reason, invalid
from artifacts._fields import Fields
from artifacts._manifest import PinnedSource, parse_checksum

SCHEMA = 1
Framework = Literal["paddle", "onnx"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)

_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_UID = r"[A-Za-z0-9][A-Za-z0-9-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    max_batch_size: int = 1
    max_delay_milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How a model is exercised before it counts as ready; `samples` are request bodies as a client would
    send.
    """

    samples: tuple[object, ...] = ()
    from_file: str = ""
    runs: int = 3
    batch_sizes: tuple[int, ...] = (1,)
    timeout_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output as the user declared it; -1 in `shape` means any length."""

    name: str
    datatype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of a pod. `checksum` is hex or ""; `digest` "" means unknown until the pod has read the
    files.
    """

    name: str
    uid: str
    version: str
    digest: str
    framework: Framework
    source: PinnedSource
    checksum: str = ""
    credentials_env: str = ""
    ca_file: str = ""
    priority: int = 100
    latency_sla_milliseconds: float | None = None
    batching: Batching | None = None
    warm_up: WarmUp | None = None
    engine: str = "auto"
    workers: int = 1
    threads: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    @property
    def folder_name(self) -> str:
        """The folder below <dest>/<uid>: 12 hex digits of the digest, or of what stands in for it."""
        digits = self.digest.rpartition(":")[2] or self.checksum
        return digits[:12] if digits else "unpinned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The whole of models.yaml."""

    service: str
    namespace: str
    revision: str
    models: tuple[ModelEntry, ...] = ()
    schema: int = SCHEMA


def load_config(source: str | Path) -> Desired:
    """Reads models.yaml from a path, or from text when a string has a line break in it (or is a JSON object).

    Raises ArtifactError(InvalidSource) with one line naming the bad field, its value and the remedy.
    """
    if isinstance(source, Path) or ("\n" not in source and not source.lstrip().startswith("{")):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise invalid(
                "config", str(source), f"it cannot be read ({error}); mount models.yaml there"
            ) from None
    else:
        text = source
    try:
        # The C loader is ten times faster; the pure one is the same parser.
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise invalid("config", text[:40], f"it is not YAML ({' '.join(str(error).split())})") from None
    return desired_from_wire(raw)


def desired_from_wire(raw: object) -> Desired:
    """Desired from a decoded models.yaml. Raises InvalidSource."""
    fields = Fields(raw, "")
    schema = fields.integer("schema")
    if schema != SCHEMA:
        raise invalid(
            "schema",
            schema,
            f"this image reads schema {SCHEMA}; use a runtime image of the operator's release",
        )
    desired = Desired(
        schema=schema,
        service=fields.text("service", pattern=_NAME),
        namespace=fields.text("namespace", pattern=_NAME),
        revision=fields.text("revision", ""),
        models=tuple(_model(item) for item in fields.items("models")),
    )
    fields.finish()
    names: set[str] = set()
    for model in desired.models:
        if model.name in names:
            raise invalid("models", model.name, "two models have this name; names must differ")
        names.add(model.name)
    return desired


def _model(f: Fields) -> ModelEntry:
    source = f.child("source")
    if source is None:
        raise invalid(f.at("source"), None, "it is required")
    sla = f.number("latencySLAMilliseconds") if f.has("latencySLAMilliseconds") else None
    entry = ModelEntry(
        name=f.text("name", pattern=_NAME),
        uid=f.text("uid", pattern=_UID),
        version=f.text("version"),
        digest=f.text(
            "digest", "", pattern=r"((sha256|etag):[0-9a-f]{64})?", remedy='write sha256:<64 hex> or ""'
        ),
        framework=f.choice("framework", FRAMEWORKS),
        source=PinnedSource.from_fields(source),
        checksum=parse_checksum(f.text("checksum", ""), field=f.at("checksum")),
        credentials_env=f.text("credentialsEnv", "", pattern=r"[A-Z_][A-Z0-9_]*|"),
        ca_file=f.text("caFile", ""),
        priority=f.integer("priority", 100),
        latency_sla_milliseconds=sla,
        batching=_batching(f.child("batching")),
        warm_up=_warm_up(f.child("warmUp")),
        engine=f.text("engine", "auto"),
        workers=f.integer("workers", 1, minimum=1, maximum=64),
        threads=f.integer("threads", 0, minimum=0, maximum=1024),
        inputs=tuple(_tensor(item) for item in f.items("inputs")),
        outputs=tuple(_tensor(item) for item in f.items("outputs")),
    )
    f.finish()
    if not entry.digest and not entry.source.local:
        raise invalid(
            f.at("digest"), "", f"a {entry.source.scheme} source is pinned by a digest; resolve it first"
        )
    return entry


def _batching(f: Fields | None) -> Batching | None:
    if f is None:
        return None
    batching = Batching(
        max_batch_size=f.integer("maxBatchSize", 1, minimum=1, maximum=4096),
        max_delay_milliseconds=f.number("maxDelayMilliseconds", 0),
    )
    f.finish()
    return batching


def _warm_up(f: Fields | None) -> WarmUp | None:
    if f is None:
        return None
    warm_up = WarmUp(
        samples=tuple(f.sequence("samples")),
        from_file=f.text("fromFile", ""),
        runs=f.integer("runs", 3, minimum=0, maximum=10_000),
        batch_sizes=f.integers("batchSizes", (1,), minimum=1),
        timeout_seconds=f.number("timeoutSeconds", 120),
    )
    f.finish()
    return warm_up


def _tensor(f: Fields) -> Tensor:
    tensor = Tensor(name=f.text("name"), datatype=f.text("datatype"), shape=f.integers("shape", minimum=-1))
    f.finish()
    return tensor


def to_wire(desired: Desired) -> dict[str, object]:
    """The mapping that load_config reads back to an equal Desired; fields at their default are left out."""
    return {
        "schema": desired.schema,
        "service": desired.service,
        "namespace": desired.namespace,
        "revision": desired.revision,
        "models": [_model_wire(model) for model in desired.models],
    }


def models_yaml(desired: Desired) -> str:
    """The text of models.yaml. Equal input gives equal text, key order included."""
    return str(yaml.dump(to_wire(desired), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000))


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # no stub for the C class
    """Without anchors: a list used twice is written twice, which people can read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _model_wire(m: ModelEntry) -> dict[str, object]:
    wire: dict[str, object] = {
        "name": m.name,
        "uid": m.uid,
        "version": m.version,
        "digest": m.digest,
        "framework": m.framework,
        "source": m.source.to_wire(),
    }
    optional: Mapping[str, tuple[object, object]] = {
        "checksum": (f"sha256:{m.checksum}" if m.checksum else "", ""),
        "credentialsEnv": (m.credentials_env, ""),
        "caFile": (m.ca_file, ""),
        "priority": (m.priority, 100),
        "latencySLAMilliseconds": (_short(m.latency_sla_milliseconds), None),
        "engine": (m.engine, "auto"),
        "workers": (m.workers, 1),
        "threads": (m.threads, 0),
        "inputs": (_tensors_wire(m.inputs), []),
        "outputs": (_tensors_wire(m.outputs), []),
    }
    wire.update({name: value for name, (value, default) in optional.items() if value != default})
    if m.batching is not None:
        wire["batching"] = {
            "maxBatchSize": m.batching.max_batch_size,
            "maxDelayMilliseconds": _short(m.batching.max_delay_milliseconds),
        }
    if m.warm_up is not None:
        wire["warmUp"] = {
            "samples": list(m.warm_up.samples),
            "fromFile": m.warm_up.from_file,
            "runs": m.warm_up.runs,
            "batchSizes": list(m.warm_up.batch_sizes),
            "timeoutSeconds": _short(m.warm_up.timeout_seconds),
        }
    return wire


def _tensors_wire(tensors: Sequence[Tensor]) -> list[object]:
    return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in tensors]


def _short(value: float | None) -> float | int | None:
    """200 instead of 200.0: what a person would write."""
    return int(value) if value is not None and value == int(value) else value


def load_ca(path: str) -> str:
    """The PEM text of a mounted CA bundle. Raises TLSError when it cannot be read."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            Reason.TLS_ERROR, f"caFile {path} cannot be read ({error}): fix caSecretRef"
        ) from None
