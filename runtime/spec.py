"""What one model is to be served with, and the limits of the whole server: options, read at the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifacts import ArtifactError, Batching, ModelEntry, Tensor, WarmUp, locate
from artifacts._place import folder, read_placed
from runtime.restarts import RestartOptions
from runtime.signature import Wire

_KEEP = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds and bytes. `arena` is address space for each model; its pages count once they are used. `slots`
    may be in use at once over all models, 0 means the CPUs; a run takes one for each `slot_memory` bytes of
    its worker, or with 0 one for each of its threads.
    """

    body: int = 64 << 20
    arena: int = 256 << 20
    queue: int = 1024
    request: float = 30.0
    header: float = 10.0
    body_start: float = 10.0
    body_rate: float = 65536.0
    idle: float = 75.0
    connection_life: float = 300.0
    load: float = 600.0
    run_at_least: float = 5.0
    run_unknown: float = 60.0
    grace: float = 30.0
    drain_quiet: float = 3.0
    slots: int = 0
    slot_memory: int = 0
    worker_mode: str = "fixed"
    scale_down_after: float = 30.0
    restarts: RestartOptions = field(default_factory=RestartOptions)

    @property
    def drain_limit(self) -> float:
        """How long draining may take; what is left of the grace is for the end itself."""
        return max(0.0, self.grace - _KEEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One desired model whose files are at `path`. `sla` is in seconds; threads 0 means a share of the
    cgroup's.
    """

    name: str
    path: Path
    version: str = ""
    uid: str = ""
    digest: str = ""
    framework: str = "paddle"
    engine: str = "auto"
    workers: int = 1
    threads: int = 0
    sla: float | None = None
    priority: int = 100
    batching: Batching | None = None  # None: up to 8 rows without delay, if that is measured to be no loss
    warm_up: WarmUp = field(default_factory=WarmUp)
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()
    content_digest: str = ""
    size: int = 0
    problem: str = ""  # why there is nothing to load: the model is Failed from the start

    def order(self, threads: int, skip: Mapping[str, str], *, found: Mapping[str, object]) -> Wire:
        """The LOAD frame's body. `found` is the report of another worker, of this version or the one before:
        what it says of the same network holds, so that all workers of a model run the same.
        """
        return {
            "path": str(self.path),
            "framework": self.framework,
            "engine": self.engine,
            "threads": threads,
            "threadsFixed": self.threads > 0,
            "skip": dict(skip),
            "maxRows": self.batching.max_batch_size if self.batching is not None else None,
            "warmUp": {
                "samples": list(self.warm_up.samples),
                "fromFile": self.warm_up.from_file,
                "runs": self.warm_up.runs,
                "batchSizes": list(self.warm_up.batch_sizes),
                "timeoutSeconds": self.warm_up.timeout_seconds,
            },
            "inputs": [_tensor(tensor) for tensor in self.inputs],
            "outputs": [_tensor(tensor) for tensor in self.outputs],
            "found": dict(found),
        }


def _tensor(tensor: Tensor) -> Wire:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def from_entry(entry: ModelEntry, models: Path) -> ModelSpec:
    """The specification of a models.yaml entry whose files were pulled below `models`."""
    sla = entry.latency_sla_milliseconds
    problem = ""
    path = models
    try:
        path = locate(entry, models)
    except ArtifactError as error:
        problem = error.message
    placed = read_placed(folder(entry, models))
    return ModelSpec(
        name=entry.name,
        path=path,
        problem=problem,
        content_digest=placed.content_digest if placed else "",
        size=placed.size if placed else 0,
        version=entry.version,
        uid=entry.uid,
        digest=entry.digest,
        framework=entry.framework,
        engine=entry.engine,
        workers=entry.workers,
        threads=entry.threads,
        batching=entry.batching,
        sla=None if sla is None else sla / 1000,
        priority=entry.priority,
        warm_up=entry.warm_up or WarmUp(),
        inputs=entry.inputs,
        outputs=entry.outputs,
    )


def from_argument(
    argument: str,
    *,
    engine: str = "auto",
    workers: int = 1,
    threads: int = 0,
    batching: Batching | None = None,
) -> ModelSpec:
    """The specification of `--model name=path`. Raises ValueError with one line."""
    name, equals, path = argument.partition("=")
    if not equals or not name or not path or "/" in name:
        raise ValueError(f"--model {argument!r} is not usable: write name=path")
    folder = Path(path)
    onnx = folder.suffix == ".onnx" or (folder.is_dir() and any(folder.glob("*.onnx")))
    return ModelSpec(
        name=name,
        path=folder,
        framework="onnx" if onnx else "paddle",
        engine=engine,
        workers=workers,
        threads=threads,
        batching=batching,
    )
