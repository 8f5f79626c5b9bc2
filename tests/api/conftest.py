"""Fixtures of the CRD tests."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .objects import ROOT
from .server import Api, Environment, Kubectl


@pytest.fixture
async def api(apiserver: Environment, namespace: str) -> AsyncIterator[Api]:
    async with apiserver.client() as client:
        yield Api(client, namespace)


@pytest.fixture
def kubectl(apiserver: Environment, namespace: str, tmp_path: Path) -> Kubectl:
    config = tmp_path / "kubeconfig"
    apiserver.kubeconfig(config)

    def run(*arguments: str, input: str | None = None) -> str:
        command = [
            str(ROOT / ".venv/bin/kubectl"),
            f"--kubeconfig={config}",
            f"--namespace={namespace}",
            *arguments,
        ]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return run
