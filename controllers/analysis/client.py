"""Asks Prometheus servers. The shell around `answer`.

Guarantees, for each server:
- at most `concurrency` queries at once; each ends within `deadline` seconds from when it got its turn;
- after 5 errors in a row it is left alone for 15 s, and those who ask meanwhile hear that at once;
- no redirect is followed, no more than 1 MiB of a reply is read, and cookies and proxies of the environment
  are not used: the token goes where the flag says and nowhere else.
"""

import asyncio
import contextlib
import os
import ssl
import time as clocks
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

import aiohttp
import orjson

from .answer import Answer, PrometheusError, Refused, Unavailable, line, read, read_batch
from .breaker import Breaker
from .promql import batch
from .server import Server

#: Seconds: the server's own limit of a query, and ours of the whole exchange.
SERVER_TIMEOUT: Final = 8
DEADLINE: Final = 10.0
CONCURRENCY: Final = 8

#: Questions of one exchange.
BATCH: Final = 64

#: Bytes read of one reply. One number needs some hundreds.
MAX_REPLY: Final = 1 << 20

#: Asked to find out whether a server answers at all.
PROBE: Final = "vector(1)"


_T = TypeVar("_T")


class Recorder(Protocol):
    """Told of every query."""

    def query(self, server: str, result: str, seconds: float) -> None:
        """result: ok, refused, error, or skipped by the breaker."""
        ...


