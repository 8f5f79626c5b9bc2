"""The probe at load with engines made up for it, and batches on a real server."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy
import pytest

from runtime.signature import Signature, TensorSpec
from runtime.worker.backend import Array, InvalidInput
from runtime.worker.batching import Batchability, probe
from tests.runtime.conftest import DEADLINE, Running, serving, wait_for
from tests.runtime.sick import SICK_RUN, sickness

X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, 4))
PLAIN = Signature((X,), (Y,))
SAMPLE = [numpy.full((1, 4), 0.5, dtype="float32")]


class Made:
    """An engine that is a function, on a clock that only it moves: `cost(rows)` seconds a run."""

    engine = "made"

    def __init__(
        self,
        function: Callable[[Array], Array],
        *,
        signature: Signature = PLAIN,
        cost: Callable[[int], float] = lambda rows: 0.001,
    ) -> None:
        self.signature = signature
        self.now = 0.0
        self.batches: list[int] = []
        self._function = function
        self._cost = cost

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        self.batches.append(len(inputs[0]))
        self.now += self._cost(len(inputs[0]))
        return [self._function(inputs[0])]

    def close(self) -> None:
        pass

    def probed(self, *, wanted: int | None = None, until: float = 100.0) -> Batchability:
        return probe(
            self,
            self.signature,
            SAMPLE,
            wanted=wanted,
            one=self._cost(1),
            until=until,
            clock=lambda: self.now,
        )


def double(x: Array) -> Array:
    return numpy.multiply(x, 2)


def test_rows_that_do_not_meet_may_run_together() -> None:
    engine = Made(double)
    found = engine.probed()
    assert (found.max_rows, found.reason, found.difference) == (8, "", 0.0)
    assert found.seconds == pytest.approx({1: 0.001, 8: 0.001})
    assert engine.batches[:5] == [1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x - x.mean(axis=0), "of 'y' differs by"),
        (lambda x: x[::-1], "row 0 of 'y' differs by"),
        (lambda x: x.sum(axis=0, keepdims=True), "2 rows give 'y' the shape [1, 4]"),
        (lambda x: numpy.repeat(x, 2, axis=0), "2 rows give 'y' the shape [4, 4]"),
    ],
)
def test_rows_that_meet_never_do(function: Callable[[Array], Array], text: str) -> None:
    for wanted in (None, 16):
        found = Made(function).probed(wanted=wanted)
        assert found.max_rows == 1
        assert text in found.reason


def test_rounding_is_no_difference_but_is_told() -> None:
    def rounding(x: Array) -> Array:
        return numpy.multiply(x, 1 + 1e-5 * (len(x) > 1)).astype("float32")

    found = Made(rounding).probed()
    assert found.max_rows == 8
    assert 0 < found.difference < 1e-4


def test_a_batch_that_is_slower_for_each_row_is_not_made_unless_asked_for() -> None:
    slower = Made(double, cost=lambda rows: 0.001 * rows * (1.2 if rows > 1 else 1))
    found = slower.probed()
    assert found.max_rows == 1
    assert found.reason == "8 rows take 9.6 ms and one 1 ms: not faster together"
    assert slower.probed(wanted=4).max_rows == 4


def test_a_fixed_first_dimension_is_not_joined() -> None:
    fixed = Signature((TensorSpec("x", "FP32", (1, 4)),), (Y,))
    found = Made(double, signature=fixed).probed(wanted=8)
    assert (found.max_rows, found.reason) == (1, "the first dimension of 'x' is fixed, [1, 4]")


def test_asking_for_one_row_runs_nothing() -> None:
    engine = Made(double)
    assert engine.probed(wanted=1).reason == "maxBatchSize is 1"
    assert engine.batches == []


def test_measuring_ends_with_its_time() -> None:
    assert Made(double).probed(until=0.0).reason.startswith("not probed")
    assert Made(double).probed(until=0.007).reason.startswith("not measured")
    asked = Made(double).probed(wanted=8, until=0.007)
    assert (asked.max_rows, asked.seconds) == (8, {1: 0.001})


def test_a_batch_that_is_refused_is_a_reason() -> None:
    def refusing(x: Array) -> Array:
        if len(x) > 2:
            raise InvalidInput("too many")
        return double(x)

    assert Made(refusing).probed().reason == "a batch was refused: too many"


# On a real server.


def ask(
    server: Running, values: Sequence[float], *, model: str = "lin", **headers: str
) -> tuple[int, object]:
    got = server.post("/predict", {"model": model, "inputs": {"x": [list(values)]}}, headers)
    return got.status, next(iter(got.json["outputs"].values())) if got.status == 200 else got.json["error"]  # type: ignore[attr-defined]


class Asking:
    """Requests in threads of their own, begun in order; their answers by number."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self.answers: dict[int, tuple[int, object]] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, number: int, values: Sequence[float], *, model: str = "lin") -> None:
        def run() -> None:
            self.answers[number] = ask(self._server, values, model=model)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def wait(self) -> dict[int, tuple[int, object]]:
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a request hangs"
        return self.answers


