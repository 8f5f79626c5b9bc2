"""The entrypoint of the routers' image, as a process on this host."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from controllers.resources import router
from tests.controllers.traffic.proxy import ENVOY, free_ports

ROOT = Path(__file__).resolve().parents[3]
POD = "paddle-router-0"


class Process:
    """The router's entrypoint with a real Envoy, on files as the pod has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        (self.status_port,) = free_ports(1)
        for name in ("config", "snapshot", "token", "run"):
            (folder / name).mkdir()

    def write(self, files: dict[str, str], given: str, snapshot: bytes = b"") -> None:
        for name, text in files.items():
            text = text.replace(router.CONFIG_FOLDER, str(self.folder / "config"))
            text = text.replace(router.RUN_FOLDER, str(self.folder / "run"))
            (self.folder / "config" / name).write_text(
                text.replace('"port_value":9902', f'"port_value":{self.status_port}')
            )
        (self.folder / "token" / "token").write_text(given)
        if snapshot:
            (self.folder / "snapshot" / router.FALLBACK_FILE).write_bytes(snapshot)

    async def start(self) -> None:
        own = {name.upper(): str(self.folder / name) for name in ("config", "snapshot", "token", "run")}
        settings = {"ENVOY": str(ENVOY), "BASE_ID": str(self.status_port), "PATIENCE": "0.5", "DRAIN": "1"}
        environment = {f"ROUTER_{name}": value for name, value in (own | settings).items()}
        log = (self.folder / "log").open("w")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(ROOT / "hack/images/addons/router.py"),
            env=os.environ | environment | {"POD_NAME": POD}, stdout=log, stderr=log,
        )  # fmt: skip

    async def end(self) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(30):
            return await self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()[-2000:]
