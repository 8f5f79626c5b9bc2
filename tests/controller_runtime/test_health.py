import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from controller_runtime import _health as health
from controller_runtime._health import Checks, HttpServer, parse_address


class Probe:
    def __init__(self, checks: Checks, port: int, session: aiohttp.ClientSession) -> None:
        self.checks = checks
        self.port = port
        self.session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.status, await response.text()


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    checks = Checks("/readyz")
    server = HttpServer("127.0.0.1:0", checks.routes())
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Probe(checks, server.port, session)
    await server.stop()
    await server.stop()


async def test_no_checks_is_healthy(probe: Probe) -> None:
    assert await probe.get("/readyz") == (200, "ok")
    assert (await probe.get("/other"))[0] == 404


async def test_reasons_are_withheld_and_sub_paths_ask_one(probe: Probe) -> None:
    async def slow_but_fine() -> None:
        await asyncio.sleep(0)

    def broken() -> str:
        raise RuntimeError("secret detail")

    probe.checks.add("fine", lambda: None)
    probe.checks.add("async", slow_but_fine)
    assert await probe.get("/readyz") == (200, "ok")
    assert await probe.get("/readyz?verbose") == (200, "[+]fine ok\n[+]async ok\nreadyz check passed\n")
    probe.checks.add("broken", broken)
    failed = "[+]fine ok\n[+]async ok\n[-]broken failed: reason withheld\nreadyz check failed\n"
    assert await probe.get("/readyz") == (500, failed)
    assert await probe.get("/readyz/fine") == (200, "ok")
    assert await probe.get("/readyz/broken") == (500, "internal server error: reason withheld\n")
    assert (await probe.get("/readyz/unknown"))[0] == 404


async def test_exclude_leaves_a_check_out_and_warns_of_unknown_names(probe: Probe) -> None:
    probe.checks.add("broken", lambda: "down")
    assert await probe.get("/readyz?exclude=broken") == (200, "ok")
    status, text = await probe.get("/readyz?verbose&exclude=broken&exclude=typo")
    assert status == 200
    assert text.splitlines() == [
        "[+]broken excluded: ok",
        'warn: some health checks cannot be excluded: no matches for "typo"',
        "readyz check passed",
    ]


async def test_a_check_that_hangs_fails(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.01)

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    probe.checks.add("hangs", hangs)
    assert (await probe.get("/readyz"))[0] == 500


async def test_a_check_can_recover(probe: Probe) -> None:
    reasons = ["down", ""]
    probe.checks.add("flaky", lambda: reasons.pop(0))
    assert (await probe.get("/readyz"))[0] == 500
    assert await probe.get("/readyz") == (200, "ok")


def test_names_are_checked() -> None:
    checks = Checks("/healthz")
    checks.add("a", lambda: None)
    for name in ("a", "", "b/c"):
        with pytest.raises(ValueError, match="check name"):
            checks.add(name, lambda: None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":8081", (None, 8081)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
        ("host:1", ("host", 1)),
    ],
)
def test_addresses(address: str, expected: tuple[str | None, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["8081", "host", "host:", ":70000", ":http", ""])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(address)


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind() -> None:
    first = HttpServer("127.0.0.1:0", {})
    await first.start()
    second = HttpServer(f"127.0.0.1:{first.port}", {})
    with pytest.raises(OSError, match="address"):
        await second.start()
    assert second.port == first.port
    await first.stop()
