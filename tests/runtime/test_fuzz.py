"""Bytes of all kinds, at the parsers and at a real server."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from itertools import pairwise
from pathlib import Path
from socket import SHUT_WR

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.conftest import ROOT, Running, connect
from tests.runtime.fuzzing import TARGETS
from tests.support.venvs import python_of

# `make fuzz` asks for ten minutes.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))


@st.composite
def broken(draw: st.DrawFn, seed: bytes) -> bytes:
    """A good message with a few places cut out, doubled, or replaced."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 8)))
        data[start:stop] = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"-1", b"9" * 20, b"null", b"[]", b"{}", b"1e999", b"\xff" * 8, b"\r\n", b'"']
                ),
                st.just(bytes(data[start:stop]) * 2),
            )
        )
    return bytes(data)


@pytest.mark.parametrize("name", list(TARGETS))
def test_no_bytes_are_a_fault_of_ours(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in seeds:
        target(seed)

    @settings(max_examples=80)
    @given(st.one_of(*(broken(seed) for seed in seeds), st.binary(max_size=200)))
    def run(data: bytes) -> None:
        target(data)

    run()


BODY = b'{"model": "lin", "inputs": {"x": [[1, 2, 3]]}}'
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nX-Request-Id: fuzz\r\n\r\n%s" % (len(BODY), BODY)
)


def test_no_bytes_hurt_the_server(server: Running) -> None:
    """In pieces, and given up at any point: what comes back is HTTP, and the next client is served."""

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(data=broken(REQUEST * 2), cuts=st.lists(st.integers(0, 2 * len(REQUEST)), max_size=3))
    def run(data: bytes, cuts: list[int]) -> None:
        edges = sorted({0, *cuts, len(data)})
        answer = b""
        with connect(server) as connection:
            try:
                for start, stop in pairwise(edges):
                    connection.sendall(data[start:stop])
                connection.shutdown(SHUT_WR)
                answer = connection.recv(65536)
            except OSError:
                pass  # it may close in the middle of what it will not read
        assert not answer or answer.startswith(b"HTTP/1.")
        assert b" 500 " not in answer.split(b"\r\n", 1)[0]
        got = server.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
        assert got.status == 200

    run()
    assert not server.events("worker died")
    assert not server.events("request handler failed")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(TARGETS))
def test_atheris_finds_nothing(name: str, tmp_path: Path) -> None:
    """Guided by coverage, each target its share of the time, in an environment with atheris beside ours."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(TARGETS[name][1]):
        (corpus / f"seed{index}").write_bytes(seed)
    seconds = max(5, SECONDS // len(TARGETS))
    path = os.pathsep.join([str(ROOT), sysconfig.get_paths()["purelib"]])
    got = subprocess.run(
        [python_of("fuzz"), "-P", Path(__file__).with_name("fuzz_guided.py"), name, str(seconds), corpus],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 300,
    )
    print(got.stderr.splitlines()[-2:])
    assert got.returncode == 0, got.stdout[-2000:] + got.stderr[-4000:]
    assert "DONE   cov:" in got.stderr
