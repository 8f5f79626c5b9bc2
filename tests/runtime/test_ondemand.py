"""Models that come when they are asked for: who goes for whom, and a real server with a folder of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.__main__ import main
from runtime.grpc.stubs import paddle_serving_pb2 as paddle
from runtime.ondemand import Held, NotLoaded, OnDemand, victims
from runtime.registry import Registry
from runtime.spec import from_argument
from tests.runtime.conftest import DEADLINE, Running, serving, wait_for
from tests.runtime.grpc_client import TENSORS, client, error_of, raw
from tests.runtime.sick import SICK_RUN, sickness
from tests.support.models import write_onnx

ROW = [[1.0, 1.0, 1.0]]


def held(nbytes: int, idle: bool, name: str = "m") -> Held:
    return Held(name=name, nbytes=nbytes, idle=idle)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8),
    st.integers(0, 9),
    st.integers(1, 6),
    st.sampled_from([0, 10, 20]),
)
def test_who_goes(sizes: list[tuple[int, bool]], need: int, most: int, limit: int) -> None:
    models = [held(nbytes, idle, str(index)) for index, (nbytes, idle) in enumerate(sizes)]

    def fits(gone: list[str]) -> bool:
        stay = [one for one in models if one.name not in gone]
        return len(stay) < most and (not limit or sum(one.nbytes for one in stay) + need <= limit)

    chosen = victims(models, need, most=most, limit=limit)
    idle = [one.name for one in models if one.idle]
    if chosen is None:
        assert not fits(idle), "it waits only when all idle ones together are too few"
        return
    assert fits(chosen)
    assert chosen == idle[: len(chosen)], "the least recently used, and no busy one"
    assert not chosen or not fits(chosen[:-1]), "and no more than have to"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--on-demand", "/none"], "--on-demand /none is no folder"),
        (["--on-demand", "/tmp", "--config", "x.yaml"], "--on-demand and --config exclude each other"),
        (["--on-demand", "/tmp", "--on-demand-models", "0"], "--on-demand-models 0 must be above 0"),
        (["--on-demand", "/tmp", "--on-demand-memory", "-1"], "--on-demand-memory -1 must not be below 0"),
    ],
)
def test_bad_arguments(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--termination-log", str(tmp_path / "last"), *arguments]) == 2
    assert text in capsys.readouterr().err


def test_what_needs_more_than_there_ever_is_and_what_comes_while_draining_is_told_so(tmp_path: Path) -> None:
    class Reloading:
        """Of a reloader what is asked before anything is loaded."""

        def __init__(self, *, draining: bool) -> None:
            self.registry = Registry([])
            self.registry.draining = draining

        def mark(self) -> None:
            raise AssertionError("nothing is to change")

    async def ask(*, draining: bool) -> str:
        models = OnDemand(tmp_path, from_argument, limit=1 << 20)
        models.attach(Reloading(draining=draining))  # type: ignore[arg-type]
        with pytest.raises(NotLoaded) as refused:
            await models.load("large", 10.0)
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        assert models.read() == []
        return refused.value.message

    (tmp_path / "large").mkdir()
    assert "more than --on-demand-memory allows" in asyncio.run(ask(draining=False))
    assert "the server is draining" in asyncio.run(ask(draining=True))


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """Room for two of the models of a folder, one of which is broken, and one that always serves."""
    folder = tmp_path / "models"
    for number, name in enumerate(("a", "b", "c")):
        write_onnx(folder / name, weight=0.0, bias=float(number))
    (folder / "broken").mkdir()
    (folder / "broken" / "model.onnx").write_bytes(b"no model")
    write_onnx(folder / "d").rename(folder / "gone")
    (folder / "gone" / "model.onnx").rename(folder / "file.onnx")
    (folder / "gone").rmdir()
    (folder / "notes.txt").write_text("no model")
    fixed = write_onnx(tmp_path / "fixed", weight=0.0, bias=9.0)
    arguments = ["--model", f"fixed={fixed}", "--on-demand", str(folder), "--on-demand-models", "2"]
    arguments += ["--request-timeout", str(DEADLINE), "--threads", "1"]
    with serving(*arguments, *request.param) as running:
        yield running


def ask(running: Running, name: str, **headers: str) -> tuple[int, object]:
    got = running.post("/predict", {"model": name, "inputs": {"x": ROW}}, headers)
    if got.status != 200:
        return got.status, got.json["error"]
    (output,) = got.json["outputs"].values()  # type: ignore[attr-defined]
    return 200, output[0][0]


def states(running: Running) -> Mapping[str, str]:
    got = json.loads(running.request("POST", "/v2/repository/index").body)
    return {model["name"]: model["state"] for model in got}


def loads(running: Running, name: str, result: str = "loaded") -> float:
    for line in running.get("/metrics", admin=True).body.decode().splitlines():
        wanted = ("inference_on_demand_loads_total", f'model="{name}"', f'result="{result}"')
        if all(part in line for part in wanted):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize("server", [[]], ids=["fast"], indirect=True)
def test_models_come_when_asked_for_and_the_least_recently_used_goes(server: Running) -> None:
    running = server
    everything = {"fixed", "a", "b", "c", "broken", "file"}
    assert set(states(running)) == everything
    assert {name for name, state in states(running).items() if state == "READY"} == {"fixed"}
    assert running.get("/v2/models/a/ready").status == 503
    answers: list[tuple[int, object]] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(running, "a"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [(200, 0.0)] * 6
    assert loads(running, "a") == 1.0, "one load, whoever asks meanwhile"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}]}
    got = running.post("/v2/models/b/infer", body)
    assert got.json["outputs"][0]["data"][0] == 1.0  # type: ignore[index]
    assert ask(running, "a") == (200, 0.0)
    with client(running.grpc) as calls:
        assert calls.infer(raw("c")).model_name == "c"
    assert states(running)["a"] == "READY"
    assert states(running)["c"] == "READY"
    assert states(running)["b"] == "UNAVAILABLE", "a was used after it"
    assert running.metric('inference_on_demand_evictions_total{model="b"') == 1.0
    assert running.metric("inference_on_demand_models") == 2.0
    assert ask(running, "file")[0] == 200
    assert ask(running, "fixed") == (200, 9.0)
    assert states(running)["fixed"] == "READY"
    assert running.get("/healthz").status == 200


@pytest.mark.parametrize("server", [["--no-fast-path"]], ids=["plain"], indirect=True)
def test_what_cannot_be_loaded_says_why_and_is_not_tried_at_once_again(server: Running) -> None:
    running = server
    status, why = ask(running, "broken")
    assert status == 503
    assert "CorruptModel" in str(why)
    got = running.post("/v2/models/broken/infer", {"inputs": []})
    assert (got.status, "CorruptModel" in str(got.json["error"])) == (503, True)
    assert 1 <= int(got.headers["Retry-After"]) <= 10
    assert loads(running, "broken", "failed") == 1.0
    assert ask(running, "a") == (200, 0.0)
    wait_for(lambda: states(running)["broken"] == "UNAVAILABLE")
    for name in ("nothing", "notes", "notes.txt", "..", "%2e%2e"):
        status, why = ask(running, name)
        assert status == 404, name
        assert "'fixed'" in str(why)
        assert "'c'" in str(why)
    with client(running.grpc) as calls:
        assert "CorruptModel" in str(error_of(lambda: calls.infer(raw("broken"))).details())
        assert "unknown" in str(error_of(lambda: calls.infer(raw("nothing"))).details())
        several = [
            paddle.PredictRequest(model_name=name, input_tensor=TENSORS) for name in ("b", "broken", "b")
        ]
        got = calls.paddle.PredictBatch(paddle.PredictBatchRequest(requests=several), timeout=DEADLINE)
        assert [one.code for one in got.responses] == [0, 14, 0]
        assert "CorruptModel" in got.responses[1].message
    status, why = running.post("/predict", {"inputs": {"x": ROW}}).status, ""
    assert status == 400, "a model has to be named when there are several"


def test_who_is_busy_stays_and_who_waits_for_room_has_its_deadline(
    nets: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "busy").symlink_to(nets["linear"])
    (folder / "other").symlink_to(nets["linear2"])
    act = "while os.path.exists(os.environ['SICK_FILE'] + '.hold'): time.sleep(0.01)"
    flag, hold = tmp_path / "flag", tmp_path / "flag.hold"
    flag.write_text("")
    env = sickness(tmp_path)(SICK_RUN.format(act=act).strip()) | {"SICK_FILE": str(flag)}
    arguments = ["--on-demand", str(folder), "--on-demand-models", "1", "--engine", "native"]
    arguments += ["--run-at-least", str(DEADLINE), "--request-timeout", str(DEADLINE)]
    with serving(*arguments, env=env) as running:
        hurried = running.post(
            "/predict", {"model": "busy", "inputs": {"x": ROW}}, {"X-Request-Timeout": "0.01"}
        )
        assert (hurried.status, hurried.headers["Retry-After"]) == (503, "1")
        assert ask(running, "busy") == (200, 7.0)
        assert loads(running, "busy") == 1.0, "it went on loading"
        hold.write_text("")
        answers: list[tuple[int, object]] = []
        waits = threading.Thread(target=lambda: answers.append(ask(running, "busy")))
        waits.start()
        wait_for(lambda: running.metric('inference_inflight_requests{model="busy"') == 1.0)
        status, why = ask(running, "other", **{"X-Request-Timeout": "0.2"})
        assert status == 503
        assert "still loading after" in str(why)
        assert states(running)["busy"] == "READY"
        hold.unlink()
        waits.join(DEADLINE)
        assert answers == [(200, 7.0)]
        assert ask(running, "other") == (200, 8.0)
        assert states(running) == {"busy": "UNAVAILABLE", "other": "READY"}
        # Both at once, with room for one: they take turns, and nobody's model goes before it was asked.
        threads = [
            threading.Thread(target=lambda name=name: answers.append(ask(running, name)))  # type: ignore[misc]
            for name in ("busy", "other") * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert sorted(answers, key=str) == [(200, 7.0)] * 5 + [(200, 8.0)] * 4
