"""Hot reload of a running server: nothing is lost, nothing half-way is seen, failures change nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.runtime.conftest import Running, serving, wait_for
from tests.runtime.reloading import Config, ask, desired, load, loaded, model, serves
from tests.runtime.sick import HOLD, SICK_RUN, Sick
from tests.runtime.test_calm import standing_back
from tests.support.models import write_onnx


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folder = tmp_path / "etc"
    folder.mkdir()
    return Config(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two models that tell themselves apart: 7 and 8 for three ones."""
    folder = tmp_path_factory.mktemp("pair")
    return {
        "linear": write_onnx(folder / "one"),
        "linear2": write_onnx(folder / "two", weight=3.0, bias=-1.0),
    }


@pytest.fixture
def running(config: Config, pair: Mapping[str, Path]) -> Iterator[Running]:
    config.write(model(pair["linear"], "v1.0.0"))
    with serving(*config.arguments()) as server:
        yield server


def reloads(running: Running, result: str, reason: str = "") -> float:
    """How often `lin` was tried to be replaced with this result."""
    for line in running.get("/metrics", admin=True).body.decode().splitlines():
        wanted = ("inference_model_reload_total", f'reason="{reason}"', f'result="{result}"')
        if all(part in line for part in wanted):
            return float(line.split()[-1])
    return 0.0


def happened(running: Running, event: str, times: int) -> None:
    wait_for(lambda: len(running.events(event)) >= times)


def test_a_change_of_the_file_is_served_without_a_lost_request(
    config: Config, running: Running, pair: Mapping[str, Path]
) -> None:
    paths = {"v1.0.0": pair["linear"], "v2.0.0": pair["linear2"]}
    answers = {"v1.0.0": 7.0, "v2.0.0": 8.0}
    versions = ["v2.0.0", "v1.0.0", "v2.0.0"]
    with load(running) as found:
        for index, version in enumerate(versions):
            config.write(model(paths[version], version))
            happened(running, "model swapped", index + 1)
            assert serves(running, version)  # from the swap on, nothing older answers
            found.more(20)
    assert found.lost == []
    assert found.bad == {}
    # Each answer is that of exactly the version which it names.
    assert {(version, value) for _, version, value in found.seen} == set(answers.items())
    swap = running.events("model swapped")[0]
    assert (swap["old_version"], swap["new_version"]) == ("v1.0.0", "v2.0.0")
    wait_for(lambda: len(running.events("generation retired")) == len(versions))
    (worker,) = running.workers()
    assert not standing_back(worker)  # it did, until it served
    assert reloads(running, "succeeded") == len(versions)
    assert running.events("memory leaked") == []
    # What was counted for a version is not counted anew when it comes back.
    counted = 'inference_request_total{hardware="cpu",model="lin",model_version="v1.0.0"'
    text = running.get("/metrics", admin=True).body.decode()
    ok = [line for line in text.splitlines() if line.startswith(counted) and 'status_code="200"' in line]
    v1 = sum(count for (_, version, _), count in found.seen.items() if version == "v1.0.0")
    assert len(ok) == 1
    assert float(ok[0].split()[-1]) >= v1


