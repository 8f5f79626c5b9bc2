"""The program in docs/controller-runtime.md, as it is printed there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest

from .mirror import eventually

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "controller-runtime.md"
GREETING = ctrl.Kind("example.com", "v1", "Greeting", "greetings")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_name_of_the_page_exists() -> None:
    names = set(re.findall(r"\bctrl\.(\w+)", PAGE.read_text())) - {
        # Go's own, in the table's left column
        *("NewManager", "GetConfig", "SetupSignalHandler", "NewControllerManagedBy"),
        "testing",
    }
    assert {name for name in names if not hasattr(ctrl, name)} == set()


def start(program: Path, kubeconfig: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(kubeconfig)}
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, str(program)], env=environment, stdout=output, stderr=output)


async def test_the_operator_of_the_tutorial(server: Envtest, space: str, tmp_path: Path) -> None:
    (tmp_path / "greeting.yaml").write_text(blocks("yaml")[0])
    program = tmp_path / "greeter.py"
    program.write_text(blocks("python")[0])
    lines = [
        line for line in program.read_text().splitlines() if line and not line.startswith(("import", "sys"))
    ]
    assert len(lines) <= 40
    server.install_crds(tmp_path / "greeting.yaml")
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    process = start(program, kubeconfig, tmp_path / "log")
    try:
        async with server.client() as client:
            key = ctrl.Key(space, "first")

            async def text() -> object:
                child = await client.get_live(ctrl.CONFIG_MAP, key)
                return child.raw["data"]["text"] if child is not None else None

            async def says(name: str) -> bool:
                greeting = await client.get_live(GREETING, key)
                assert greeting is not None
                return await text() == greeting.status.get("message") == f"Hello, {name}!"

            await client.create(
                {
                    "apiVersion": GREETING.api_version,
                    "kind": "Greeting",
                    "metadata": {"name": key.name, "namespace": key.namespace},
                    "spec": {"name": "paddle"},
                }
            )
            await eventually(lambda: says("paddle"))
            await client.delete(ctrl.CONFIG_MAP, key)
            await eventually(lambda: says("paddle"))
            await client.patch(GREETING, key, {"spec": {"name": "again"}})
            await eventually(lambda: says("again"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
