"""Runs in a pod with the operator's image: the operator's traffic part alone, or a load.

python -P -c <this> lead IMAGE    POST /apply a split as JSON; answers once it is verified, or why it is not
python -P -c <this> load          POST /load {"url", "rate"}, later GET /load for what came of it
"""

import asyncio
import json
import os
import sys
from collections import Counter

import aiohttp
from aiohttp import web


async def lead(image: str) -> web.Application:
    import controller_runtime as ctrl
    from controllers import caches
    from controllers.traffic import Verified, from_wire
    from controllers.traffic.options import TrafficOptions
    from controllers.traffic.setup import setup

    manager = ctrl.Manager(ctrl.Config.from_in_cluster(), field_manager="paddle-operator")
    caches.configure(manager)
    options = TrafficOptions(
        image=image, advertise=os.environ["POD_IP"], namespace=os.environ["POD_NAMESPACE"]
    )
    channel = ctrl.Channel()
    envoy = setup(manager, options, channel)["Envoy"]
    asyncio.create_task(manager.run(asyncio.Event())).add_done_callback(
        lambda task: print("manager ended", task.exception(), flush=True)
    )

    async def apply(request: web.Request) -> web.Response:
        body = await request.json()
        split = from_wire(ctrl.Key(body["namespace"], body["service"]), body["uid"], body["split"])
        await envoy.apply(split)
        verdict = await envoy.verify(split)
        for _ in range(200):
            if isinstance(verdict, Verified):
                break
            await asyncio.sleep(0.2)
            verdict = await envoy.verify(split)
        return web.json_response({"verdict": type(verdict).__name__, "told": str(verdict)})

    app = web.Application()
    app.router.add_post("/apply", apply)
    return app


async def load() -> web.Application:
    counted: Counter[str] = Counter()
    running: list[asyncio.Task[None]] = []

    async def once(session: aiohttp.ClientSession, url: str) -> None:
        try:
            async with session.get(url) as answer:
                body = await answer.read()
                if answer.status == 200:
                    counted[answer.headers.get("x-model-revision", "none")] += 1
                else:  # whoever said it tells more by how than by what
                    counted[f"failed: {answer.status} {sorted(answer.headers)} {body[:60]!r}"] += 1
        except Exception as error:
            counted[f"failed: {type(error).__name__}: {error}"] += 1

    async def run(url: str, rate: float) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        timeout = aiohttp.ClientTimeout(total=15.0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                group.create_task(once(session, url))
                await asyncio.sleep(1.0 / rate)

    async def start(request: web.Request) -> web.Response:
        body = await request.json()
        for task in running:
            task.cancel()
        counted.clear()
        running[:] = [asyncio.create_task(run(body["url"], body["rate"]))]
        return web.Response(text="started")

    async def told(request: web.Request) -> web.Response:
        return web.json_response(dict(counted))

    app = web.Application()
    app.router.add_post("/load", start)
    app.router.add_get("/load", told)
    return app


async def main(role: str, *arguments: str) -> None:
    app = await (lead(*arguments) if role == "lead" else load())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8000).start()
    print(json.dumps({"role": role}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
