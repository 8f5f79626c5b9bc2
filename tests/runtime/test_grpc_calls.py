"""Calls that are late, given up, too many, or under way when the server ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime.grpc.calls import left
from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from tests.runtime.conftest import DEADLINE, Running, serving, wait_for
from tests.runtime.grpc_client import TENSORS, Client, Y, client, error_of, raw, status, trailing
from tests.runtime.sick import HELD_RUN, sickness


@dataclass
class Held:
    """A server whose worker stays in its run while `gate` is there."""

    server: Running
    gate: Path

    def code(self, status: int) -> float:
        return self.server.metric(
            'inference_request_total{hardware="cpu",model="lin",model_version="",paddle_namespace="",'
            f'paddle_service="",revision="",status_code="{status}"}}'
        )

    def runs(self) -> float:
        return self.server.metric('inference_duration_seconds_count{model="lin"')

    @contextmanager
    def busy(self, caller: Client) -> Iterator[grpc.Future]:
        """A call that is in the worker. Others wait in the queue.

        At the end it has its answer: a call given up with its channel would be counted at some later moment,
        in the next test.
        """
        self.gate.write_text("")
        call = caller.v2.ModelInfer.future(raw(), timeout=DEADLINE)
        wait_for(lambda: self.server.metric('inference_inflight_requests{model="lin"') == 1)
        yield call
        self.gate.unlink(missing_ok=True)
        assert call.result().raw_output_contents == [Y]


@pytest.fixture(scope="module")
def module_held(nets: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("held")
    gate = folder / "gate"
    env = sickness(folder)(HELD_RUN.strip()) | {"SICK_FILE": str(gate)}
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--max-batch-size", "1"]
    arguments += ["--max-queue", "2", "--run-at-least", "60"]
    with serving(*arguments, env=env) as server:
        yield Held(server, gate)


@pytest.fixture
def held(module_held: Held) -> Iterator[Held]:
    yield module_held
    module_held.gate.unlink(missing_ok=True)
    for gauge in ("inference_inflight_requests", "inference_queue_requests"):
        wait_for(lambda: module_held.server.metric(f'{gauge}{{model="lin"') == 0)  # noqa: B023


@pytest.mark.parametrize(
    ("lasted", "remaining", "code"),
    [
        (1.5, 0.09, 504),
        (1.5, -1.0, 504),
        (1.5, 0.2, 499),
        (0.1, 0.02, 499),
        (60.0, 0.2, 499),
        (1.5, None, 499),
    ],
)
def test_a_clients_clock_is_a_little_ahead(lasted: float, remaining: float | None, code: int) -> None:
    class Context:
        def time_remaining(self) -> float | None:
            return remaining

    assert left(Context(), lasted)[0].http == code  # type: ignore[arg-type]


def test_the_protocols_own_timeout_is_answered_by_the_server(held: Held) -> None:
    with client(held.server.grpc) as one, held.busy(one):
        request = raw(parameters={"timeout": {"int64_param": 300_000}})
        name, details = status(error_of(lambda: one.infer(request)))
        assert (name, details) == ("DEADLINE_EXCEEDED", "model 'lin' did not answer before the deadline")


def test_a_deadline_ends_a_call_that_waits_and_it_never_runs(held: Held) -> None:
    with client(held.server.grpc) as one, held.busy(one) as running:
        runs, late = held.runs(), held.code(504)
        assert status(error_of(lambda: one.infer(raw(), timeout=1.5)))[0] == "DEADLINE_EXCEEDED"
        wait_for(lambda: held.code(504) == late + 1)
        held.gate.unlink()
        assert running.result().raw_output_contents == [Y]
        assert one.infer(raw()).raw_output_contents == [Y]
        assert held.runs() == runs + 2


def test_a_call_that_was_given_up_is_no_fault_and_never_runs(held: Held) -> None:
    with client(held.server.grpc) as one, held.busy(one) as running:
        runs, cancelled = held.runs(), held.code(499)
        waiting = one.v2.ModelInfer.future(raw(), timeout=DEADLINE)
        wait_for(lambda: held.server.metric('inference_queue_requests{model="lin"') == 1)
        waiting.cancel()
        wait_for(lambda: held.code(499) == cancelled + 1)
        held.gate.unlink()
        assert running.result().raw_output_contents == [Y]
        assert one.infer(raw()).raw_output_contents == [Y]
        assert held.runs() == runs + 2


def test_a_batch_that_was_given_up_counts_each_request(held: Held) -> None:
    with client(held.server.grpc) as one, held.busy(one):
        cancelled = held.code(499)
        batch = paddle.PredictBatchRequest(requests=[{"input_tensor": TENSORS}] * 2)  # type: ignore[list-item]
        waiting = one.paddle.PredictBatch.future(batch, timeout=DEADLINE)
        wait_for(lambda: held.server.metric('inference_queue_requests{model="lin"') == 2)
        waiting.cancel()
        wait_for(lambda: held.code(499) == cancelled + 2)


def test_a_full_queue_says_when_to_come_again(held: Held) -> None:
    with client(held.server.grpc) as one, held.busy(one):
        waiting = [one.v2.ModelInfer.future(raw(), timeout=DEADLINE) for _ in range(2)]
        wait_for(lambda: held.server.metric('inference_queue_requests{model="lin"') == 2)
        error = error_of(lambda: one.infer(raw()))
        assert status(error)[0] == "RESOURCE_EXHAUSTED"
        seconds = int(str(trailing(error)["retry-after"]))
        assert 1 <= seconds <= 30
        assert trailing(error)["grpc-retry-pushback-ms"] == str(1000 * seconds)
        batch = paddle.PredictBatchRequest(requests=[{"input_tensor": TENSORS}])  # type: ignore[list-item]
        (answer,) = one.paddle.PredictBatch(batch, timeout=DEADLINE).responses
        assert answer.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        held.gate.unlink()
        assert [call.result().raw_output_contents for call in waiting] == [[Y], [Y]]


def test_a_model_that_cannot_load_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "inference.json").write_text("{}")
    (tmp_path / "inference.pdiparams").write_text("")
    with serving("--model", f"lin={tmp_path}", ready=False) as server, client(server.grpc) as one:
        wait_for(lambda: server.model()["state"] == "Failed")
        error = error_of(lambda: one.infer(raw()))
        assert status(error)[0] == "UNAVAILABLE"
        assert "failed, " in status(error)[1]
        health: Any = health_pb2_grpc.HealthStub(one.channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


class Load:
    """Clients with a channel each that ask until told to stop. Nothing is retried by us."""

    def __init__(self, address: str, clients: int) -> None:
        self.answered = 0
        self.errors: list[str] = []
        self.connections = 0
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.answered > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)

    def _run(self) -> None:
        def changed(state: grpc.ChannelConnectivity) -> None:
            self.connections += state is grpc.ChannelConnectivity.READY

        with client(self._address) as one:
            one.channel.subscribe(changed)
            while not self._stop.is_set():
                try:
                    assert one.infer(raw()).raw_output_contents == [Y]
                    self.answered += 1
                except grpc.RpcError as error:
                    self.errors.append(": ".join(status(error)))


def test_draining_loses_no_call_and_serves_late_comers(nets: Mapping[str, Path]) -> None:
    """Four clients go on while it drains, are told to leave (GOAWAY) and come back, until they are satisfied;
    connections live for a second here.
    """
    arguments = ["--model", f"lin={nets['linear']}", "--engine", "native", "--grace", "60"]
    with serving(*arguments, "--drain-quiet", "1", "--connection-life", "1") as server:
        with Load(server.grpc, 4) as load:
            with client(server.grpc) as watcher:
                health: Any = health_pb2_grpc.HealthStub(watcher.channel)
                changes = health.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
                assert next(changes).status == health_pb2.HealthCheckResponse.SERVING
                server.process.terminate()
                assert next(changes).status == health_pb2.HealthCheckResponse.NOT_SERVING
                changes.cancel()
            with client(server.grpc) as late:
                assert late.infer(raw()).raw_output_contents == [Y]
            connections = load.connections
            wait_for(lambda: load.connections >= connections + 4)
            assert server.process.poll() is None
        assert load.errors == []
        assert server.process.wait(DEADLINE) == 0
        assert server.events("drained")[0]["inflight"] == 0
