"""Readiness paths and webhooks: who is asked, when, and what counts as a yes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

import controller_runtime as ctrl
from artifacts import EndpointPolicy
from controllers.analysis.tally import Verdict
from controllers.paddleservice.asked import passed, readiness, webhooks
from controllers.paddleservice.questions import Answer, Question, Questions
from controllers.resources.desired import Settings
from controllers.rollout.canary import Canary, Found, Pause, Phase

from .builders import desired, pod, revision

KEY = ctrl.Key("default", "svc")


@dataclass
class Desk:
    """A server that answers what it is told to, and the questions that are asked of it."""

    code: int = 200
    bodies: list[object] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    base: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json() if request.method == "POST" else request.path)
        if request.path == "/slow":
            await self.held.wait()
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/x"})
        return web.Response(status=self.code, text="secret of the inside")


async def eventually(read: Callable[[], Any]) -> Any:
    """What `read` gives once it is something, within 20 s."""
    for _ in range(2000):
        if found := read():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("nothing came")


@asynccontextmanager
async def asking(
    desk: Desk, policy: EndpointPolicy
) -> AsyncIterator[tuple[Questions, Callable[[Question], Awaitable[Answer]]]]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", desk.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    desk.base = f"http://127.0.0.1:{port}"
    questions = Questions(ctrl.Channel(), policy, interval=0.01)
    stop = asyncio.Event()
    task = asyncio.create_task(questions.run(stop))

    async def answer(question: Question) -> Answer:
        return await eventually(lambda: questions.ask(KEY, [question]).get(question.name))

    try:
        yield questions, answer
    finally:
        desk.held.set()
        stop.set()
        await task
        await runner.cleanup()


LOOPBACK = EndpointPolicy(allow_loopback=True)


async def test_a_yes_is_kept_and_anything_else_is_asked_again() -> None:
    desk = Desk(code=503)
    async with asking(desk, LOOPBACK) as (questions, answer):
        question = Question(name="pod/1", url=f"{desk.base}/ready", again=0.01)
        assert await answer(question) == Answer(False, "answers 503")
        desk.code = 200
        await eventually(lambda: questions.ask(KEY, [question])["pod/1"].yes)
        asked = len(desk.bodies)
        await asyncio.sleep(0.1)
        assert len(desk.bodies) == asked
        questions.ask(KEY, [])
        assert questions.ask(KEY, [question]) == {}, "what nobody wanted to know is forgotten"


async def test_no_redirect_is_followed_and_nothing_of_an_answer_is_told() -> None:
    desk = Desk(code=403)
    async with asking(desk, LOOPBACK) as (_, answer):
        moved = await answer(Question(name="a", url=f"{desk.base}/moved"))
        assert moved == Answer(False, "answers 302")
        said = await answer(Question(name="b", url=f"{desk.base}/x", body={"run": 1}, guarded=True))
        assert said == Answer(False, "answers 403")
        assert desk.bodies[-1] == {"run": 1}


async def test_a_slow_hook_holds_nobody_else_up() -> None:
    desk = Desk()
    async with asking(desk, LOOPBACK) as (questions, answer):
        slow = Question(name="slow", url=f"{desk.base}/slow", deadline=60.0)
        quick = Question(name="quick", url=f"{desk.base}/x")
        await eventually(lambda: questions.ask(KEY, [slow, quick]).get("quick"))
        assert "slow" not in questions.ask(KEY, [slow, quick])
        late = Question(name="late", url=f"{desk.base}/slow", deadline=0.05)
        assert await answer(late) == Answer(False, "does not answer within 0.05 s")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"])
async def test_a_hook_reaches_no_address_that_is_the_operators_own_business(host: str) -> None:
    desk = Desk()
    async with asking(desk, EndpointPolicy()) as (_, answer):
        url = f"http://{host}:{desk.base.rpartition(':')[2]}/x"
        said = await answer(Question(name="a", url=url, guarded=True))
        assert not said.yes
        assert "does not connect to" in said.message
        assert desk.bodies == []


def test_pods_of_the_candidate_are_asked_before_a_weight() -> None:
    new = revision(desired("v2"), replicas=2)
    old = revision(desired("v1"), replicas=1)
    pods = [pod(new, 1, ready=True), pod(new, 2), pod(old, 3, ready=True)]
    wanted = Settings(canary={"readinessPath": "/v2/health/ready"})
    state = Canary(phase=Phase.Preparing, stable=old.hash, candidate=new.hash)
    (question,) = readiness(wanted, state, pods)
    assert question.url == "http://10.0.0.1:8080/v2/health/ready"
    assert readiness(Settings(), state, pods) == ()
    assert readiness(wanted, replace(state, phase=Phase.Analysing), pods) == ()


def test_hooks_are_asked_once_an_attempt_has_passed() -> None:
    state = Canary(phase=Phase.Analysing, stable="a", candidate="b", run=2, step=1, attempt=3, steps=(5, 50))
    found = Found(run=2, step=1, attempt=3, verdict=Verdict.Passed)
    assert passed(state, found)
    assert not passed(state, replace(found, attempt=2))
    assert not passed(state, replace(found, verdict=Verdict.Running))
    assert not passed(replace(state, phase=Phase.Paused, pause=Pause.User), found)
    wanted = Settings(canary={"hooks": [{"name": "approve", "url": "http://h/x", "timeoutSeconds": 7}]})
    (hook,) = webhooks(KEY, wanted, state)
    assert (hook.name, hook.deadline, hook.guarded) == ("hook/2-1-3/approve", 7.0, True)
    assert hook.body == {
        "namespace": "default",
        "service": "svc",
        "revision": "b",
        "baseline": "a",
        "run": 2,
        "step": 1,
        "attempt": 3,
        "weight": 50,
    }
