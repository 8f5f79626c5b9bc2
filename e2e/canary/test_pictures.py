"""The load generator against a real server, its log, the record of a status, and the picture."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from aiohttp import web

from e2e.canary.picture import Run, svg
from e2e.canary.record import Moment, changes, documents, moment
from e2e.canary.replies import Reply, band, between, parse, percentile, problems, share

LOAD = Path(__file__).with_name("load.py")


async def test_the_load_logs_every_reply_with_its_version() -> None:
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        assert await request.json() == {"inputs": 1}
        assert request.headers["x-model-exp"] == "canary"
        if count % 5 == 0:
            return web.Response(status=500, text="broken", headers={"X-Model-Version": "v2"})
        body = {"model_version": "v1" if count % 5 < 4 else "v3"}
        return web.json_response(body, headers={"X-Model-Version": "v1"})

    app = web.Application()
    app.router.add_post("/predict", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        url = f"http://127.0.0.1:{port}/predict"
        arguments = [url, '{"inputs": 1}', "50", "0.5", "new", "x-model-exp=canary"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(LOAD), *arguments, stdout=subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        await runner.cleanup()
    replies, done = parse(out.decode())
    assert done
    assert len(replies) == count > 5
    assert [reply.status for reply in replies].count(500) == count // 5
    assert {reply.version for reply in replies if reply.status == 500} == {"v2"}
    assert not any(reply.lost for reply in replies)
    assert "broken" in problems(replies)
    unlike = [reply for reply in replies if "different versions" in reply.error]
    assert len(unlike) == (count + 1) // 5


async def test_a_server_that_is_not_there_is_a_lost_request() -> None:
    arguments = ["http://127.0.0.1:9/predict", "{}", "20", "0.2", "kept"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(LOAD), *arguments, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    replies, done = parse(out.decode())
    assert done
    assert replies
    assert all(reply.lost and reply.failed for reply in replies)
    assert "ClientConnectorError" in problems(replies)


def test_a_log_without_its_end_is_told_and_one_with_holes_is_refused() -> None:
    line = json.dumps({"at": 10, "replies": [[500, "v1", 200, 3.5], [100, "v2", 503, 1.0, "no"]]})
    replies, done = parse(line)
    assert not done
    assert replies == [Reply(10.1, "v2", 503, 0.001, "no"), Reply(10.5, "v1", 200, 0.0035)]
    with pytest.raises(AssertionError, match="3 requests, 2 in the log"):
        parse(line + '\n{"done": 3}')


def test_what_replies_come_to() -> None:
    replies = [Reply(float(i), "v2" if i % 4 == 0 else "v1", 200, i / 10) for i in range(8)]
    assert share(replies, "v2") == 0.25
    assert share([], "v2") == 0.0
    assert [reply.at for reply in between(replies, 2, 4)] == [2.0, 3.0]
    assert percentile([reply.seconds for reply in replies], 0.5) == 0.4
    assert percentile([], 0.5) == 0.0
    assert problems(replies) == "none"
    assert band(0.1, 900) == pytest.approx(0.03)
    assert Reply(0, "", 503, 0).lost
    assert not Reply(0, "v2", 500, 0).lost


def service(**canary: object) -> dict[str, object]:
    return {"status": {"phase": "Ready", "canary": canary}}


def test_the_record_keeps_what_changed() -> None:
    weights = [{"revision": "old", "weight": 90}, {"revision": "new", "weight": 10}]
    raw = service(
        phase="Shifting", run=2, stable="old", candidate="new", traffic={"weights": weights, "change": 3}
    )
    first = moment(1.0, raw)
    assert first == Moment(
        at=1.0, phase="Shifting", run=2, stable="old", candidate="new", weight=10, verified=False,
        service_phase="Ready",
    )  # fmt: skip
    again, later = moment(2.0, raw), moment(3.0, service(phase="Paused", pause="User"))
    assert again is not None
    assert later is not None
    assert changes([first, again, later]) == [first, later]
    assert moment(1.0, {"status": {}}) is None


def test_documents_are_read_as_they_come() -> None:
    text = '{"a": 1}\n{"b": {"c": 2}}\n{"d": '
    assert documents(text) == ([{"a": 1}, {"b": {"c": 2}}], '{"d": ')
    assert documents("") == ([], "")


def test_a_run_becomes_a_picture() -> None:
    phases = [(0, "Idle", 0), (5, "Preparing", 0), (10, "Shifting", 10), (15, "Analysing", 10),
              (40, "RollingBack", 0), (45, "Draining", 0)]  # fmt: skip
    moments = [
        Moment(at=100.0 + at, phase=phase, stable="old", candidate="new", weight=weight)
        for at, phase, weight in phases
    ]
    replies = [
        Reply(100 + i / 10, "v2" if 120 < i < 400 and i % 10 == 0 else "v1", 500 if i == 300 else 200, 0.01)
        for i in range(600)
    ]
    replies.append(Reply(160.1, "", 0, 15.0, "<gone & lost>"))
    picture = svg(Run(title="a <run>", moments=moments, replies=replies, versions=["v1", "v2"]))
    root = ET.fromstring(picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a <run>" in texts
    assert "Analysing" in texts
    assert "v2 (candidate)" in texts
    assert "0 s" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) > 20


def test_an_empty_run_is_a_picture_too() -> None:
    ET.fromstring(svg(Run(title="nothing", moments=[], replies=[], versions=[])))
