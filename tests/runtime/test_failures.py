"""What happens when things die: workers killed, hanging, crashing; models that cannot load; draining."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.runtime.conftest import DEADLINE, Running, connect, serving, wait_for
from tests.runtime.sick import HOLD, SICK_RUN, Sick

BODY = {"inputs": {"x": [[1, 2, 3]]}}


class Load:
    """Clients that ask for predictions until told to stop, each on a connection of its own."""

    def __init__(self, server: Running, clients: int = 4) -> None:
        self._server = server
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.lost = 0
        self.wrong = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.statuses)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a client hangs"

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        body = json.dumps(BODY)
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*self._server.http, timeout=DEADLINE)
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection = None
                continue
            self.statuses.append(response.status)
            if response.status == 200 and b"[[13.0,13.0]]" not in content:
                self.wrong += 1
            if response.getheader("Connection") == "close":
                connection.close()
                connection = None


def test_killed_workers_are_replaced_and_no_request_hangs_or_is_lost(nets: Mapping[str, Path]) -> None:
    with serving("--model", f"lin={nets['linear']}", "--engine", "native") as server:
        with Load(server) as load:
            for killed in range(2):
                (pid,) = wait_for(server.workers)  # type: ignore[misc]
                before = len(load.statuses)
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: len(server.events("model ready")) == killed + 2)  # noqa: B023
                wait_for(lambda: len(load.statuses) > before + 20)  # noqa: B023
        assert load.lost == load.wrong == 0
        assert set(load.statuses) == {200}
        died = server.events("worker died")
        assert [e["how"] for e in died] == ["SIGKILL", "SIGKILL"]
        assert server.metric("inference_worker_restarts_total{") == 2.0
        assert server.get("/healthz").status == 200


def test_a_crash_of_onednn_at_load_falls_back_to_native(nets: Mapping[str, Path], sick: Sick) -> None:
    env = sick("if engine == 'onednn':\n    os.kill(os.getpid(), signal.SIGSEGV)\nreturn make()")
    with serving("--model", f"lin={nets['linear']}", env=env) as server:
        model = server.model()
        assert model["state"] == "Ready"
        assert model["engine"] == "native"
        assert model["message"] == "engine onednn was dropped: crashed while Loading (SIGSEGV)"
        assert server.metric('inference_engine_fallback_total{from="onednn",model="lin"') == 1.0
        assert server.metric('inference_engine_info{engine="native"') == 1.0
        parameters = server.get("/v2/models/lin").json["parameters"]
        assert isinstance(parameters, dict)
        assert (parameters["engine"], parameters["note"]) == ("native", model["message"])
        assert server.post("/predict", BODY).status == 200
        assert not server.events("worker died")


def test_an_error_of_onednn_at_load_falls_back_to_native(nets: Mapping[str, Path], sick: Sick) -> None:
    env = sick(
        "if engine == 'onednn':\n    raise RuntimeError('(Unimplemented) no such attribute')\nreturn make()"
    )
    with serving("--model", f"lin={nets['linear']}", "--engine", "onednn", env=env) as server:
        model = server.model()
        assert model["engine"] == "native"
        assert "no such attribute" in str(model["message"])
        assert server.metric('inference_engine_fallback_total{from="onednn",model="lin"') == 1.0


def test_a_request_that_kills_two_workers_is_answered_and_the_next_is_served(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    env = sick(SICK_RUN.format(act="os.abort()").strip()) | {"SICK_FILE": str(flag)}
    with serving("--model", f"lin={nets['linear']}", "--engine", "native", env=env) as server:
        flag.write_text("")
        got = server.post("/predict", BODY)
        assert got.status == 500
        assert got.json == {"error": "the request ended 2 workers of 'lin' (SIGABRT)"}
        flag.unlink()
        assert server.post("/predict", BODY).status == 200
        assert len(server.events("worker died")) == 2


def test_a_worker_that_hangs_is_killed_and_the_request_answered(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    act = "os.unlink(os.environ['SICK_FILE']); time.sleep(600)"
    env = sick(SICK_RUN.format(act=act).strip()) | {"SICK_FILE": str(flag)}
    with serving(
        "--model", f"lin={nets['linear']}", "--engine", "native", "--run-at-least", "1", env=env
    ) as server:
        flag.write_text("")
        assert server.post("/predict", BODY).status == 200
        assert any(died["hung"] for died in server.events("worker died"))
        assert server.metric('inference_worker_restarts_total{model="lin"') >= 1.0


def test_a_deadline_is_kept_while_the_worker_is_busy(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    env = sick(SICK_RUN.format(act=HOLD).strip()) | {"SICK_FILE": str(flag)}
    arguments = ("--model", f"lin={nets['linear']}", "--engine", "native", "--max-queue", "1")
    with serving(*arguments, "--run-at-least", str(DEADLINE), env=env) as server:
        flag.write_text("")
        statuses: list[int] = []

        def ask() -> threading.Thread:
            thread = threading.Thread(target=lambda: statuses.append(server.post("/predict", BODY).status))
            thread.start()
            return thread

        running = ask()
        wait_for(lambda: server.metric('inference_inflight_requests{model="lin"') == 1.0)
        late = server.post("/predict", BODY, {"X-Request-Timeout": "0.2"})
        assert late.status == 504
        waiting = ask()
        wait_for(lambda: server.metric('inference_queue_requests{model="lin"') == 1.0)
        full = server.post("/predict", BODY)
        assert full.status == 429
        assert int(full.headers["Retry-After"]) >= 1
        assert "1 requests wait" in str(full.json["error"])
        flag.unlink()
        running.join(DEADLINE)
        waiting.join(DEADLINE)
        assert statuses == [200, 200]
        runs = server.metric('inference_duration_seconds_count{model="lin"')
        assert runs == 2.0, "the expired request never ran"


def test_a_model_whose_workers_died_too_often_is_tried_again_after_a_rest(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    ill = "os.path.exists(os.environ['SICK_FILE'])"
    env = sick(f"if {ill}:\n    os.kill(os.getpid(), signal.SIGKILL)\nreturn make()") | {
        "SICK_FILE": str(flag)
    }
    arguments = ("--engine", "native", "--crash-budget", "2", "--crash-rest", "0.2")
    with serving("--model", f"lin={nets['linear']}", *arguments, env=env, ready=False) as server:
        wait_for(lambda: server.model()["state"] == "Failed")
        flag.unlink()
        wait_for(lambda: server.get("/healthz").status == 200)
        assert server.post("/predict", BODY).status == 200


def test_workers_that_always_die_use_up_the_budget_and_the_process_stays(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    last = tmp_path / "last-word"
    env = sick("os.kill(os.getpid(), signal.SIGBUS)")
    arguments = ("--engine", "native", "--crash-budget", "2", "--termination-log", str(last))
    with serving("--model", f"lin={nets['linear']}", *arguments, env=env, ready=False) as server:
        wait_for(lambda: server.model()["state"] == "Failed")
        model = server.model()
        assert model["reason"] == "WorkerCrashed"
        assert "2 workers died within 120 s, the last by SIGBUS" in str(model["message"])
        ready = server.get("/healthz")
        assert ready.status == 503
        assert "WorkerCrashed" in str(ready.json["error"])
        assert server.get("/livez").status == 200
        got = server.post("/predict", BODY)
        assert got.status == 503
        assert "WorkerCrashed" in str(got.json["error"])
        assert server.get("/v2/models/lin/ready").status == 503
        assert server.metric('model_load_success{model="lin"') == 0.0
        message = json.loads(last.read_text())
        assert message["result"] == "failed"
        assert message["reason"] == "WorkerCrashed"


def test_one_broken_model_does_not_take_the_others_along(nets: Mapping[str, Path], tmp_path: Path) -> None:
    broken = Path(shutil.copytree(nets["linear"], tmp_path / "broken"))
    (broken / "inference.pdiparams").write_bytes(b"")
    with serving("--model", f"lin={nets['linear']}", "--model", f"bad={broken}", ready=False) as server:
        wait_for(lambda: {m["state"] for m in server.progress()["models"]} == {"Ready", "Failed"})  # type: ignore[attr-defined]
        assert server.progress()["stage"] == "Failed"
        assert server.get("/healthz").status == 503, "not every desired model has answered"
        assert server.post("/predict", {"model": "lin", **BODY}).status == 200
        assert server.post("/predict", {"model": "bad", **BODY}).status == 503
        bad = server.model(1)
        assert bad["reason"] == "CorruptModel"
        assert "inference.pdiparams" in str(bad["message"])


def test_after_all_were_ready_a_lost_model_answers_for_itself(
    nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    ill = "os.path.exists(os.environ['SICK_FILE']) and 'pdmodel' in files.model.name"
    env = sick(f"if {ill}:\n    os.abort()\nreturn make()") | {"SICK_FILE": str(flag)}
    models = ("--model", f"lin={nets['linear']}", "--model", f"old={nets['pdmodel']}")
    with serving(*models, "--engine", "native", "--crash-budget", "3", env=env) as server:
        flag.write_text("")
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: server.model(1)["state"] == "Failed")
        wait_for(lambda: server.model(0)["state"] == "Ready")
        assert server.get("/healthz").status == 200
        assert server.post("/predict", {"model": "old", **BODY}).status == 503
        assert server.post("/predict", {"model": "lin", **BODY}).status == 200


def test_draining_serves_until_quiet_and_ends_with_zero(nets: Mapping[str, Path]) -> None:
    with serving("--model", f"lin={nets['linear']}", "--engine", "native", "--drain-quiet", "0.5") as server:
        with connect(server) as kept, Load(server, clients=2) as load:
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.events("draining"))
            ready = server.get("/healthz")
            assert ready.status == 503
            assert "draining" in str(ready.json["error"])
            late = server.post("/predict", BODY)
            assert late.status == 200
            assert late.headers["Connection"] == "close"
            kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"Connection: close" in kept.recv(4096)
            assert server.process.poll() is None
        assert server.process.wait(DEADLINE) == 0
        assert load.lost == load.wrong == 0
        assert set(load.statuses) == {200}
        wait_for(lambda: server.events("stopped"))


def test_draining_ends_before_the_grace_is_over(nets: Mapping[str, Path]) -> None:
    arguments = (
        "--model",
        f"lin={nets['linear']}",
        "--engine",
        "native",
        "--grace",
        "6",
        "--drain-quiet",
        "600",
    )
    with serving(*arguments) as server:
        server.process.terminate()
        assert server.process.wait(DEADLINE) == 0
        (drained,) = wait_for(lambda: server.events("drained"))  # type: ignore[misc]
        assert 1.0 <= drained["seconds"] < 600.0, "the end of the grace, not of the quiet time, was awaited"


def test_the_workers_die_with_the_front(nets: Mapping[str, Path]) -> None:
    with serving("--model", f"lin={nets['linear']}", "--engine", "native") as server:
        (pid,) = server.workers()
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or _state(pid) == "Z")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_native_handles_and_memory_are_all_given_back(nets: Mapping[str, Path]) -> None:
    """Ends with exit code 0, which an arena with blocks still out would prevent."""
    with serving("--model", f"lin={nets['linear']}", "--workers", "2") as server:
        for _ in range(20):
            assert server.post("/predict", BODY).status == 200
        assert server.post("/predict", {"inputs": {}}).status == 400
        server.process.terminate()
        assert server.process.wait(DEADLINE) == 0
        assert not server.events("native handles leaked")
        goodbyes = wait_for(lambda: server.events("worker stopped"))
        assert isinstance(goodbyes, list)
        assert len(goodbyes) == 2
        assert all(e["created"] == e["destroyed"] > 0 for e in goodbyes)


@pytest.fixture
def slow_limits(nets: Mapping[str, Path]) -> Iterator[Running]:
    arguments = ("--header-timeout", "0.5", "--body-timeout", "0.5", "--connection-life", "0.2")
    with serving("--model", f"lin={nets['linear']}", "--engine", "native", *arguments) as server:
        yield server


def test_slow_clients_are_cut_and_connections_have_an_end(slow_limits: Running) -> None:
    with connect(slow_limits) as idle:
        assert idle.recv(10) == b"", "no header came in time"
    with connect(slow_limits) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'{"error":"the body is too slow' in answer
    assert slow_limits.metric("inference_slow_connections{") >= 1.0
    with connect(slow_limits) as old:
        closed: list[bytes] = []

        def ask() -> bool:
            old.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            closed.append(old.recv(4096))
            return b"Connection: close" in closed[-1]

        wait_for(ask)
