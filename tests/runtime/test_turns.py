"""Models of one process take turns: the scheduler's shell, and two models on one slot of a real server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from runtime.scheduler import Run
from runtime.turns import Turn, Turns
from tests.runtime.conftest import DEADLINE, Running, entry, serving, wait_for
from tests.runtime.reloading import desired
from tests.runtime.sick import SICK_RUN, sickness
from tests.runtime.test_batching import Asking

FAR = 1e9
COST = 60.0  # seconds: nothing here lasts so long that it would count as late


class Waits:
    """A dispatcher with so many batches and workers enough for them."""

    def __init__(self, turns: Turns, *, weight: float, batches: int, order: list[Waits]) -> None:
        self.turn: Turn = turns.join(weight=weight, kick=self.kick)
        self.batches = batches
        self.kicks = 0
        self.runs: list[Run] = []
        self._order = order

    def kick(self) -> None:
        self.kicks += 1
        asks = False
        while self.batches and (asks := True) and self._may():
            self.batches -= 1
            self.runs.append(self.turn.begin(COST))
            self._order.append(self)
            asks = False
        if not asks:
            self.turn.rest()

    def end(self) -> None:
        self.turn.end(self.runs.pop())
        self.kick()

    def _may(self) -> bool:
        return self.turn.free or self.turn.asks(due=FAR, cost=COST)


def test_whoever_may_begin_is_told() -> None:
    async def play() -> None:
        turns = Turns(slots=1)
        order: list[Waits] = []
        first, second = (Waits(turns, weight=100, batches=2, order=order) for _ in range(2))
        first.kick()
        second.kick()
        assert (len(first.runs), len(second.runs)) == (1, 0)
        first.end()  # it asks again, but the other one has had nothing yet
        await asyncio.sleep(0)
        assert order == [first, second]
        while running := [one for one in (first, second) if one.runs]:
            assert len(running) == 1
            running[0].end()
            await asyncio.sleep(0)
        assert (order.count(first), order.count(second)) == (2, 2)
        assert turns.scheduler.used == 0
        assert not turns.scheduler.waiting

    asyncio.run(play())


def test_what_is_gone_when_its_turn_comes_holds_nobody_up() -> None:
    async def play() -> None:
        turns = Turns(slots=2)
        order: list[Waits] = []
        runs, gone, large, waits = (Waits(turns, weight=100, batches=1, order=order) for _ in range(4))
        large.turn.resize(need=2, workers=1)
        runs.kick()
        large.kick()
        gone.kick()
        waits.kick()
        assert order == [runs]
        gone.batches = 0  # its client has left, and nobody told it
        large.turn.leave()
        await asyncio.sleep(0)
        assert order == [runs, waits]
        assert gone.kicks == 2
        assert not turns.scheduler.waiting

    asyncio.run(play())


def test_one_model_alone_never_waits_for_slots() -> None:
    async def play() -> None:
        turns = Turns(cpus=2)
        order: list[Waits] = []
        alone = Waits(turns, weight=0, batches=4, order=order)
        alone.turn.resize(need=2, workers=4)
        alone.kick()
        assert len(alone.runs) == 4
        other = Waits(turns, weight=1, batches=1, order=order)
        other.kick()
        assert (turns.scheduler.slots, other.runs) == (8, [])
        alone.turn.leave()
        await asyncio.sleep(0)
        assert len(other.runs) == 1
        assert (turns.scheduler.slots, turns.scheduler.used) == (2, 1)

    asyncio.run(play())


Shared = tuple[Running, Path]


@pytest.fixture
def shared(nets: Mapping[str, Path], tmp_path: Path) -> Iterator[Shared]:
    """One slot for two models; runs with a 555 in them wait while a file is there, and that file."""
    act = "\n            ".join(
        [
            "x = self.real.get_input_handle('x').copy_to_cpu()",
            "while (x == 555).any() and os.path.exists(os.environ['SICK_FILE'] + '.hold'): time.sleep(0.01)",
        ]
    )
    flag = tmp_path / "flag"
    flag.write_text("")
    env = sickness(tmp_path)(SICK_RUN.format(act=act).strip()) | {"SICK_FILE": str(flag)}
    models = [
        entry(name, nets["linear"], engine="native", threads=1, priority=priority)
        for name, priority in (("one", 100), ("two", 300))
    ]
    config = tmp_path / "models.yaml"
    config.write_text(yaml.safe_dump(desired(models)))
    arguments = ["--config", str(config), "--models", str(tmp_path), "--slots", "1"]
    arguments += ["--run-at-least", str(DEADLINE), "--request-timeout", str(DEADLINE)]
    with serving(*arguments, env=env) as server:
        yield server, tmp_path / "flag.hold"


def test_a_slot_is_one_models_at_a_time_and_comes_free_when_its_worker_dies(shared: Shared) -> None:
    server, hold = shared
    hold.write_text("")
    asking = Asking(server)
    asking.ask(0, [555, 0, 0], model="one")
    wait_for(lambda: server.metric('inference_inflight_requests{model="one"') == 1.0)
    asking.ask(1, [1, 0, 0], model="two")
    wait_for(lambda: server.metric('inference_queue_requests{model="two"') == 1.0)
    late = {"model": "two", "inputs": {"x": [[9, 9, 9]]}}
    assert server.post("/predict", late, {"X-Request-Timeout": "0.05"}).status in (429, 504)
    assert server.metric('inference_inflight_requests{model="two"') == 0.0
    assert 1 not in asking.answers
    (pid,) = (line["pid"] for line in server.events("worker started") if line["model"] == "one")
    os.kill(int(str(pid)), signal.SIGKILL)
    wait_for(lambda: 1 in asking.answers)
    assert asking.answers == {1: (200, [[3.0, 3.0]])}
    hold.unlink()  # the first one is tried again by a new worker
    assert asking.wait() == {0: (200, [[1111.0, 1111.0]]), 1: (200, [[3.0, 3.0]])}
    parameters = server.get("/v2/models/two").json["parameters"]
    assert isinstance(parameters, dict)
    assert (parameters["priority"], parameters["slots"]) == (300, 1)
    assert server.metric('inference_slot_seconds_total{model="two"') > 0