Held = tuple[Running, Path]


@pytest.fixture(scope="module")
def held(nets: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """A server whose runs wait while a file is there, and that file; a run with a 666 in it is an error, with
    a 667 it aborts.
    """
    folder = tmp_path_factory.mktemp("sick")
    act = "\n            ".join(
        [
            "x = self.real.get_input_handle('x').copy_to_cpu()",
            "while os.path.exists(os.environ['SICK_FILE'] + '.hold'): time.sleep(0.01)",
            "if (x == 666).any(): raise RuntimeError('poisoned')",
            "if (x == 667).any(): os.abort()",
        ]
    )
    flag = folder / "flag"
    flag.write_text("")
    env = sickness(folder)(SICK_RUN.format(act=act).strip()) | {"SICK_FILE": str(flag)}
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--run-at-least", str(DEADLINE)]
    with serving(*arguments, "--crash-budget", "9", "--max-batch-size", "8", env=env) as server:
        yield server, folder / "flag.hold"


def batch_of(server: Running, hold: Path, rows: Sequence[Sequence[float]]) -> dict[int, tuple[int, object]]:
    """Answers to requests that queued while the worker was busy with another one."""
    hold.write_text("")
    asking = Asking(server)
    asking.ask(-1, [0, 0, 0])
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1.0)
    for number, values in enumerate(rows):
        asking.ask(number, values)
    under_way = ('inference_inflight_requests{model="lin"', 'inference_queue_requests{model="lin"')
    wait_for(lambda: sum(server.metric(name) for name in under_way) == len(rows) + 1)
    hold.unlink()
    answers = asking.wait()
    assert answers.pop(-1) == (200, [[1.0, 1.0]])
    return answers


def test_rows_of_those_who_left_are_not_run_and_those_of_others_stay_right(held: Held) -> None:
    """The first test of this server: runs that were held count as slow ones, and then nothing with a short
    deadline is admitted behind others.
    """
    server, hold = held
    before = server.metric('inference_batch_size_sum{model="lin"')
    hold.write_text("")
    asking = Asking(server)
    asking.ask(0, [0, 0, 0])
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1.0)
    for number in (1, 2):
        asking.ask(number, [number, 0, 0])
        wait_for(lambda: server.metric('inference_queue_requests{model="lin"') == float(number))  # noqa: B023
        assert ask(server, [99, 0, 0], **{"X-Request-Timeout": "0.05"})[0] == 504
    hold.unlink()
    answers = asking.wait()
    assert answers == {n: (200, [[2.0 * n + 1, 2.0 * n + 1]]) for n in range(3)}
    assert server.metric('inference_batch_size_sum{model="lin"') - before == 3.0


