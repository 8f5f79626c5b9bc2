"""Clients that others made for other servers work with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.conftest import DEADLINE, Running
from tests.support.venvs import python_of

PROGRAM = Path(__file__).with_name("conformance.py")


def conforms(python: Path | str, *addresses: str, program: Path = PROGRAM, seconds: float = DEADLINE) -> None:
    got = subprocess.run([python, "-P", program, *addresses], capture_output=True, text=True, timeout=seconds)
    assert got.returncode == 0, got.stderr
    assert got.stdout.endswith("conforms\n")


def test_tritons_http_client(server: Running) -> None:
    conforms(sys.executable, "{}:{}".format(*server.http))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tritons_clients_of_both_protocols(server: Running) -> None:
    conforms(python_of("conformance"), "{}:{}".format(*server.http), server.grpc)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kserves_clients_of_both_protocols(server: Running) -> None:
    program = PROGRAM.with_name("conformance_kserve.py")
    conforms(python_of("peer-kserve"), "{}:{}".format(*server.http), server.grpc, program=program)
