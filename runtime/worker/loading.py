"""From a folder to a warm backend: which engines are tried, in which order, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from runtime.errors import ModelError, Reason
from runtime.signature import Signature, TensorSpec, Wire, narrowed
from runtime.worker import warmup
from runtime.worker.backend import Array, Backend
from runtime.worker.batching import Batchability, confirm, probe
from runtime.worker.calm import Calm
from runtime.worker.choosing import Choice, Chooser, Trial
from runtime.worker.formats import ModelFiles, find
from runtime.worker.known import Known, Second, key_of
from runtime.worker.pair import Pair, threshold
from runtime.worker.quantized import quantized
from runtime.worker.recorded import check

# Reasons that lie in the model or its samples, not in the engine: another engine would say the same.
_NOT_THE_ENGINE = {Reason.SCHEMA_MISMATCH, Reason.CORRUPT_MODEL, Reason.OUT_OF_MEMORY}

# Of the warm-up's time limit, what measuring may use: no run is started that would end later.
_SHARE = 0.25
# Bytes of weights up to which several engines are loaded to be compared: for a moment all are in memory.
_MEASURED_WEIGHTS = 256 << 20
# And up to which two of them may stay, one for single rows and one for batches.
_PAIRED_WEIGHTS = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What LOAD asks for. `engine` is auto, native, onednn or onnxruntime; `skip` maps engines not to try to
    why; without `threads_fixed`, one thread may be taken instead of `threads` where that is quicker. `found`
    is the report of an earlier worker, maybe of another version.
    """

    path: Path
    framework: str
    engine: str = "auto"
    threads: int = 1
    threads_fixed: bool = True
    skip: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    warm_up: warmup.Options = field(default_factory=warmup.Options)
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    found: Mapping[str, object] = field(default_factory=dict)
    asked: object = None

    @classmethod
    def from_wire(cls, raw: Mapping[str, object]) -> Order:
        def side(name: str) -> tuple[TensorSpec, ...]:
            items = raw.get(name, ())
            assert isinstance(items, Sequence)
            return tuple(TensorSpec.from_wire(item) for item in items)

        warm, skip, found = raw.get("warmUp", {}), raw.get("skip", {}), raw.get("found", {})
        assert isinstance(warm, Mapping)
        assert isinstance(skip, Mapping)
        assert isinstance(found, Mapping)
        return cls(
            path=Path(str(raw["path"])),
            framework=str(raw["framework"]),
            engine=str(raw["engine"]),
            threads=int(str(raw["threads"])),
            threads_fixed=bool(raw.get("threadsFixed", True)),
            skip=skip,
            max_rows=None if raw.get("maxRows") is None else int(str(raw["maxRows"])),
            warm_up=warmup.Options.from_wire(warm),
            inputs=side("inputs"),
            outputs=side("outputs"),
            found=found,
            asked={name: value for name, value in raw.items() if name not in ("path", "found")},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A backend that has answered, and how it came to be. `dropped` maps engines that failed to their
    reason, `candidates` what was measured ("native/2", engine and threads) to seconds.
    """

    backend: Backend
    threads: int
    signature: Signature
    format: str
    measured: warmup.Measured
    batching: Batchability
    candidates: Mapping[str, float]
    dropped: Mapping[str, str]
    load_seconds: float
    warm_seconds: float
    key: str = ""
    quantized: bool = False
    second: Second | None = None

    def to_wire(self) -> Wire:
        return {
            "engine": self.backend.engine,
            "batchEngine": self.backend.note if isinstance(self.backend, Pair) else "",
            "threads": self.threads,
            "candidates": dict(self.candidates),
            "format": self.format,
            "quantized": self.quantized,
            "signature": self.signature.to_wire(),
            "medianSeconds": self.measured.median,
            "outputBytes": self.measured.output_bytes,
            "outputRows": self.measured.output_rows,
            "batching": self.batching.to_wire(),
            "note": self.measured.note,
            "dropped": dict(self.dropped),
            "loadSeconds": self.load_seconds,
            "warmSeconds": self.warm_seconds,
            "key": self.key,
            "second": self.second.to_wire() if self.second is not None else None,
        }


def load(order: Order, progress: Callable[[str, str], None], calm: Calm) -> Loaded:
    """Loads and warms the engine that serves.

    engine auto means, for a Paddle model: native and oneDNN are both measured and the quicker one is kept,
    if they agree. oneDNN is the quicker one for convolutions of some size, native for tiny networks. Models
    with large weights are not loaded twice: they get oneDNN, or native when that fails. An engine that was
    asked for by name falls back too, because serving slowly beats not serving; `dropped` says so. `progress`
    is told (stage, engine) before each step, so that whoever watches knows where a crash happened. What an
    earlier worker found for the same network and order is taken as it is. Raises ModelError.
    """
    files = find(order.path, order.framework)
    key = key_of(files, order.asked)
    known = Known.of(order.found, key)
    if known is not None:
        with suppress(ModelError):  # then it is told by the way that measures
            return replace(_again(order, files, known, progress, calm), key=key, quantized=quantized(files))
    engines = [engine for engine in _engines(order.engine, files) if engine not in order.skip]
    if not engines:
        raise ModelError(Reason.LOAD_FAILED, "; ".join(f"{name}: {why}" for name, why in order.skip.items()))
    started = perf_counter()
    until = started + _SHARE * order.warm_up.timeout

    def sample(backend: Backend) -> Sequence[Array] | None:
        return warmup.find_sample(backend, _narrowed(order, backend), order.warm_up, order.path)

    chooser = Chooser(
        lambda engine, threads: _open(order, files, engine, threads, calm), sample, progress, until=until
    )
    if order.engine == "auto" and len(engines) > 1 and _weights(files) <= _MEASURED_WEIGHTS:
        # Native is the reference that the other has to agree with.
        small = _weights(files) <= _PAIRED_WEIGHTS and order.max_rows != 1
        choice = chooser.fastest(sorted(engines), order.threads, order.skip, _not_the_engine, keep=small)
    else:
        choice = chooser.first(engines, order.threads, order.skip, _not_the_engine)
    if not order.threads_fixed:
        choice.trial = chooser.fewer_threads(choice.trial)
        if choice.second is not None:
            choice.second = chooser.fewer_threads(choice.second)
            choice.prefer_quicker()
    found = _finish(order, files, choice, chooser, started, until, engines, progress, calm)
    return replace(found, key=key, quantized=quantized(files))


def _again(
    order: Order, files: ModelFiles, known: Known, progress: Callable[[str, str], None], calm: Calm
) -> Loaded:
    """The engine, threads and batching that are known, warmed up and compared but not measured again."""
    started = perf_counter()
    progress("Loading", known.engine)
    backend: Backend = _open(order, files, known.engine, known.threads, calm)
    try:
        if known.second is not None:
            many = _open(order, files, known.second.engine, known.second.threads, calm)
            backend = Pair(backend, many, known.second.rows)
        loaded = perf_counter()
        progress("WarmingUp", known.engine)
        signature = _narrowed(order, backend)
        sample = warmup.find_sample(backend, signature, order.warm_up, order.path)
        measured = warmup.warm(backend, signature, order.warm_up, order.path, sample)
        return Loaded(
            backend=backend,
            threads=known.threads,
            signature=signature,
            format=files.format,
            measured=measured,
            batching=confirm(backend, signature, measured.sample, known.batching),
            candidates=known.candidates,
            dropped=order.skip,
            load_seconds=loaded - started,
            warm_seconds=perf_counter() - loaded,
            second=known.second,
        )
    except BaseException:
        backend.close()
        raise


def _finish(
    order: Order,
    files: ModelFiles,
    choice: Choice,
    chooser: Chooser,
    started: float,
    until: float,
    engines: Sequence[str],
    progress: Callable[[str, str], None],
    calm: Calm,
) -> Loaded:
    """The whole warm-up of the engine that was chosen."""
    trial = choice.trial
    backend: Backend = trial.backend
    loaded = perf_counter()
    try:
        signature = _narrowed(order, backend)
        measured = warmup.warm(backend, signature, order.warm_up, order.path, chooser.sample)
        batching = probe(
            backend,
            signature,
            measured.sample,
            wanted=order.max_rows,
            one=measured.median,
            until=until,
        )
        second = None
        if choice.second is not None:
            backend, batching = _paired(backend, choice.second, batching, measured, order, until)
            if isinstance(backend, Pair):
                other = choice.second
                second = Second(engine=other.backend.engine, threads=other.threads, rows=backend.threshold)
            choice.second = None
        return Loaded(
            backend=backend,
            threads=trial.threads,
            signature=signature,
            format=files.format,
            measured=measured,
            batching=batching,
            candidates=choice.measured,
            dropped=choice.dropped,
            load_seconds=loaded - started,
            warm_seconds=perf_counter() - loaded,
            second=second,
        )
    except ModelError as error:
        backend.close()
        if choice.second is not None:
            choice.second.backend.close()
        others = [engine for engine in engines if engine != backend.engine and engine not in choice.dropped]
        if not others or _not_the_engine(error):
            raise
        skip = {**choice.dropped, backend.engine: error.message}
        return load(replace(order, skip=skip), progress, calm)
    except BaseException:
        backend.close()
        if choice.second is not None:
            choice.second.backend.close()
        raise


def _paired(
    few: Backend,
    second: Trial,
    alone: Batchability,
    measured: warmup.Measured,
    order: Order,
    until: float,
) -> tuple[Backend, Batchability]:
    """Both engines when the second one is clearly quicker with a full batch, else the first alone; what is
    not used is closed. The pair is probed as one: its batches must agree with the other's single rows.
    """
    pair = Pair(few, second.backend, 2)
    together = probe(
        pair, pair.signature, measured.sample, wanted=order.max_rows, one=measured.median, until=until
    )
    found = (
        threshold(alone.seconds, {**together.seconds, 1: second.median}) if together.max_rows > 1 else None
    )
    if found is None:
        second.backend.close()
        return few, alone
    pair.threshold = found
    return pair, together


def _not_the_engine(error: ModelError) -> bool:
    return error.reason in _NOT_THE_ENGINE


def _narrowed(order: Order, backend: Backend) -> Signature:
    return narrowed(backend.signature, order.inputs, order.outputs)


def _weights(files: ModelFiles) -> int:
    """Bytes of the weights; a folder of them counts as large."""
    if files.params is None:
        return files.model.stat().st_size
    return files.params.stat().st_size if files.params.is_file() else _MEASURED_WEIGHTS + 1


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


def _open(order: Order, files: ModelFiles, engine: str, threads: int, calm: Calm) -> Backend:
    """Also refuses a model that is not what was declared, and one that does not answer as was recorded."""
    backend = _backend(files, engine, threads, calm)
    try:
        signature = _narrowed(order, backend)
        check(backend, signature, warmup.recordings(signature, order.warm_up, order.path))
    except ModelError:
        backend.close()
        raise
    return backend


def _backend(files: ModelFiles, engine: str, threads: int, calm: Calm) -> Backend:
    # Imported here, so that a worker carries one library only.
    if engine == "onnxruntime":
        from runtime.worker.onnx_backend import OnnxBackend

        return OnnxBackend(files, threads=threads)
    from runtime.worker.paddle_backend import PaddleBackend, signature_of

    return PaddleBackend(files, signature_of(files), engine=engine, threads=threads, aside=calm.aside)
