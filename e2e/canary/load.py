"""A steady load that logs every reply with the version that gave it. Runs in a pod; needs aiohttp only.

    python load.py URL BODY RATE SECONDS new|kept[,wait] [HEADER=VALUE ...]

Requests begin `RATE` times a second, whatever became of those before (at most WIDEST are under way), until
SIGUSR1 or SECONDS have passed. Each second is one line of JSON on stdout:
{"at": seconds since the epoch, "replies": [[milliseconds after `at`, version, status, milliseconds, error],
...]}. A reply's time is when its request began; status 0 is a request without an answer, and `error` then
says why. The last line is {"done": number of requests}.

new: a connection for each request, so that each is routed anew. kept: connections live, as a client's do.
wait: the load begins SETTLED seconds after somebody has answered; what was asked before is not logged.
"""

import asyncio
import json
import signal
import sys
import time

import aiohttp

WIDEST = 400
TIMEOUT = 15.0
SETTLED = 2.0


class Log:
    """Replies by the second in which they came, written when that second is over."""

    def __init__(self) -> None:
        self.second = int(time.time())
        self.replies: list[list[object]] = []
        self.count = 0

    def add(self, began: float, version: str, status: int, seconds: float, error: str = "") -> None:
        self.flush()
        reply = [round((began - self.second) * 1000), version, status, round(seconds * 1000, 1)]
        self.replies.append([*reply, error] if error else reply)
        self.count += 1

    def flush(self, *, last: bool = False) -> None:
        now = int(time.time())
        if self.replies and (last or now > self.second):
            print(json.dumps({"at": self.second, "replies": self.replies}, separators=(",", ":")), flush=True)
            self.replies = []
        self.second = now


async def one(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str], log: Log
) -> None:
    began, started = time.time(), time.monotonic()
    try:
        async with session.post(url, data=body, headers=headers) as answer:
            text = await answer.read()
            version = answer.headers.get("X-Model-Version", "")
            error = "" if answer.status == 200 else text[:160].decode(errors="replace")
            if answer.status == 200 and json.loads(text).get("model_version") != version:
                error = f"body and header name different versions: {text[:120]!r}"
            log.add(began, version, answer.status, time.monotonic() - started, error)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        log.add(began, "", 0, time.monotonic() - started, f"{type(error).__name__}: {error}"[:160])


async def answered(session: aiohttp.ClientSession, url: str, body: bytes, stop: asyncio.Event) -> None:
    """Until there is somebody to be loaded, and the proxies have had SETTLED seconds to know."""
    while not stop.is_set():
        try:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                if answer.status == 200:
                    await asyncio.sleep(SETTLED)
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(0.2)


async def main(
    url: str, body: bytes, rate: float, seconds: float, how: list[str], headers: dict[str, str]
) -> None:
    log, stop = Log(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stop.set)
    connector = aiohttp.TCPConnector(force_close="kept" not in how, limit=0)
    limits = aiohttp.ClientTimeout(total=TIMEOUT)
    places = asyncio.Semaphore(WIDEST)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=limits) as session,
        asyncio.TaskGroup() as group,
    ):
        if "wait" in how:
            await answered(session, url, body, stop)
        began, number = time.monotonic(), 0
        while not stop.is_set() and (now := time.monotonic()) < began + seconds:
            due = began + number / rate
            if due > now:
                await asyncio.sleep(due - now)
            await places.acquire()
            task = group.create_task(one(session, url, body, headers, log))
            task.add_done_callback(lambda _: places.release())
            number += 1
            log.flush()
    log.flush(last=True)
    print(json.dumps({"done": log.count}), flush=True)


if __name__ == "__main__":
    given = dict(pair.split("=", 1) for pair in sys.argv[6:])
    asyncio.run(
        main(
            sys.argv[1],
            sys.argv[2].encode(),
            float(sys.argv[3]),
            float(sys.argv[4]),
            sys.argv[5].split(","),
            {"Content-Type": "application/json", **given},
        )
    )
