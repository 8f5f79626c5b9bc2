"""From a folder to a warm backend: which engines are tried, in which order, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from runtime.errors import ModelError, Reason
from runtime.signature import Signature, TensorSpec, Wire, narrowed
from runtime.worker import warmup
from runtime.worker.backend import Backend
from runtime.worker.batching import Batchability, probe
from runtime.worker.formats import ModelFiles, find

# Reasons that lie in the model or its samples, not in the engine: another engine would say the same.
_NOT_THE_ENGINE = {Reason.SCHEMA_MISMATCH, Reason.CORRUPT_MODEL, Reason.OUT_OF_MEMORY}

# Of the warm-up's time limit, what measuring may use: no run is started that would end later.
_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What LOAD asks for. `engine` is auto, native, onednn or onnxruntime; `skip` maps engines not to try to
    why.
    """

    path: Path
    framework: str
    engine: str = "auto"
    threads: int = 1
    skip: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    warm_up: warmup.Options = field(default_factory=warmup.Options)
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> Order:
        def side(name: str) -> tuple[TensorSpec, ...]:
            items = raw.get(name, ())
            assert isinstance(items, Sequence)
            return tuple(TensorSpec.from_wire(item) for item in items)

        warm, skip = raw.get("warmUp", {}), raw.get("skip", {})
        assert isinstance(warm, Mapping)
        assert isinstance(skip, Mapping)
        return cls(
            path=Path(str(raw["path"])),
            framework=str(raw["framework"]),
            engine=str(raw["engine"]),
            threads=int(str(raw["threads"])),
            skip=skip,
            max_rows=None if raw.get("maxRows") is None else int(str(raw["maxRows"])),
            warm_up=warmup.Options.from_wire(warm),
            inputs=side("inputs"),
            outputs=side("outputs"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A backend that has answered, and how it came to be. `dropped` maps engines that failed to their
    reason.
    """

    backend: Backend
    signature: Signature
    format: str
    measured: warmup.Measured
    batching: Batchability
    dropped: Mapping[str, str]
    load_seconds: float
    warm_seconds: float

    def to_wire(self) -> Wire:
        return {
            "engine": self.backend.engine,
            "format": self.format,
            "signature": self.signature.to_wire(),
            "medianSeconds": self.measured.median,
            "outputBytes": self.measured.output_bytes,
            "outputRows": self.measured.output_rows,
            "batching": self.batching.to_wire(),
            "note": self.measured.note,
            "dropped": dict(self.dropped),
            "loadSeconds": self.load_seconds,
            "warmSeconds": self.warm_seconds,
        }


def load(order: Order, progress: Callable[[str, str], None]) -> Loaded:
    """Loads and warms the first engine that works.

    engine auto means, for a Paddle model: oneDNN, and native when oneDNN fails. That is a rule, not a
    measurement: oneDNN is the faster one for convolutions of some size, native for tiny networks. An engine
    that was asked for by name falls back too, because serving slowly beats not serving; `dropped` says so.
    `progress` is told (stage, engine) before each step, so that whoever watches knows where a crash
    happened. Raises ModelError.
    """
    files = find(order.path, order.framework)
    dropped = dict(order.skip)
    engines = [engine for engine in _engines(order.engine, files) if engine not in dropped]
    for last, engine in ((engine == engines[-1], engine) for engine in engines):
        try:
            return _load_one(order, files, engine, dropped, progress)
        except ModelError as error:
            if last or error.reason in _NOT_THE_ENGINE:
                raise
            dropped[engine] = error.message
    raise ModelError(Reason.LOAD_FAILED, "; ".join(f"{name}: {why}" for name, why in dropped.items()))


def _engines(asked: str, files: ModelFiles) -> list[str]:
    known = {"auto", "onnxruntime"} if files.onnx else {"auto", "native", "onednn"}
    if asked not in known:
        raise ModelError(
            Reason.LOAD_FAILED,
            f"engine {asked!r} cannot run {files.model.name}; write one of {', '.join(sorted(known))}",
        )
    if files.onnx:
        return ["onnxruntime"]
    return ["native"] if asked == "native" else ["onednn", "native"]


def _load_one(
    order: Order,
    files: ModelFiles,
    engine: str,
    dropped: Mapping[str, str],
    progress: Callable[[str, str], None],
) -> Loaded:
    progress("Loading", engine)
    started = perf_counter()
    backend = _open(order, files, engine)
    try:
        signature = narrowed(backend.signature, order.inputs, order.outputs)
        loaded = perf_counter()
        progress("WarmingUp", engine)
        measured = warmup.warm(backend, signature, order.warm_up, order.path)
        batching = probe(
            backend,
            signature,
            measured.sample,
            wanted=order.max_rows,
            one=measured.median,
            until=loaded + _SHARE * order.warm_up.timeout,
        )
        return Loaded(
            backend=backend,
            signature=signature,
            format=files.format,
            measured=measured,
            batching=batching,
            dropped=dropped,
            load_seconds=loaded - started,
            warm_seconds=perf_counter() - loaded,
        )
    except BaseException:
        backend.close()
        raise


def _open(order: Order, files: ModelFiles, engine: str) -> Backend:
    # Imported here, so that a worker carries one engine only.
    if engine == "onnxruntime":
        from runtime.worker.onnx_backend import OnnxBackend

        return OnnxBackend(files, threads=order.threads)
    from runtime.worker.paddle_backend import PaddleBackend, signature_of

    return PaddleBackend(files, signature_of(files), engine=engine, threads=order.threads)
