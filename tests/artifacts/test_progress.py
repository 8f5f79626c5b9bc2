from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

from artifacts import Progress
from artifacts._progress import ProgressServer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_time_left() -> None:
    clock = Clock()
    progress = Progress("rev", clock=clock)
    model = progress.model("m", "v1.0.0", "sha256:x")
    assert model.snapshot()["state"] == "Waiting"
    model.begin(1000, 200)
    assert model.rate() == 0.0
    for _ in range(4):
        clock.now += 1.0
        model.add(100)
    found = model.snapshot()
    assert (found["bytesDone"], found["bytesTotal"], found["bytesPerSecond"], found["etaSeconds"]) == (
        600,
        1000,
        100.0,
        4.0,
    )
    assert found["state"] == "Pulling"
    for _ in range(20):
        clock.now += 1.0
        model.set_done(600)
    assert model.rate() == 0.0
    model.finish("sha256:c", 1000)
    found = model.snapshot()
    assert (found["bytesDone"], found["etaSeconds"], found["contentDigest"]) == (1000, 0.0, "sha256:c")


def test_failure_is_the_stage() -> None:
    progress = Progress("rev")
    model = progress.model("m", "v1.0.0", "")
    assert progress.snapshot()["stage"] == "Pulling"
    model.fail("Stalled", "no byte")
    found = progress.snapshot()
    assert (found["stage"], found["revision"]) == ("Failed", "rev")
    assert found["models"] == [model.snapshot()]
    assert (model.snapshot()["reason"], model.snapshot()["message"]) == ("Stalled", "no byte")


def test_served() -> None:
    progress = Progress("rev")
    progress.model("m", "v1.0.0", "").begin(10, 5)
    server = ProgressServer(progress, 0)
    base = f"http://127.0.0.1:{server.port}"
    try:
        with urllib.request.urlopen(f"{base}/progress?x", timeout=5) as response:
            assert json.load(response) == progress.snapshot()
            assert response.headers["Content-Type"] == "application/json"
        with urllib.request.urlopen(f"{base}/livez", timeout=5) as response:
            assert response.read() == b"ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}/other", timeout=5)
        with pytest.raises(OSError, match="in use"):
            ProgressServer(progress, server.port)
    finally:
        server.close()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, by kernel
        socket.create_connection(("127.0.0.1", server.port), timeout=2)
