"""The demo's requests and its load, against a server of the test's own on loopback."""

import asyncio
import json

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from hack.bench.__main__ import limit
from hack.demo import load, predict

TENSOR = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)


def test_json_keeps_shape_and_values() -> None:
    asked = predict.as_json(TENSOR)
    assert json.loads(asked.body)["inputs"]["x"] == TENSOR.tolist()
    body = json.dumps({"outputs": {"y": TENSOR.tolist()}, "model_version": "v1.0.0"}).encode()
    values, version = predict.from_json(body)
    assert version == "v1.0.0"
    assert np.array_equal(values, TENSOR)


def test_binary_says_where_the_header_ends() -> None:
    asked = predict.as_binary("ocr", TENSOR)
    length = int(asked.headers[predict.HEADER])
    entry = json.loads(asked.body[:length])["inputs"][0]
    assert asked.path == "/v2/models/ocr/infer"
    assert entry["shape"] == [1, 3, 2, 2]
    assert entry["parameters"]["binary_data_size"] == len(asked.body) - length == TENSOR.nbytes
    answer = {"model_version": "v2.0.0", "outputs": [entry]}
    header = json.dumps(answer).encode()
    values, version = predict.from_binary(header + TENSOR.tobytes(), len(header))
    assert version == "v2.0.0"
    assert np.array_equal(values, TENSOR)


async def run(statuses: list[int], check_fails: bool = False) -> load.Outcome:
    """A load that stops once the server has answered every status in turn."""
    stop, left, outcome = asyncio.Event(), list(statuses), load.Outcome()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        status = left.pop(0) if left else 200
        if not left:
            stop.set()
        return web.Response(status=status, body=b"v1")

    def check(body: bytes, header: int) -> str:
        if check_fails:
            raise ValueError("read something else")
        return body.decode()

    app = web.Application()
    app.router.add_post("/p", answer)
    async with TestServer(app) as server:
        await asyncio.wait_for(
            load.steady(
                str(server.make_url("/")).rstrip("/"),
                predict.Request("/p", {}, b"x"),
                check,
                rate=500.0,
                stop=stop,
                outcome=outcome,
            ),
            timeout=20.0,
        )
    return outcome


async def test_every_request_is_counted_once() -> None:
    outcome = await run([200, 503, 200, 404])
    assert outcome.failures.total() == 2
    assert {reason[:8] for reason in outcome.failures} == {"HTTP 503", "HTTP 404"}
    assert outcome.versions["v1"] == outcome.requests - 2 == len(outcome.latencies)
    assert 0 < outcome.percentile(0.5) <= outcome.percentile(0.99)


async def test_a_wrong_answer_is_a_failure() -> None:
    outcome = await run([200, 200], check_fails=True)
    assert not outcome.latencies
    assert set(outcome.failures) == {"wrong answer: read something else"}


async def test_a_server_that_is_gone_is_a_failure() -> None:
    outcome, stop = load.Outcome(), asyncio.Event()

    def seen(_: bytes, __: int) -> str:
        return ""

    task = asyncio.create_task(
        load.steady(
            "http://127.0.0.1:1",
            predict.Request("/", {}, b""),
            seen,
            rate=100.0,
            stop=stop,
            outcome=outcome,
        )
    )
    asyncio.get_running_loop().call_later(0.2, stop.set)
    await asyncio.wait_for(task, timeout=10.0)
    assert outcome.requests == outcome.failures.total() > 0


def test_the_bar_allows_a_tenth_and_a_second() -> None:
    assert limit(3.0) == 1.1 * 3.0 + 1.0
