"""The client against a server that is slow, wrong, empty or gone."""

from __future__ import annotations

import ast
import asyncio
import functools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from controller_runtime.testing._certificates import CertificateAuthority
from controllers.analysis.answer import Answer, Refused, Unavailable
from controllers.analysis.client import Prometheus, Servers
from controllers.analysis.server import Server

from .prometheus import Reply, Scripted, serving


class Told:
    def __init__(self) -> None:
        self.results: list[str] = []

    def query(self, server: str, result: str, seconds: float) -> None:
        assert server == "default"
        assert seconds >= 0
        self.results.append(result)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _always(reply: Reply, query: str, at: float) -> Reply:
    return reply


@asynccontextmanager
async def client(
    scripted: Scripted, told: Told | None = None, *, clock: Clock | None = None, deadline: float = 60.0
) -> AsyncIterator[Prometheus]:
    async with serving(scripted):
        prometheus = Prometheus(
            Server(name="default", url=scripted.url),
            told or Told(),
            deadline=deadline,
            clock=clock or Clock(),
        )
        try:
            yield prometheus
        finally:
            await prometheus.close()


async def test_a_query_is_a_form_with_time_and_timeout() -> None:
    scripted, told = Scripted(), Told()
    async with client(scripted, told) as prometheus:
        assert await prometheus.query("up", at=12.5) == Answer(1.0)
    assert scripted.forms == [{"query": "up", "time": "12.500", "timeout": "8s"}]
    assert "Authorization" not in scripted.headers[0]
    assert told.results == ["ok"]


async def test_each_way_to_fail_has_one_line_and_a_result() -> None:
    cases: list[tuple[Reply, type[Exception], str]] = [
        (
            (500, {"error": "out of\nmemory"}),
            Unavailable,
            "Prometheus default does not answer well: HTTP 500",
        ),
        ((200, "<html>"), Unavailable, "HTTP 200"),
        ((302, "http://127.0.0.1:1/"), Unavailable, "it redirects"),
        ((200, {"status": "success", "data": "x" * (2 << 20)}), Unavailable, "too long"),
        ((400, {"error": "bad"}), Refused, "the query was refused: bad"),
    ]
    told = Told()
    for reply, kind, words in cases:
        async with client(Scripted(reply=functools.partial(_always, reply)), told) as prometheus:
            with pytest.raises(kind, match=words) as caught:
                await prometheus.query("up", at=1)
            assert "\n" not in str(caught.value)
    assert told.results == ["error"] * 4 + ["refused"]


async def test_a_server_that_is_gone() -> None:
    scripted = Scripted()
    async with client(scripted) as prometheus:
        pass
    with pytest.raises(Unavailable, match="cannot be asked"):
        await prometheus.query("up", at=1)
    await prometheus.close()


async def test_a_server_that_hangs_costs_the_deadline() -> None:
    scripted = Scripted(hang=asyncio.Event())
    async with client(scripted, deadline=0.05) as prometheus:
        with pytest.raises(Unavailable, match=r"does not answer within 0.05 s"):
            await prometheus.query("up", at=1)


async def test_the_breaker_spares_a_broken_server_and_tries_again() -> None:
    scripted, told, clock = Scripted(reply=lambda query, at: (500, {})), Told(), Clock()
    async with client(scripted, told, clock=clock) as prometheus:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await prometheus.query("up", at=1)
        with pytest.raises(Unavailable, match="left alone for 15 s"):
            await prometheus.query("up", at=1)
        assert len(scripted.asked) == 5
        scripted.reply = lambda query, at: 2.0
        clock.now = 15.0
        assert await prometheus.query("up", at=1) == Answer(2.0)
        assert await prometheus.query("up", at=1) == Answer(2.0)
    assert told.results == ["error"] * 5 + ["skipped", "ok", "ok"]


async def test_refused_queries_do_not_open_the_breaker() -> None:
    async with client(Scripted(reply=lambda query, at: (400, {"error": "bad"}))) as prometheus:
        for _ in range(7):
            with pytest.raises(Refused):
                await prometheus.query("(", at=1)


async def test_at_most_eight_queries_at_once() -> None:
    scripted = Scripted(hang=asyncio.Event())
    async with client(scripted) as prometheus:
        task = asyncio.gather(*(prometheus.query("up", at=5) for _ in range(20)))
        await scripted.arrive(8)
        assert scripted.hang is not None
        scripted.hang.set()
        assert await task == [Answer(1.0)] * 20
    assert scripted.most == 8


async def test_a_look_is_one_exchange_a_batch_and_one_for_each_query_of_a_user() -> None:
    scripted = Scripted(reply=lambda query, at: None if query == "q3" else float(query[1:]))
    async with client(scripted) as prometheus:
        ours = {f"n{i}": f"q{i}" for i in range(70)}
        answers = await prometheus.query_all(ours, at=5, own={"mine": "x7"})
    assert len(scripted.forms) == 3
    assert {at for _, at in scripted.asked} == {5.0}
    assert answers == {
        **{f"n{i}": Answer(float(i)) for i in range(70)},
        "n3": Answer(None, "no series"),
        "mine": Answer(7.0),
    }


