"""The router's entrypoint where nobody leads, with a real Envoy."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from pathlib import Path

import aiohttp

from controllers.traffic.envoy import authority, bootstrap
from controllers.traffic.envoy.endpoints import endpoints
from controllers.traffic.envoy.routers import RouterOptions, files
from controllers.traffic.envoy.snapshot import compose, part
from tests.controllers.traffic.entrypoint import Process
from tests.controllers.traffic.proxy import ADS_NAME, backends, endpoint_slice, free_ports, split, until


def kept(port: int, backend: int) -> bytes:
    """A snapshot of one service, with the backend in place of names that only a cluster knows."""
    found = endpoints([endpoint_slice("aaaa", [backend])])
    body = bootstrap.fallback(compose([part(split(1, port=port), found)]), "default")
    text = json.dumps(body).replace("ocr-aaaa.default.svc", "127.0.0.1").replace(": 8080", f": {backend}")
    return gzip.compress(text.encode())


def child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


async def test_a_router_whose_envoy_dies_ends_and_starts_again_where_it_was(tmp_path: Path) -> None:
    port, dead = free_ports(2)
    options = RouterOptions(
        image="i", pull_policy="Never", ads=f"127.0.0.1:{dead}", name=ADS_NAME, operator="paddle-system"
    )
    process = Process(tmp_path)
    async with backends("aaaa") as (stable,), aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                async with session.get(f"http://127.0.0.1:{port}/predict") as answer:
                    return await answer.text() == "aaaa"
            except aiohttp.ClientError:
                return False

        trusted = authority.generate(time.time()).certificate
        process.write(files(options, trusted), "token", snapshot=kept(port, stable.port))
        for _ in range(2):
            await process.start()
            try:
                await until(answers, f"it serves what was kept\n{process.log()}")
                assert process.process is not None
                os.kill(child(process.process.pid), signal.SIGKILL)
                async with asyncio.timeout(30):
                    assert await process.process.wait() != 0
                assert "Envoy ended" in process.log()
            finally:
                await process.end()


async def test_a_router_drains_before_it_ends(tmp_path: Path) -> None:
    port, dead = free_ports(2)
    options = RouterOptions(
        image="i", pull_policy="Never", ads=f"127.0.0.1:{dead}", name=ADS_NAME, operator="paddle-system"
    )
    process = Process(tmp_path)
    async with backends("aaaa") as (stable,), aiohttp.ClientSession() as session:

        async def ask() -> tuple[str, str]:
            async with session.get(f"http://127.0.0.1:{port}/predict") as answer:
                return await answer.text(), answer.headers.get("connection", "")

        async def answers() -> bool:
            try:
                return (await ask())[0] == "aaaa"
            except aiohttp.ClientError:
                return False

        trusted = authority.generate(time.time()).certificate
        process.write(files(options, trusted), "token", snapshot=kept(port, stable.port))
        await process.start()
        try:
            await until(answers, f"it serves\n{process.log()}")
            stable.delay = 2.0  # longer than new connections are taken
            slow = asyncio.create_task(ask())
            await until(lambda: stable.hits >= 2, "the request is there")
            assert process.process is not None
            process.process.terminate()
            await until(lambda: "draining: 1 requests" in process.log(), f"it drains\n{process.log()}")
            assert (await slow)[0] == "aaaa"
            async with asyncio.timeout(30):
                assert await process.process.wait() == 0
            assert "drained in" in process.log()
        finally:
            await process.end()