def test_what_queues_while_a_worker_is_busy_runs_together_and_poison_hurts_only_itself(held: Held) -> None:
    server, hold = held

    def counted() -> tuple[float, float]:
        return (
            server.metric('inference_batch_size_sum{model="lin"'),
            server.metric('inference_batch_size_count{model="lin"'),
        )

    fine = [[float(n), 0.0, 0.0] for n in range(6)]
    expected = {n: (200, [[2.0 * n + 1, 2.0 * n + 1]]) for n in range(6)}
    before = counted()
    assert batch_of(server, hold, fine) == expected
    rows, runs = (after - start for after, start in zip(counted(), before, strict=True))
    assert rows == 7.0
    assert runs < 7.0, "some ran together"
    reasons = {
        line.split('reason="')[1].split('"')[0]
        for line in server.get("/metrics", admin=True).body.decode().splitlines()
        if line.startswith("inference_batch_dispatch_total{") and not line.endswith(" 0.0")
    }
    assert "free" in reasons

    with_error = batch_of(server, hold, [*fine, [666.0, 0, 0]])
    assert with_error.pop(6) == (500, "poisoned")
    assert with_error == expected

    with_death = batch_of(server, hold, [*fine, [667.0, 0, 0]])
    status, why = with_death.pop(6)
    assert (status, why) == (500, "the request ended 2 workers of 'lin' (SIGABRT)")
    assert with_death == expected
    assert server.metric('inference_queue_requests{model="lin"') == 0.0
    assert server.metric('inference_inflight_requests{model="lin"') == 0.0


def test_a_deadline_that_the_queue_cannot_meet_is_refused_at_once(held: Held) -> None:
    server, hold = held
    before = server.metric('inference_batch_size_sum{model="lin"')
    hold.write_text("")
    asking = Asking(server)
    asking.ask(0, [0, 0, 0])
    wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1.0)
    for number in range(1, 4):
        asking.ask(number, [number, 0, 0])
    wait_for(lambda: server.metric('inference_queue_requests{model="lin"') == 3.0)
    status, why = ask(server, [9, 9, 9], **{"X-Request-Timeout": "0.0000001"})
    assert status == 429
    assert "later than the 1e-07 s allowed" in str(why)
    hold.unlink()
    asking.wait()
    assert server.metric('inference_batch_size_sum{model="lin"') - before == 4.0


def test_of_a_request_in_parts_errors_deadlines_and_departures_are_of_the_whole(held: Held) -> None:
    server, hold = held
    hold.unlink(missing_ok=True)  # if it runs again
    rows = [[float(n), 0.0, 1.0] for n in range(21)]
    queue, under_way = (f'inference_{name}_requests{{model="lin"' for name in ("queue", "inflight"))
    poisoned = server.post("/predict", {"inputs": {"x": [*rows[:12], [666.0, 0, 0], *rows[13:]]}})
    assert (poisoned.status, poisoned.json["error"]) == (500, "poisoned")
    # A part that was in the worker by then ends first: it would be held, and counted with the others.
    wait_for(lambda: server.metric(queue) + server.metric(under_way) == 0.0)
    hold.write_text("")
    body = json.dumps({"inputs": {"x": rows}}).encode()
    leaves = http.client.HTTPConnection(*server.http, timeout=DEADLINE)
    leaves.request("POST", "/predict", body, {"Content-Type": "application/json"})
    wait_for(lambda: server.metric(queue) + server.metric(under_way) == 3.0)
    late = server.request(
        "POST", "/predict", body, {"Content-Type": "application/json", "X-Request-Timeout": "0.2"}
    )
    assert late.status in (429, 504)
    wait_for(lambda: server.metric(queue) + server.metric(under_way) == 3.0)
    leaves.close()
    batches = server.metric('inference_batch_size_count{model="lin"')
    hold.unlink()
    wait_for(lambda: server.metric(queue) + server.metric(under_way) == 0.0)
    assert ask(server, [1, 0, 0]) == (200, [[3.0, 3.0]])
    # Of what was given up, at most the one batch ran that the worker had been given ahead.
    assert server.metric('inference_batch_size_count{model="lin"') - batches <= 2.0


def test_shapes_are_never_mixed(nets: Mapping[str, Path]) -> None:
    with serving("--model", f"dyn={nets['dynamic']}", "--engine", "native") as server:
        answers: dict[int, object] = {}
        numbers = count()

        def client() -> None:
            for number in numbers:
                if number >= 120:
                    return
                width = 16 + number % 4
                image = numpy.full((1, 3, 8, width), number, dtype="float32").tolist()
                got = server.post("/predict", {"inputs": {"image": image}})
                answers[number] = got.json["outputs"] if got.status == 200 else got.json

        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        for number in range(120):
            outputs = answers[number]
            assert isinstance(outputs, dict)
            (values,) = outputs.values()
            assert values == [[[2.0 * number] * (16 + number % 4)] * 3]
