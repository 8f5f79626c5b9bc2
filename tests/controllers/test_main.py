"""The operator as a process: its flags, and its start and end against a real API server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import controller_runtime as ctrl
from controllers.__main__ import namespaces, options, parser
from controllers.kinds import PADDLE_MODEL
from tests.support.objectstore import free_ports
from tests.support.operator import eventually

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

ROOT = Path(__file__).resolve().parents[2]


def test_flags_become_options() -> None:
    arguments = parser().parse_args(
        [
            "--runtime-image=r:1",
            "--workers=7",
            "--allowed-endpoints=127.0.0.1, 10.0.0.0/8",
            "--watch-namespaces=a,b",
            "--settle-time=2.5",
        ]
    )
    chosen = options(arguments)
    assert (chosen.runtime_image, chosen.workers, chosen.settle) == ("r:1", 7, 2.5)
    assert chosen.endpoint_policy.allow == ("127.0.0.1", "10.0.0.0/8")
    assert namespaces(arguments) == ["a", "b"]
    assert namespaces(parser().parse_args([])) is None


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--workers=0"], "must be 1 or more"),
        (["--drain=1"], "unrecognized"),
        (["--resolve-timeout=0"], "more than 0 seconds"),
        (["--image-pull-policy=Sometimes"], "IfNotPresent"),
    ],
)
def test_a_wrong_flag_is_named(argv: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(argv)
    assert word in capsys.readouterr().err


HEAP = """
import gc, os
from controllers.__main__ import return_large_blocks

def grown():
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    bytes(12 << 20)  # freed at once: glibc takes blocks of this size from the heap after that
    before = resident()
    page = b"x" * (10 << 20)
    kept = [b"y" * 4000 for _ in range(500)]
    del page
    gc.collect()
    return resident() - before, kept

without, kept = grown()
return_large_blocks()
print(without, grown()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_page_that_was_read_leaves_no_hole_in_the_heap() -> None:
    command = [sys.executable, "-c", HEAP]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    without, grown = (float(number) for number in done.stdout.split())
    assert without > 8.0, "the test sees no hole at all"
    assert grown < 5.0


def test_a_missing_runtime_image_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PADDLE_RUNTIME_IMAGE", raising=False)
    with pytest.raises(SystemExit):
        options(parser().parse_args([]))
    assert "--runtime-image" in capsys.readouterr().err


def test_prometheus_servers_are_flags_and_a_wrong_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--runtime-image=r", "--prometheus=http://p:9090", "--prometheus=eu=https://q,tokenFile=/t"]
    chosen = options(parser().parse_args(given))
    assert [server.name for server in chosen.prometheus] == ["default", "eu"]
    assert not chosen.allow_custom_promql
    with pytest.raises(SystemExit):
        options(parser().parse_args([*given, "--prometheus=http://r"]))
    assert "--prometheus: the server default is given twice" in capsys.readouterr().err


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


@pytest.mark.apiserver
async def test_the_process_reconciles_serves_health_and_ends_with_zero(
    apiserver: Envtest, namespace: str, tmp_path: Path
) -> None:
    health, metrics = free_ports(2)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "controllers"),
        f"--kubeconfig={apiserver.kubeconfig(tmp_path / 'kubeconfig')}",
        f"--watch-namespaces={namespace}",
        f"--leader-election-namespace={namespace}",
        f"--health-address=127.0.0.1:{health}",
        f"--metrics-address=127.0.0.1:{metrics}",
        "--runtime-image=runtime:1",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(ready, health):
                assert process.returncode is None, (await process.communicate())[1].decode()[-2000:]
                await asyncio.sleep(0.1)
        async with apiserver.client() as client:
            await client.create(
                {
                    "apiVersion": PADDLE_MODEL.api_version,
                    "kind": "PaddleModel",
                    "metadata": {"name": "m", "namespace": namespace},
                    "spec": {"framework": "paddle", "version": "v1.0.0", "modelPath": "http://127.0.0.1:9/x"},
                }
            )
            model = await eventually(
                client,
                PADDLE_MODEL,
                ctrl.Key(namespace, "m"),
                lambda found: found and "--allowed-endpoints" in found.status.get("message", ""),
                within=30,
            )
            assert model is not None
            lease = await client.get_live(ctrl.LEASE, ctrl.Key(namespace, "paddle-operator"))
            assert lease is not None
        text = await asyncio.to_thread(read, f"http://127.0.0.1:{metrics}/metrics")
        assert 'controller_runtime_reconcile_total{controller="paddlemodel",result="success"}' in text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 40) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