async def test_one_error_ends_a_look_and_a_refused_query_of_a_user_does_not() -> None:
    def reply(query: str, at: float) -> Reply:
        return {"bad": (500, {}), "wrong": (422, {"error": "many-to-many"})}.get(query, 1.0)

    async with client(Scripted(reply=reply)) as prometheus:
        answers = await prometheus.query_all({"a": "up"}, at=1, own={"b": "wrong"})
        assert answers["a"] == Answer(1.0)
        assert answers["b"] == Answer(None, "the query was refused: many-to-many")
        cases: list[tuple[dict[str, str], dict[str, str], str]] = [
            ({"a": "bad"}, {}, "HTTP 500"),
            ({}, {"b": "bad"}, "HTTP 500"),
            ({"a": "wrong"}, {}, "many-to-many"),  # ours are never wrong: the server is
        ]
        for ours, own, words in cases:
            with pytest.raises(Unavailable, match=words):
                await prometheus.query_all(ours, at=1, own=own)


@pytest.mark.parametrize("package", ["artifacts", "cli", "controller_runtime", "controllers", "runtime"])
def test_nothing_is_raised_within_an_except_star(package: str) -> None:
    """Until Python 3.11.4 it came out in an ExceptionGroup, past whoever waits for it: Debian 12, and so our
    image, has 3.11.2.
    """
    for path in sorted((Path(__file__).parents[3] / package).rglob("*.py")):
        tries = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.TryStar)]
        inside = [node for one in tries for handler in one.handlers for node in ast.walk(handler)]
        assert not [node.lineno for node in inside if isinstance(node, ast.Raise) and node.exc], path


async def test_whoever_asks_may_be_cancelled() -> None:
    scripted, told = Scripted(hang=asyncio.Event()), Told()
    async with client(scripted, told) as prometheus:
        task = asyncio.ensure_future(prometheus.query_all({"a": "up"}, at=1))
        await scripted.arrive()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told.results == []


async def test_an_end_waits_for_looks_that_are_under_way() -> None:
    scripted = Scripted(hang=asyncio.Event())
    async with client(scripted) as prometheus:
        look = asyncio.ensure_future(prometheus.query_all({str(n): "up" for n in range(12)}, at=1))
        await scripted.arrive()
        end = asyncio.ensure_future(prometheus.close())
        await asyncio.sleep(0)
        assert not end.done()
        assert scripted.hang is not None
        scripted.hang.set()
        assert len(await look) == 12
        await end
        assert prometheus._session is None


async def test_the_token_is_read_each_time_and_a_missing_one_is_told(tmp_path: Path) -> None:
    scripted, path = Scripted(), tmp_path / "token"
    async with serving(scripted):
        # A flag would refuse a token over http; the client only sends it.
        server = Server(name="default", url=scripted.url, token_file=str(path))
        prometheus = Prometheus(server, Told())
        try:
            with pytest.raises(Unavailable, match="No such file"):
                await prometheus.query("up", at=1)
            for token in ("one", "two"):
                path.write_text(f"{token}\n")
                await prometheus.query("up", at=1)
            path.write_text("")
            with pytest.raises(Unavailable, match="holds no token"):
                await prometheus.query("up", at=1)
        finally:
            await prometheus.close()
    assert [headers["Authorization"] for headers in scripted.headers] == ["Bearer one", "Bearer two"]


async def test_a_certificate_is_checked_against_the_ca_file(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.server("prometheus", ["127.0.0.1"]))
    async with serving(Scripted(), tls) as scripted:
        for ca_file, works in ((str(authority.file), True), ("", False)):
            prometheus = Prometheus(Server(name="default", url=scripted.url, ca_file=ca_file), Told())
            try:
                if works:
                    assert await prometheus.query("up", at=1) == Answer(1.0)
                    assert await prometheus.query("up", at=2) == Answer(1.0)
                else:
                    with pytest.raises(Unavailable, match="certificate verify failed"):
                        await prometheus.query("up", at=1)
            finally:
                await prometheus.close()


async def test_servers_by_name_and_their_end() -> None:
    scripted = Scripted()
    async with serving(scripted):
        servers = Servers([Server(name="default", url=scripted.url)], Told())
        assert servers.names == ("default",)
        with pytest.raises(Unavailable, match=r"has no Prometheus us \(--prometheus gives: default\)"):
            servers.get("us")
        run = asyncio.ensure_future(servers.run())
        await servers.get("default").answers(at=1)
        assert scripted.asked == [("vector(1)", 1.0)]
        session = servers.get("default")._session
        assert isinstance(session, aiohttp.ClientSession)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert session.closed
