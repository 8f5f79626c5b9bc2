"""Engine and threads by measurement: each candidate runs the same input, the quickest that agrees is kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy

from runtime.errors import ModelError
from runtime.worker.backend import Array, Backend, InvalidInput
from runtime.worker.batching import distance

# Runs of a trial: three at least, more while they are cheap, none that would pass the time left.
_LEAST_RUNS = 3
_MOST_RUNS = 15
_CHEAP = 0.01  # seconds for all runs of a trial
# One thread is tried only for models that run in less than this; others are better off with all they get.
TINY = 0.005
# What is measured differs from run to run; a change has to be worth it.
_CLEARLY = 0.9
# The engine tried later (oneDNN) wins what is nearly a tie: its lead grows with larger inputs and batches.
_TIE = 1.2

Sample = Sequence[Array]


@dataclass(slots=True)
class Trial:
    """A loaded candidate. `median` is in seconds, 0 when no input could be made."""

    backend: Backend
    threads: int
    load_seconds: float
    median: float = 0.0
    outputs: list[Array] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Choice:
    """The winner, what was measured ("native/2" -> seconds), and engines that failed or disagree -> why.
    `second` is another that agrees, still loaded, when one was to be kept.
    """

    trial: Trial
    second: Trial | None = None
    measured: dict[str, float]
    dropped: dict[str, str]

    def prefer_quicker(self) -> None:
        """After both were tried with fewer threads, the other one may be the better one for single rows."""
        if self.second is not None and 0 < self.second.median < self.trial.median * _CLEARLY:
            self.trial, self.second = self.second, self.trial


class Chooser:
    """`open` loads a candidate (raising ModelError), `sample` finds an input that it takes (None: there is
    none), `progress` is told (stage, engine) before each step. Measuring ends at `until` of the clock.
    """

    def __init__(
        self,
        open: Callable[[str, int], Backend],
        sample: Callable[[Backend], Sample | None],
        progress: Callable[[str, str], None],
        *,
        until: float,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._open = open
        self._find = sample
        self._progress = progress
        self._until = until
        self._clock = clock
        self.sample: Sample | None = None  # what every candidate runs
        self.measured: dict[str, float] = {}

    def first(
        self,
        engines: Sequence[str],
        threads: int,
        dropped: Mapping[str, str],
        fatal: Callable[[ModelError], bool],
    ) -> Choice:
        """The first engine that loads. Raises the last one's ModelError, or at once one that is `fatal`."""
        failed = dict(dropped)
        for engine in engines:
            try:
                return Choice(trial=self._try(engine, threads), measured=self.measured, dropped=failed)
            except ModelError as error:
                if engine == engines[-1] or fatal(error):
                    raise
                failed[engine] = error.message
        raise AssertionError("no engine to try")

    def fastest(
        self,
        engines: Sequence[str],
        threads: int,
        dropped: Mapping[str, str],
        fatal: Callable[[ModelError], bool],
        *,
        keep: bool = False,
    ) -> Choice:
        """The quickest engine whose outputs agree with those of the first that loads."""
        choice = self.first(engines, threads, dropped, fatal)
        best = reference = choice.trial
        later = engines[engines.index(best.backend.engine) + 1 :]
        for engine in later:
            # A candidate needs about as long as the one before: to load, a first run, and three more.
            if not best.median or self._clock() + best.load_seconds + 5 * best.median > self._until:
                break
            try:
                trial = self._try(engine, threads)
            except ModelError as error:
                choice.dropped[engine] = error.message
                continue
            why = _disagreement(trial, reference)
            if why:
                choice.dropped[engine] = f"its outputs are not those of {reference.backend.engine}: {why}"
            if not why and trial.median and trial.median < best.median * _TIE:
                best, trial = trial, best
            if keep and not why and choice.second is None:
                choice.second = trial
            else:
                trial.backend.close()
        choice.trial = best
        return choice

    def fewer_threads(self, best: Trial) -> Trial:
        """The same engine with one thread where that is clearly quicker, else what it was."""
        if best.threads <= 1 or not 0 < best.median < TINY or self._clock() > self._until:
            return best
        try:
            trial = self._try(best.backend.engine, 1)
        except ModelError:
            return best
        if 0 < trial.median < best.median * _CLEARLY:
            best.backend.close()
            return trial
        trial.backend.close()
        return best

    def _try(self, engine: str, threads: int) -> Trial:
        self._progress("Loading", engine)
        start = self._clock()
        backend = self._open(engine, threads)
        trial = Trial(backend, threads, self._clock() - start)
        try:
            self._progress("WarmingUp", engine)
            if self.sample is None:
                self.sample = self._find(backend)
            if self.sample is not None:
                self._run(trial, self.sample)
                self.measured[f"{engine}/{threads}"] = trial.median
        except BaseException:
            backend.close()
            raise
        return trial

    def _run(self, trial: Trial, sample: Sample) -> None:
        """Leaves the trial unmeasured when the engine does not take the input; the warm-up then says why."""
        try:
            trial.outputs = [numpy.array(output) for output in trial.backend.run(sample)]
            durations: list[float] = []
            while len(durations) < _LEAST_RUNS or (sum(durations) < _CHEAP and len(durations) < _MOST_RUNS):
                start = self._clock()
                trial.backend.run(sample)
                end = self._clock()
                durations.append(end - start)
                if end > self._until:
                    break
            trial.median = statistics.median(durations)
        except (InvalidInput, RuntimeError, OSError, SystemError, MemoryError):
            trial.outputs = []
            trial.median = 0.0


def _disagreement(one: Trial, other: Trial) -> str:
    """ "" when both gave the same, up to rounding."""
    if not one.outputs:
        return "it did not take the input"
    if len(one.outputs) != len(other.outputs):
        return f"{len(one.outputs)} outputs, not {len(other.outputs)}"
    for index, (a, b) in enumerate(zip(one.outputs, other.outputs, strict=True)):
        if a.shape != b.shape:
            return f"output {index} has the shape {list(a.shape)}, not {list(b.shape)}"
        difference, allowed = distance(a, b)
        if not difference <= allowed:
            return f"output {index} differs by {difference:.3g}, {allowed:.3g} is allowed"
    return ""
