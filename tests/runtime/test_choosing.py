"""Choosing among engines made up for it, on a clock that only they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
import pytest

from runtime.errors import ModelError, Reason
from runtime.signature import Signature
from runtime.worker.backend import Array, Backend, InvalidInput
from runtime.worker.choosing import Choice, Chooser
from runtime.worker.pair import Pair, threshold

SAMPLE = [numpy.array([[1.0, 2.0]], dtype="float32")]


@dataclass
class Candidate:
    """Seconds to load (with each number of threads the same) and to run by threads; what it answers."""

    run: dict[int, float]
    load: float = 0.1
    answer: Callable[[Array], Sequence[Array]] = lambda x: [x]
    error: Reason | None = None


class Loaded:
    signature = Signature((), ())

    def __init__(self, world: World, engine: str, threads: int) -> None:
        self.engine = engine
        self._world = world
        self._threads = threads
        world.open.append(self)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        candidate = self._world.candidates[self.engine]
        self._world.now += candidate.run[self._threads]
        return list(candidate.answer(inputs[0]))

    def close(self) -> None:
        self._world.open.remove(self)


class World:
    def __init__(self, **candidates: Candidate) -> None:
        self.candidates = candidates
        self.now = 0.0
        self.open: list[Loaded] = []
        self.steps: list[tuple[str, str]] = []

    def load(self, engine: str, threads: int) -> Backend:
        candidate = self.candidates[engine]
        self.now += candidate.load
        if candidate.error is not None:
            raise ModelError(candidate.error, f"{engine} is ill")
        return Loaded(self, engine, threads)

    def chooser(self, *, until: float = 1000.0, sample: Sequence[Array] | None = SAMPLE) -> Chooser:
        return Chooser(
            self.load,
            lambda backend: sample,
            lambda stage, engine: self.steps.append((stage, engine)),
            until=until,
            clock=lambda: self.now,
        )

    def fastest(self, *, threads: int = 1, until: float = 1000.0) -> Choice:
        choice = self.chooser(until=until).fastest(
            ["native", "onednn"], threads, {}, lambda error: error.reason is Reason.CORRUPT_MODEL
        )
        assert self.open == [choice.trial.backend], "only the winner stays loaded"
        return choice


def test_the_quickest_is_kept() -> None:
    for native, onednn, winner in (
        (0.07, 0.03, "onednn"),
        (0.0001, 0.0003, "native"),
        (0.016, 0.018, "onednn"),  # nearly a tie
    ):
        choice = World(native=Candidate({1: native}), onednn=Candidate({1: onednn})).fastest()
        assert choice.trial.backend.engine == winner
        assert choice.measured == pytest.approx({"native/1": native, "onednn/1": onednn})
        assert choice.dropped == {}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x: [x + 1], "its outputs are not those of native: output 0 differs by 1"),
        (lambda x: [x, x], "2 outputs, not 1"),
        (lambda x: [x[0]], "output 0 has the shape [2], not [1, 2]"),
        (lambda x: [x * numpy.float32("nan")], "differs by inf"),
    ],
)
def test_one_that_disagrees_is_dropped_with_its_reason(
    answer: Callable[[Array], Sequence[Array]], text: str
) -> None:
    choice = World(native=Candidate({1: 0.07}), onednn=Candidate({1: 0.03}, answer=answer)).fastest()
    assert choice.trial.backend.engine == "native"
    assert text in choice.dropped["onednn"]


def test_rounding_is_agreement() -> None:
    other = Candidate({1: 0.03}, answer=lambda x: [x * numpy.float32(1.00001)])
    assert World(native=Candidate({1: 0.07}), onednn=other).fastest().dropped == {}


def test_one_that_does_not_take_the_input_is_dropped() -> None:
    def refuse(x: Array) -> Sequence[Array]:
        raise InvalidInput("no")

    choice = World(native=Candidate({1: 0.07}), onednn=Candidate({1: 0.03}, answer=refuse)).fastest()
    assert "it did not take the input" in choice.dropped["onednn"]


def test_one_that_does_not_load_is_dropped_wherever_it_stands() -> None:
    ill = Candidate({1: 0.01}, error=Reason.LOAD_FAILED)
    fine = Candidate({1: 0.03})
    for candidates, winner in (
        ({"native": ill, "onednn": fine}, "onednn"),
        ({"native": fine, "onednn": ill}, "native"),
    ):
        choice = World(**candidates).fastest()
        assert choice.trial.backend.engine == winner
        (why,) = choice.dropped.values()
        assert why.endswith("is ill")


def test_a_fault_of_the_model_ends_it_at_once() -> None:
    world = World(native=Candidate({1: 1.0}, error=Reason.CORRUPT_MODEL), onednn=Candidate({1: 1.0}))
    with pytest.raises(ModelError, match="native is ill"):
        world.fastest()
    assert world.steps == [("Loading", "native")]


def test_no_candidate_is_begun_that_would_not_end_in_time() -> None:
    world = World(native=Candidate({1: 10.0}), onednn=Candidate({1: 1.0}))
    choice = world.fastest(until=60.0)
    assert choice.trial.backend.engine == "native"
    assert choice.measured == {"native/1": 10.0}
    assert world.now < 60.0


def test_without_an_input_the_first_serves_unmeasured() -> None:
    world = World(native=Candidate({1: 1.0}), onednn=Candidate({1: 0.1}))
    choice = world.chooser(sample=None).fastest(["onednn", "native"], 1, {}, lambda error: False)
    assert (choice.trial.backend.engine, choice.trial.median, choice.measured) == ("onednn", 0.0, {})


@pytest.mark.parametrize(
    ("two", "one", "kept"), [(0.0002, 0.0001, 1), (0.0001, 0.0002, 2), (0.0001, 0.000095, 2), (0.05, 0.01, 2)]
)
def test_fewer_threads_only_for_tiny_models_and_only_when_clearly_quicker(
    two: float, one: float, kept: int
) -> None:
    world = World(native=Candidate({1: one, 2: two}))
    chooser = world.chooser()
    choice = chooser.first(["native"], 2, {}, lambda error: False)
    trial = chooser.fewer_threads(choice.trial)
    assert trial.threads == kept
    assert world.open == [trial.backend]


def test_the_second_best_is_kept_when_asked_for() -> None:
    for native, onednn in ((0.07, 0.03), (0.03, 0.07)):
        world = World(native=Candidate({1: native}), onednn=Candidate({1: onednn}))
        choice = world.chooser().fastest(["native", "onednn"], 1, {}, lambda error: False, keep=True)
        assert choice.second is not None
        assert choice.second.median == pytest.approx(max(native, onednn))
        assert len(world.open) == 2
    other = Candidate({1: 0.03}, answer=lambda x: [x + 1])
    world = World(native=Candidate({1: 0.07}), onednn=other)
    choice = world.chooser().fastest(["native", "onednn"], 1, {}, lambda error: False, keep=True)
    assert choice.second is None, "one that disagrees is not"
    assert world.open == [choice.trial.backend]


@pytest.mark.parametrize(
    ("few", "many", "expected"),
    [
        ({1: 0.1, 8: 0.8}, {1: 0.3, 8: 0.48}, 4),
        ({1: 0.1, 8: 0.8}, {1: 0.11, 8: 0.4}, 2),
        ({1: 0.1}, {1: 0.3, 8: 0.48}, 4),
        ({1: 0.1, 8: 0.8}, {1: 0.3, 8: 0.7}, None),
        ({1: 0.1, 8: 0.2}, {1: 0.3, 8: 0.4}, None),
        ({1: 0.1}, {1: 0.3}, None),
    ],
)
def test_where_the_other_engine_takes_over(
    few: dict[int, float], many: dict[int, float], expected: int | None
) -> None:
    assert threshold(few, many) == expected


def test_a_pair_runs_each_size_where_it_is_quicker_and_closes_both() -> None:
    world = World(native=Candidate({1: 1.0}), onednn=Candidate({1: 10.0}))
    pair = Pair(world.load("native", 1), world.load("onednn", 1), 3)
    assert (pair.engine, pair.note) == ("native", "onednn from 3 rows")
    spent = []
    for rows in (1, 2, 3, 8):
        before = world.now
        pair.run([numpy.zeros((rows, 2), dtype="float32")])
        spent.append(world.now - before)
    assert spent == pytest.approx([1.0, 1.0, 10.0, 10.0])
    pair.close()
    assert world.open == []