class Prometheus:
    """One server. Belongs to one event loop; `close` when done."""

    def __init__(
        self,
        server: Server,
        recorder: Recorder,
        *,
        deadline: float = DEADLINE,
        concurrency: int = CONCURRENCY,
        clock: Callable[[], float] = clocks.monotonic,
    ) -> None:
        self.server = server
        self._recorder = recorder
        self._deadline = deadline
        self._slots = asyncio.Semaphore(concurrency)
        self._clock = clock
        self._breaker = Breaker(clock)
        self._session: aiohttp.ClientSession | None = None
        self._looks = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tls: tuple[float, ssl.SSLContext] | None = None

    async def query(self, text: str, *, at: float) -> Answer:
        """The value of `text` at `at` (seconds since the epoch). Raises Refused or Unavailable."""
        return await self._query(text, at, read)

    async def query_all(
        self, questions: Mapping[str, str], *, at: float, own: Mapping[str, str] | None = None
    ) -> dict[str, Answer]:
        """All answers by name, or the first Unavailable.

        questions: ours, asked some dozens in one exchange. own: those of users, each asked alone; one that is
        refused is no data, with a note.
        """
        tasks: list[asyncio.Task[dict[str, Answer]]] = []
        trouble = ""
        self._looks += 1
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as group:
                names = list(questions)
                for first in range(0, len(names), BATCH):
                    part = {name: questions[name] for name in names[first : first + BATCH]}
                    tasks.append(group.create_task(self._batch(part, at)))
                for name, text in (own or {}).items():
                    tasks.append(group.create_task(self._alone(name, text, at)))
        except* PrometheusError as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            trouble = str(error)  # what is raised in here would come out in a group, which nobody expects
        finally:
            self._looks -= 1
            if not self._looks:
                self._idle.set()
        if trouble:
            raise Unavailable(trouble)
        return {name: answer for task in tasks for name, answer in task.result().items()}

    async def answers(self, *, at: float) -> None:
        """Raises Unavailable unless the server answers the simplest question."""
        try:
            await self.query(PROBE, at=at)
        except Refused as error:
            raise Unavailable(self._words(f"does not answer well: {error}")) from None

    async def close(self) -> None:
        """An operator that stops finishes what it began: looks under way get the deadline of one query."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._deadline):
                    await self._idle.wait()
        finally:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def _batch(self, questions: Mapping[str, str], at: float) -> dict[str, Answer]:
        return await self._query(
            batch(questions), at, lambda status, body: read_batch(status, body, questions)
        )

    async def _alone(self, name: str, text: str, at: float) -> dict[str, Answer]:
        try:
            return {name: await self.query(text, at=at)}
        except Refused as error:
            return {name: Answer(None, str(error))}

    async def _query(self, text: str, at: float, reader: Callable[[int, object], _T]) -> _T:
        async with self._slots:
            if not self._breaker.allow():
                self._recorder.query(self.server.name, "skipped", 0.0)
                raise Unavailable(self._words(f"is left alone for {self._breaker.wait():.0f} s after errors"))
            begun = self._clock()
            result = "error"
            try:
                async with asyncio.timeout(self._deadline):
                    answer = reader(*await self._ask(text, at))
                self._breaker.succeeded()
                result = "ok"
                return answer
            except Refused:
                self._breaker.succeeded()
                result = "refused"
                raise
            except Unavailable as error:
                self._breaker.failed()
                raise Unavailable(self._words(f"does not answer well: {error}")) from None
            except TimeoutError:
                self._breaker.failed()
                raise Unavailable(self._words(f"does not answer within {self._deadline:g} s")) from None
            except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
                self._breaker.failed()
                why = line(error) or type(error).__name__
                raise Unavailable(self._words(f"cannot be asked: {why}")) from error
            except asyncio.CancelledError:
                result = "cancelled"  # another query of the same look failed; this one says nothing
                raise
            finally:
                if result != "cancelled":
                    self._recorder.query(self.server.name, result, self._clock() - begun)

    async def _ask(self, text: str, at: float) -> tuple[int, object]:
        """(status, decoded JSON) of one exchange."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Accept": "application/json"}
        if self.server.token_file:
            headers["Authorization"] = f"Bearer {_token(self.server.token_file)}"
        form = {"query": text, "time": f"{at:.3f}", "timeout": f"{SERVER_TIMEOUT}s"}
        async with self._session.post(
            f"{self.server.url}/api/v1/query",
            data=form,
            headers=headers,
            ssl=self._ssl(),
            allow_redirects=False,
        ) as reply:
            if 300 <= reply.status < 400:
                raise Unavailable(f"HTTP {reply.status}: it redirects; give --prometheus the final address")
            body = bytearray()
            async for chunk in reply.content.iter_chunked(16 * 1024):
                body += chunk
                if len(body) > MAX_REPLY:
                    raise Unavailable("the reply is too long")
            return reply.status, _json(bytes(body))

    def _ssl(self) -> ssl.SSLContext | bool:
        """The trust in the server's certificate; a changed caFile is read again."""
        path = self.server.ca_file
        if not path:
            return True
        changed = os.stat(path).st_mtime
        if self._tls is None or self._tls[0] != changed:
            self._tls = (changed, ssl.create_default_context(cafile=path))
        return self._tls[1]

    def _words(self, text: str) -> str:
        return f"Prometheus {self.server.name} {text}"


class Servers:
    """All servers, by name. A runnable of the manager: it closes the connections at the end."""

    def __init__(self, servers: Iterable[Server], recorder: Recorder, *, deadline: float = DEADLINE) -> None:
        self._servers = {server.name: Prometheus(server, recorder, deadline=deadline) for server in servers}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._servers)

    def get(self, name: str) -> Prometheus:
        """Raises Unavailable for a name that no flag gave."""
        found = self._servers.get(name)
        if found is None:
            known = ", ".join(self._servers) or "none"
            raise Unavailable(f"the operator has no Prometheus {name} (--prometheus gives: {known})")
        return found

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(server.close() for server in self._servers.values()))


def _json(body: bytes) -> object:
    """None for anything but JSON: an error page is told by its status."""
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _token(path: str) -> str:
    with open(path, encoding="ascii") as file:
        token = file.read(16 * 1024).strip()
    if not token or not token.isprintable():
        raise ValueError("the token file holds no token")
    return token
