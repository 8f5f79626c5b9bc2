"""Questions over HTTP that a canary's way depends on: readiness paths of pods, and webhooks of users.

The reconciler says what it wants to know and reads what is known; it never waits for an answer. A yes is kept
as long as somebody wants to know; anything else is asked again. Of an answer only its code is told: a hook's
address is a user's choice, and what lies there may be none of the user's business.
"""

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

import controller_runtime as ctrl
from artifacts import ArtifactError, EndpointPolicy

#: How much of an error is told.
MAX_TOLD: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """name: unique within the service. body: POSTed as JSON; None for a GET. deadline, again: seconds that
    the answer may take, and between two attempts. guarded: the URL is a user's, so addresses are checked.
    """

    name: str
    url: str
    body: Mapping[str, object] | None = field(default=None, hash=False)
    deadline: float = 2.0
    again: float = 2.0
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """yes: 2xx. message: what came instead, in a few words."""

    yes: bool
    message: str = ""


class _Guarded(AbstractResolver):
    """Resolves to permitted addresses only, so that what is connected to is what was checked."""

    def __init__(self, policy: EndpointPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        refused: ArtifactError | None = None
        allowed: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            try:
                self._policy.check(host, port, str(address[0]))
            except ArtifactError as error:
                refused = error
                continue
            allowed.append(
                ResolveResult(
                    hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=0
                )
            )
        if refused is not None and not allowed:
            raise OSError(errno.EACCES, refused.message)
        return allowed

    async def close(self) -> None:
        return


class Questions:
    """Asks them, at most `concurrency` at once, until stopped. Single-threaded, like the event loop."""

    def __init__(
        self,
        channel: ctrl.Channel,
        policy: EndpointPolicy,
        *,
        concurrency: int = 32,
        interval: float = 0.5,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._channel = channel
        self._policy = policy
        self._gate = asyncio.Semaphore(concurrency)
        self._interval = interval
        self._clock = clock
        self._wanted: dict[ctrl.Key, dict[str, Question]] = {}
        self._answers: dict[tuple[ctrl.Key, str], Answer] = {}
        self._due: dict[tuple[ctrl.Key, str], float] = {}
        self._asking: set[tuple[ctrl.Key, str]] = set()

    def ask(self, key: ctrl.Key, questions: Iterable[Question]) -> Mapping[str, Answer]:
        """From now on exactly these are of interest to `key`; what is known of them, by name."""
        wanted = {question.name: question for question in questions}
        for name, before in self._wanted.pop(key, {}).items():
            if wanted.get(name) != before:
                self._answers.pop((key, name), None)
                self._due.pop((key, name), None)
        if wanted:
            self._wanted[key] = wanted
        return {name: self._answers[key, name] for name in wanted if (key, name) in self._answers}

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Ask what is due until `stop` is set or the task is cancelled."""
        ended = stop or asyncio.Event()
        plain = aiohttp.TCPConnector(force_close=True)
        guarded = aiohttp.TCPConnector(force_close=True, resolver=_Guarded(self._policy))
        # trust_env stays off: a proxy would connect where we must not.
        async with (
            aiohttp.ClientSession(connector=plain) as pods,
            aiohttp.ClientSession(connector=guarded) as users,
            asyncio.TaskGroup() as group,
        ):
            while not ended.is_set():
                for key, question in self._now_due():
                    group.create_task(self._one(users if question.guarded else pods, key, question))
                try:
                    await asyncio.wait_for(ended.wait(), timeout=self._interval)
                except TimeoutError:
                    continue

    def _time(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def _now_due(self) -> list[tuple[ctrl.Key, Question]]:
        now, found = self._time(), []
        for key, wanted in self._wanted.items():
            for name, question in wanted.items():
                known = self._answers.get((key, name))
                if (known is not None and known.yes) or (key, name) in self._asking:
                    continue
                if now >= self._due.get((key, name), now):
                    self._asking.add((key, name))
                    found.append((key, question))
        return found

    async def _one(self, session: aiohttp.ClientSession, key: ctrl.Key, question: Question) -> None:
        mark = (key, question.name)
        try:
            async with self._gate:
                answer = await self._answer(session, question)
        finally:
            self._asking.discard(mark)
        if self._wanted.get(key, {}).get(question.name) != question:
            return  # nobody wants to know any more
        self._due[mark] = self._time() + question.again
        if self._answers.get(mark) != answer:
            self._answers[mark] = answer
            self._channel.enqueue(key)

    async def _answer(self, session: aiohttp.ClientSession, question: Question) -> Answer:
        """Never raises: whatever goes wrong is no yes."""
        try:
            if question.guarded:
                self._literal(question.url)
            method = "GET" if question.body is None else "POST"
            data = None if question.body is None else json.dumps(dict(question.body)).encode()
            headers = {} if data is None else {"Content-Type": "application/json"}
            async with asyncio.timeout(question.deadline):
                async with session.request(
                    method, question.url, data=data, headers=headers, allow_redirects=False
                ) as reply:
                    if 200 <= reply.status < 300:
                        return Answer(True)
                    return Answer(False, f"answers {reply.status}")
        except TimeoutError:
            return Answer(False, f"does not answer within {question.deadline:g} s")
        except (aiohttp.ClientError, ArtifactError, OSError, ValueError) as error:
            words = error.message if isinstance(error, ArtifactError) else str(error) or type(error).__name__
            return Answer(False, f"cannot be reached: {' '.join(words.split())[:MAX_TOLD]}")

    def _literal(self, url: str) -> None:
        """An address in the URL is never resolved, so it is checked here."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
        except OSError:
            return
        self._policy.check(host, parts.port or (443 if parts.scheme == "https" else 80), host)
