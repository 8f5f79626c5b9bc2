"""The number of workers: decisions over random loads, and a server that gets one more and lets it go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import memory
from runtime.extras import Extras
from runtime.logs import configure
from runtime.process import Worker
from runtime.scaling import MOST_WORKERS, Look, Mode, Scaler
from runtime.slot import Slot
from runtime.spec import Limits, from_argument
from tests.runtime.conftest import DEADLINE, Running, serving, wait_for
from tests.runtime.sick import SICK_RUN, sickness
from tests.runtime.test_batching import Asking

EVERY = 0.25


def look(workers: int, busy: int, waiting: int, *, coming: int = 0, spare: int = 1) -> Look:
    return Look(workers=workers, busy=busy, waiting=waiting, coming=coming, spare=spare)


def play(scaler: Scaler, loads: list[int], *, cpus: int, start: int = 1, slow: int = 2) -> list[int]:
    """Workers at each look, when `loads` requests are there at it and each worker has one; new workers take
    `slow` looks to come, those that go one.
    """
    workers, seen = start, []
    under_way = 0
    for index, load in enumerate(loads):
        under_way = max(0, under_way - 1)
        coming = 1 if under_way else 0
        ready = workers - coming
        busy = min(ready, load)
        step = scaler.step(
            index * EVERY, look(workers, busy, load - busy, coming=coming, spare=max(0, cpus - busy))
        )
        assert not step or not under_way, "one step at a time"
        workers += step
        under_way = {1: slow + 1, 0: under_way, -1: 0}[step]
        seen.append(workers)
    return seen


@given(
    st.sampled_from(list(Mode)),
    st.lists(st.integers(0, 12), max_size=120),
    st.integers(1, 8),
    st.integers(1, 3),
    st.sampled_from([1.0, 5.0]),
)
def test_whatever_the_load_the_bounds_hold(
    mode: Mode, loads: list[int], cpus: int, start: int, patience: float
) -> None:
    seen = play(Scaler(mode, least=start, patience=patience), loads, cpus=cpus, start=start)
    assert all(start <= workers <= MOST_WORKERS for workers in seen)
    if mode is Mode.FIXED:
        assert set(seen) <= {start}
    if mode is Mode.ADAPTIVE:
        assert all(workers <= max(start, cpus) for workers in seen)
    changes = [now - before for before, now in pairwise([start, *seen])]
    steps = [(index, step) for index, step in enumerate(changes) if step]
    for (earlier, _), (later, step) in pairwise(steps):
        if step < 0:
            assert (later - earlier) * EVERY >= patience, "no worker goes soon after a step"


@pytest.mark.parametrize(
    ("mode", "grown", "after"), [(Mode.FIXED, 1, 1), (Mode.UNLIMITED, 9, 1), (Mode.ADAPTIVE, 4, 1)]
)
def test_a_wave_of_requests(mode: Mode, grown: int, after: int) -> None:
    """Nine requests at a time for a minute, then none: four CPUs."""
    seen = play(Scaler(mode, least=1, patience=5.0), [9] * 240 + [0] * 400, cpus=4)
    assert seen[239] == max(seen) == grown
    assert seen[-1] == after


def test_adaptive_does_not_follow_every_moment() -> None:
    scaler = Scaler(Mode.ADAPTIVE, least=1, patience=5.0)
    assert set(play(scaler, [3, 1, 0] * 60, cpus=8)) == {1}, "who waits only now and then needs no worker"
    steady = Scaler(Mode.ADAPTIVE, least=1, patience=5.0)
    seen = play(steady, [3] * 60 + [2, 3, 1, 3] * 60, cpus=8)
    assert seen[-1] == max(seen) == 3, "and who is needed now and then stays"


def test_after_a_failure_there_is_a_rest() -> None:
    scaler = Scaler(Mode.UNLIMITED, least=1, patience=5.0)
    assert scaler.step(0.0, look(1, 1, 1)) == 1
    scaler.refused(0.0, 30.0)
    assert scaler.step(29.0, look(1, 1, 1)) == 0
    assert scaler.step(30.0, look(1, 1, 1)) == 1
    full = look(MOST_WORKERS, MOST_WORKERS, 1)
    assert scaler.step(31.0, full) == 0


Held = tuple[Running, Path]


@pytest.fixture
def held(nets: Mapping[str, Path], tmp_path: Path) -> Iterator[Held]:
    """Runs with a 555 or 556 in them wait while a file of that number is there."""
    act = "\n            ".join(
        [
            "x = self.real.get_input_handle('x').copy_to_cpu()",
            "flag = os.environ['SICK_FILE']",
            "for n in (555, 556):",
            "    while (x == n).any() and os.path.exists(f'{flag}.{n}'): time.sleep(0.01)",
        ]
    )
    flag = tmp_path / "flag"
    flag.write_text("")
    env = sickness(tmp_path)(SICK_RUN.format(act=act).strip())
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--threads", "1", "--slots", "4"]
    arguments += ["--max-batch-size", "8"]  # one row alone is not given to a busy worker ahead
    arguments += ["--worker-mode", "adaptive", "--scale-down-after", "0.5"]
    arguments += ["--run-at-least", str(DEADLINE), "--request-timeout", str(DEADLINE)]
    with serving(*arguments, env=env | {"SICK_FILE": str(flag)}) as server:
        yield server, flag


def test_one_more_worker_when_requests_wait_and_it_ends_what_it_holds_before_it_goes(held: Held) -> None:
    server, flag = held
    base, extra = flag.with_suffix(".555"), flag.with_suffix(".556")
    base.touch()
    extra.touch()
    asking = Asking(server)
    asking.ask(0, [555, 0, 0])
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1.0)
    asking.ask(1, [556, 0, 0])
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 2.0)
    wait_for(lambda: len(server.events("worker added")) == 1)
    base.unlink()
    wait_for(lambda: 0 in asking.answers)
    # One is enough now, and the last that came goes; what it holds is not lost.
    wait_for(lambda: server.metric('inference_workers{model="lin"') == 1.0)
    assert 1 not in asking.answers
    assert len(server.workers()) == 2
    asking.ask(2, [1, 0, 0])
    wait_for(lambda: 2 in asking.answers)
    extra.unlink()
    expected = {0: 1111.0, 1: 1113.0, 2: 3.0}
    assert asking.wait() == {number: (200, [[value] * 2]) for number, value in expected.items()}
    wait_for(lambda: server.events("worker taken away"))
    wait_for(lambda: len(server.workers()) == 1)
    assert server.get("/healthz").status == 200


class Lonely:
    """A model whose one worker is busy, and which can start no other: as owner, slot and what is started."""

    spec = from_argument("lin=/none")
    ready = True
    inflight = (None,)
    worker = None

    def __init__(self, *, processes: bool) -> None:
        self.processes = processes
        self.changes = 0

    def start(self, count: int, *, calm: bool) -> None:
        if not self.processes:
            raise OSError("no processes left")

    def launch(self, slot: Slot) -> Worker:
        raise OSError("no memory left")

    def stage_changed(self) -> None:
        self.changes += 1


@pytest.mark.parametrize("processes", [True, False])
def test_a_worker_that_cannot_be_had_is_given_up_and_the_model_serves_on(
    processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda: (None, None))

    async def play() -> list[int]:
        model = Lonely(processes=processes)
        slots: list[Slot] = [model]  # type: ignore[list-item]
        limits = Limits(worker_mode="unlimited")
        extras = Extras(model, slots, model, limits, configure("error"))  # type: ignore[arg-type]
        sizes = []
        began = asyncio.get_running_loop().time()
        for now in (began, began + 1.0, began + 29.0, began + 3000.0):
            async with asyncio.TaskGroup() as group:
                extras.look(now, waiting=1, spare=0, group=group)
                sizes.append(len(slots))
            assert slots == [model]
        assert model.changes == (2 if processes else 0)
        return sizes

    with_rests = asyncio.run(play())
    assert with_rests in ([2, 1, 1, 2], [1, 1, 1, 1])
    assert (with_rests[0] == 2) is processes