def test_what_cannot_serve_changes_nothing(
    config: Config, running: Running, pair: Mapping[str, Path], nets: Mapping[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"no model")
    nan = write_onnx(tmp_path / "nan", weight=float("nan"))
    cases = [
        (model(tmp_path / "none", "v2.0.0", framework="onnx", engine="auto"), "UnknownModelFormat"),
        (model(broken, "v3.0.0"), "CorruptModel"),
        (model(nets["two"], "v4.0.0"), "SignatureChanged"),
        (model(nan, "v5.0.0", warmUp={"samples": [{"inputs": {"x": [[1, 1, 1]]}}]}), "GoldenSampleFailed"),
        (model(pair["linear2"], "v6.0.0", checksum="sha256:" + "0" * 64), "ChecksumMismatch"),
    ]
    for number, (wanted, reason) in enumerate(cases, 1):
        config.write(wanted)
        happened(running, "reload failed", number)
        shown = running.model()
        assert (shown["state"], shown["version"]) == ("Ready", "v1.0.0")
        reload = shown["reload"]
        assert isinstance(reload, dict)
        assert (reload["state"], reload["reason"]) == ("Failed", reason), reload["message"]
        assert reload["version"] == wanted["version"]
        assert running.get("/healthz").status == 200
        assert serves(running, "v1.0.0")
        assert reloads(running, "failed", reason) == 1
    index = running.request("POST", "/v2/repository/index", b"", admin=True).json
    assert index == running.request("POST", "/v2/repository/index").json
    assert isinstance(index, list)
    assert index[0]["state"] == "READY"
    assert "v6.0.0 is Failed: ChecksumMismatch" in index[0]["reason"]
    config.text("schema: 1\nmodels: [")
    wait_for(lambda: running.progress()["message"])
    assert serves(running, "v1.0.0")
    recorded = {"inputs": {"x": [[1, 1, 1]]}, "outputs": {"y": [[8, 8]]}}
    config.write(model(pair["linear2"], "v7.0.0", warmUp={"samples": [recorded]}))
    wait_for(lambda: serves(running, "v7.0.0"))
    assert running.progress()["message"] == ""
    assert "reload" not in running.model()
    wait_for(lambda: len(running.workers()) == 1)


def test_a_newer_change_takes_the_place_of_one_under_way(
    config: Config, nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    env = sick("while os.path.exists(os.environ['GATE']): time.sleep(0.01)\nreturn make()")
    config.write(model(nets["linear"], "v1.0.0"))
    with serving(*config.arguments(), env={**env, "GATE": str(gate)}) as running:
        gate.touch()
        config.write(model(nets["linear2"], "v2.0.0"))
        wait_for(lambda: "reload" in running.model())
        config.write(model(nets["linear2"], "v3.0.0"))
        wait_for(lambda: running.events("reload given up"))
        gate.unlink()
        wait_for(lambda: serves(running, "v3.0.0"))
        assert [event["new_version"] for event in running.events("model swapped")] == ["v3.0.0"]
        # And one that changes back is no reload at all.
        gate.touch()
        config.write(model(nets["linear"], "v4.0.0"))
        wait_for(lambda: running.model().get("reload"))
        config.write(model(nets["linear2"], "v3.0.0"))
        wait_for(lambda: len(running.events("reload given up")) == 2)
        gate.unlink()
        wait_for(lambda: "reload" not in running.model())
        assert serves(running, "v3.0.0")
        wait_for(lambda: len(running.workers()) == 1)


def test_a_worker_that_dies_while_the_next_one_loads(
    config: Config, nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    env = sick("while os.path.exists(os.environ['GATE']): time.sleep(0.01)\nreturn make()")
    config.write(model(nets["linear"], "v1.0.0", workers=2))
    with serving(*config.arguments(), env={**env, "GATE": str(gate)}) as running:
        before = running.workers()
        with load(running, clients=2) as found:
            gate.touch()
            config.write(model(nets["linear2"], "v2.0.0", workers=2))
            wait_for(lambda: running.model().get("reload"))
            wait_for(lambda: len(running.workers()) == 4)
            os.kill(before[0], signal.SIGKILL)  # one that serves
            candidate = next(pid for pid in running.workers() if pid not in before)
            os.kill(candidate, signal.SIGKILL)  # and one that loads
            wait_for(lambda: len(running.events("worker died")) == 2)
            gate.unlink()
            wait_for(lambda: running.events("model swapped"))
            found.more(20)
        assert found.lost == []
        assert found.bad == {}
        wait_for(lambda: len(running.workers()) == 2)


def test_what_the_old_version_has_begun_it_ends(
    config: Config, nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    env = sick(SICK_RUN.format(act=HOLD).strip()) | {"SICK_FILE": str(hold)}
    config.write(model(nets["linear"], "v1.0.0"))
    with serving(*config.arguments(), env=env) as running, ThreadPoolExecutor(1) as threads:
        hold.touch()
        begun = threads.submit(ask, running)
        wait_for(lambda: running.metric("inference_inflight_requests") == 1)
        config.write(model(nets["linear2"], "v2.0.0"))
        happened(running, "model swapped", 1)
        # Not a time ends it: it is there as long as the request is, twice as long as one that is idle.
        end = time.monotonic() + 1.2
        wait_for(lambda: time.monotonic() > end or running.events("generation retired"))
        assert running.metric("inference_inflight_requests") == 1
        assert len(running.workers()) == 2
        assert running.events("generation retired") == []
        hold.unlink()
        assert begun.result(60.0) == (200, "v1.0.0")
        assert serves(running, "v2.0.0")
        happened(running, "generation retired", 1)
        wait_for(lambda: len(running.workers()) == 1)


def test_sigterm_during_a_reload(
    config: Config, nets: Mapping[str, Path], sick: Sick, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    env = sick("while os.path.exists(os.environ['GATE']): time.sleep(0.01)\nreturn make()")
    config.write(model(nets["linear"], "v1.0.0"))
    with serving(*config.arguments(), env={**env, "GATE": str(gate)}) as running:
        gate.touch()
        config.write(model(nets["linear2"], "v2.0.0"))
        wait_for(lambda: "reload" in running.model())
        running.process.terminate()  # serving() sees that it ends with 0
        assert running.process.wait(60.0) == 0
    assert running.events("reload given up")
    assert running.events("model swapped") == []


def test_load_unload_and_what_is_not_desired(
    config: Config, running: Running, pair: Mapping[str, Path]
) -> None:
    assert loaded(running, "other")[0] == 404
    status, said = loaded(running)
    assert (status, said["version"], said["state"]) == (200, "v1.0.0", "READY")
    # No digest pins these files, so they were read again.
    wait_for(lambda: len(running.events("model swapped")) == 1)
    assert loaded(running, verb="unload")[0] == 200
    wait_for(lambda: ask(running)[0] == 404)
    wait_for(lambda: running.workers() == [])
    index = running.request("POST", "/v2/repository/index", b"", admin=True).json
    assert isinstance(index, list)
    assert index == [{"name": "lin", "version": "v1.0.0", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert loaded(running, verb="unload")[0] == 404
    running.process.send_signal(signal.SIGUSR2)  # what was taken out by hand stays out
    assert loaded(running)[0] == 200
    assert serves(running, "v1.0.0")
    config.write(model(pair["linear2"], "v2.0.0"), model(pair["linear"], "v1.0.0", name="more"))
    running.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: serves(running, "v2.0.0"))
    wait_for(lambda: serves(running, "v1.0.0", "more"))
    config.write(model(pair["linear2"], "v2.0.0"))
    wait_for(lambda: ask(running, "more")[0] == 404)
    got = running.request("GET", "/v2/repository/models/lin/load", admin=True)
    assert (got.status, got.headers["Allow"]) == (405, "POST")
    assert running.request("POST", "/v2/repository/what", b"", admin=True).status == 404
    assert running.request("POST", "/v2/repository/index", b'{"ready": 1}', admin=True).status == 400
    assert running.request("POST", "/v2/repository/index", b'{"ready": true}', admin=True).status == 200


def test_a_pod_takes_what_is_released_to_it_and_loads_by_token(
    config: Config, pair: Mapping[str, Path], tmp_path: Path
) -> None:
    release = tmp_path / "release"
    config.write(model(pair["linear"], "v1.0.0"))
    (tmp_path / "token").write_text("secret\n")
    options = ["--release-file", str(release), "--admin-token-file", str(tmp_path / "token")]
    with serving(*config.arguments(), *options) as running:
        path = "/v2/repository/models/lin/load"
        assert loaded(running)[0] == 403
        for token, status in (("secre", 403), ("secret", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            assert running.request("POST", path, b"", headers, admin=True).status == status
        (config.folder / "models-ab12.yaml").write_text(
            yaml.safe_dump({**desired([model(pair["linear2"], "v2.0.0")]), "revision": "ab12"})
        )
        assert serves(running, "v1.0.0")
        done = {"revision": "r1", "state": "Done", "reason": "", "message": ""}
        assert running.progress()["release"] == done
        release.write_text("ab12")
        wait_for(lambda: running.progress()["release"] == {**done, "revision": "ab12"})
        assert serves(running, "v2.0.0")
        release.write_text("")
        wait_for(lambda: serves(running, "v1.0.0"))


def test_a_failed_start_is_mended_by_a_change(
    config: Config, pair: Mapping[str, Path], tmp_path: Path
) -> None:
    config.write(model(tmp_path / "none", "v1.0.0"))
    with serving(*config.arguments(), ready=False) as running:
        wait_for(lambda: running.model()["state"] == "Failed")
        assert running.model()["reason"] == "UnknownModelFormat"
        status, said = loaded(running)
        assert status == 400
        assert "UnknownModelFormat" in str(said["error"])
        config.write(model(pair["linear"], "v2.0.0"))
        wait_for(lambda: serves(running, "v2.0.0"))
        assert running.get("/healthz").status == 200


@pytest.mark.slow
def test_twenty_reloads_under_load_leave_nothing_behind(
    config: Config, nets: Mapping[str, Path], tmp_path: Path
) -> None:
    config.write(model(nets["linear"], "v1.0.0"))
    with serving(*config.arguments()) as running:
        with load(running, clients=8) as found:
            marks: list[tuple[int, int, int]] = []
            for number in range(20):
                path = nets["linear2"] if number % 2 == 0 else nets["linear"]
                config.write(model(path, f"v1.0.{number + 1}"))
                happened(running, "generation retired", number + 1)
                wait_for(lambda: len(running.workers()) == 1)
                marks.append(held(running))
                found.more(50)
        assert (found.lost, found.bad) == ([], {})
        assert {value for _, version, value in found.seen if int(version.rpartition(".")[2]) % 2} == {8.0}
        # The first ones may still fill caches; from then on nothing grows but by noise.
        descriptors, memfds, _ = zip(*marks[4:], strict=True)
        assert max(descriptors) - min(descriptors) <= 2, marks
        assert set(memfds) == {marks[4][1]}, marks
        assert marks[-1][2] - marks[4][2] < 8 << 20, marks
        assert running.events("memory leaked") == []


def held(running: Running) -> tuple[int, int, int]:
    """Descriptors, memfds and bytes of its own that the front holds."""
    folder = Path(f"/proc/{running.process.pid}")
    links = [os.readlink(link) for link in (folder / "fd").iterdir() if link.is_symlink()]
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return len(links), sum("memfd:" in link for link in links), int(status["RssAnon"].split()[0]) << 10
