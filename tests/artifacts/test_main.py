"""The init container's command, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

import artifacts
from artifacts import Desired, File, Manifest, ModelEntry, locate, models_yaml, parse_uri
from artifacts.__main__ import main
from tests.artifacts.servers import FileServer, etag
from tests.support.objectstore import free_ports

REPOSITORY = Path(__file__).parents[2]


def model_of(files: FileServer, name: str, data: bytes) -> ModelEntry:
    files.files[f"/{name}"] = data
    manifest = Manifest.of(parse_uri(f"{files.endpoint}/{name}"), [File(name, name, len(data), etag(data))])
    return ModelEntry(
        name="m", uid="u", version="v1.0.0", digest=manifest.digest, framework="paddle", source=manifest.pin()
    )


def write_config(folder: Path, *models: ModelEntry) -> Path:
    path = folder / "models.yaml"
    path.write_text(models_yaml(Desired(service="s", namespace="d", revision="rev", models=models)))
    return path


def command(folder: Path, config: Path, *more: str) -> list[str]:
    return [
        *("pull", "--config", str(config), "--dest", str(folder / "dest")),
        *("--termination-log", str(folder / "termination"), "--attempts", "2", *more),
    ]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    line = [sys.executable, "-P", "-m", "artifacts", *arguments]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_as_a_process(files: FileServer, tmp_path: Path) -> None:
    model = model_of(files, "w", b"x" * 100_000)
    process = start(command(tmp_path, write_config(tmp_path, model)))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    message = json.loads((tmp_path / "termination").read_text())
    digest = json.loads((tmp_path / "dest/u" / model.folder_name / ".artifact.json").read_text())[
        "contentDigest"
    ]
    assert message == {
        "result": "ok",
        "reason": "",
        "message": "",
        "models": [{"name": "m", "digest": model.digest, "contentDigest": digest, "size": 100_000}],
    }
    line = json.loads(out)
    assert {k: line[k] for k in message} == message
    assert (line["event"], line["level"]) == ("pull", "info")
    assert (locate(model, tmp_path / "dest") / "w").stat().st_size == 100_000


def test_told_to_stop(files: FileServer, tmp_path: Path) -> None:
    """SIGTERM in the middle: soon gone, progress seen until then, nothing half-written under its final
    name.
    """
    model = model_of(files, "w", b"x" * 100_000)
    files.hold = threading.Event()
    port = free_ports(1)[0]
    process = start(command(tmp_path, write_config(tmp_path, model), "--progress-port", str(port)))
    try:
        seen: dict[str, object] = {}
        ends = time.monotonic() + 30
        while not seen or seen["bytesDone"] != 50_000:
            assert time.monotonic() < ends, seen
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5) as response:
                    snapshot = json.load(response)
                seen = snapshot["models"][0] if snapshot["models"] else {}
            except OSError:
                assert process.poll() is None
        assert (seen["state"], seen["bytesTotal"], snapshot["revision"]) == ("Pulling", 100_000, "rev")
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - told < 10
    finally:
        process.kill()
    assert (process.returncode, err) == (143, "")
    assert json.loads((tmp_path / "termination").read_text())["result"] == "failed"
    assert json.loads(out)["level"] == "error"
    assert not (tmp_path / "dest/u" / model.folder_name).exists()


def test_failures_say_why(files: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(files, "w", b"x")
    config = write_config(tmp_path, replace(model, checksum="ab" * 32))
    assert main(command(tmp_path, config)) == 1
    message = json.loads((tmp_path / "termination").read_text())
    assert (message["result"], message["reason"], message["models"]) == ("failed", "ChecksumMismatch", [])
    assert "\n" not in message["message"]
    assert json.loads(capsys.readouterr().out)["reason"] == "ChecksumMismatch"
    config.write_text("schema: 9\n")
    assert main(command(tmp_path, config)) == 1
    assert json.loads((tmp_path / "termination").read_text())["reason"] == "InvalidSource"


def test_a_taken_port_is_no_failure(
    files: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, model_of(files, "w", b"x"))
    assert main(command(tmp_path, config, "--progress-port", str(files.port))) == 0
    assert "progress is not served" in capsys.readouterr().out


def test_a_bug_is_reported(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("bug " * 2000)

    monkeypatch.setattr("artifacts.__main__.pull", broken)
    assert main(command(tmp_path, write_config(tmp_path, model_of(files, "w", b"x")))) == 1
    text = (tmp_path / "termination").read_text()
    assert len(text) <= 4096
    assert "internal error: ZeroDivisionError: bug" in json.loads(text)["message"]


def test_without_a_termination_log(files: FileServer, tmp_path: Path) -> None:
    config = write_config(tmp_path, model_of(files, "w", b"x"))
    assert main([*command(tmp_path, config), "--termination-log", str(tmp_path / "no/such/file")]) == 0


def test_public_names() -> None:
    names = artifacts.__all__
    groups = [n for n in names if n.isupper()], [n for n in names if not n.isupper() and n[0].isupper()]
    rest = [n for n in names if n[0].islower()]
    assert names == [*sorted(groups[0]), *sorted(groups[1]), *sorted(rest)]
    assert all(hasattr(artifacts, n) for n in names)


def test_importing_is_cheap() -> None:
    """The pull of every pod starts with it: no S3 client, no event loop, no HTTP server framework."""
    heavy = {"minio", "asyncio", "aiohttp", "structlog"}
    code = f"import artifacts; print(sorted({heavy} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COVERAGE_PROCESS_START": ""}
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path += {sys.path!r}; {code}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
