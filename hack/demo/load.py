"""A steady, bounded load, and what came of it."""

import asyncio
import collections
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from hack.demo.predict import HEADER, Request

LONGEST = 120.0
"""No load lasts longer than this many seconds, whatever happens around it, unless it is told to."""
BUSIEST = 8


@dataclass(slots=True)
class Outcome:
    """What the requests came to; latencies and the whole time in seconds."""

    latencies: list[float] = field(default_factory=list)
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    versions: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        return len(self.latencies) + self.failures.total()

    def percentile(self, share: float) -> float:
        """Seconds; 0 when nothing was answered."""
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def steady(
    url: str,
    request: Request,
    check: Callable[[bytes, int], str],
    *,
    rate: float,
    stop: asyncio.Event,
    outcome: Outcome,
    timeout: float = 30.0,
    longest: float = LONGEST,
) -> None:
    """Sends up to `rate` requests a second until `stop`, at most `longest` seconds and BUSIEST at once: what
    is measured is whether any fails, so servers that are slower than the rate slow the load down.

    Each has a connection of its own, so that each is routed anew. `check` gets body and header length of an
    answer and returns the version that gave it, or raises ValueError when the answer is wrong.
    """
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    limits = aiohttp.ClientTimeout(total=timeout)
    began = time.monotonic()
    async with (
        aiohttp.ClientSession(connector=connector, timeout=limits) as session,
        asyncio.TaskGroup() as group,
    ):
        number = 0
        places = asyncio.Semaphore(BUSIEST)
        while not stop.is_set() and time.monotonic() - began < longest:
            if (ahead := began + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            await places.acquire()
            task = group.create_task(_one(session, url, request, check, outcome))
            task.add_done_callback(lambda _: places.release())
            number += 1
    outcome.seconds += time.monotonic() - began


async def _one(
    session: aiohttp.ClientSession,
    url: str,
    request: Request,
    check: Callable[[bytes, int], str],
    outcome: Outcome,
) -> None:
    began = time.monotonic()
    try:
        async with session.post(url + request.path, data=request.body, headers=request.headers) as answer:
            body = await answer.read()
            if answer.status != 200:
                outcome.failures[f"HTTP {answer.status}: {body[:120].decode(errors='replace')}"] += 1
                return
            version = check(body, int(answer.headers.get(HEADER, "0")))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        outcome.failures[f"{type(error).__name__}: {error}"] += 1
        return
    except (ValueError, KeyError) as error:
        outcome.failures[f"wrong answer: {error}"] += 1
        return
    outcome.latencies.append(time.monotonic() - began)
    outcome.versions[version] += 1
