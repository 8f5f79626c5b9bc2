"""A server that stands in for a webhook of a user, or stands before Prometheus. Runs in a pod; needs aiohttp.

    python stand.py [UPSTREAM]

GET /asked: the JSON bodies of every POST of a hook so far. PUT /mode: JSON that replaces what it does:
{"status": what hooks are answered with, "delay": seconds before an answer, "data": what becomes of an
answer of UPSTREAM: "" as it is, "empty" no series, "nan" not a number, "two" every series twice}.
"""

import asyncio
import copy
import json
import sys

import aiohttp
from aiohttp import web

PORT = 9090
CLIENT = web.AppKey("client", aiohttp.ClientSession)
mode: dict[str, object] = {"status": 200, "delay": 0.0, "data": ""}
asked: list[object] = []


def changed(answer: dict[str, object], how: object) -> dict[str, object]:
    """Prometheus' answer as the mode wants it."""
    data = answer.get("data")
    if not how or not isinstance(data, dict) or data.get("resultType") != "vector":
        return answer
    series = data["result"]
    if how == "empty":
        series = []
    for item in series if how == "nan" else ():
        item["value"][1] = "NaN"
    if how == "two":
        twins = copy.deepcopy(series)
        for item in twins:
            item["metric"]["twin"] = "yes"
        series = series + twins
    return {**answer, "data": {**data, "result": series}}


async def hook(request: web.Request) -> web.Response:
    asked.append(await request.json())
    await asyncio.sleep(float(str(mode["delay"])))
    return web.Response(status=int(str(mode["status"])))


async def listed(_: web.Request) -> web.Response:
    return web.json_response(asked)


async def switch(request: web.Request) -> web.Response:
    mode.update(await request.json())
    return web.json_response(mode)


async def passed_on(request: web.Request) -> web.Response:
    await asyncio.sleep(float(str(mode["delay"])))
    url = f"{sys.argv[1]}{request.path_qs}"
    kind = {"Content-Type": request.headers.get("Content-Type", "text/plain")}
    async with request.app[CLIENT].request(
        request.method, url, data=await request.read(), headers=kind
    ) as reply:
        answer = json.loads(await reply.read())
        return web.json_response(changed(answer, mode["data"]), status=reply.status)


async def client(app: web.Application):  # type: ignore[no-untyped-def]
    async with aiohttp.ClientSession() as session:
        app[CLIENT] = session
        yield


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_post("/hook", hook)
    app.router.add_get("/asked", listed)
    app.router.add_put("/mode", switch)
    app.router.add_route("*", "/api/v1/{rest:.*}", passed_on)
    web.run_app(app, port=PORT, print=None)
