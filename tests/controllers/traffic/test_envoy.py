"""A real Envoy under real ADS, and tiny HTTP servers behind it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

from controllers.traffic import Match, Refused, Rule, Unreachable, UserShare, Value, Verified
from controllers.traffic.envoy.fleet import Router
from controllers.traffic.envoy.snapshot import Kind, Resource, Snapshot
from tests.controllers.traffic.proxy import (
    NAMESPACE,
    SERVICE,
    Backend,
    Proxy,
    backends,
    endpoint_slice,
    running,
    split,
    until,
)


async def both(proxy: Proxy, stable: Backend, candidate: Backend) -> None:
    proxy.slices(endpoint_slice("aaaa", [stable.port]), endpoint_slice("bbbb", [candidate.port]))


async def test_weights_within_three_sigma_and_every_answer_names_its_revision() -> None:
    async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
        await both(proxy, stable, candidate)
        alone = split(1, port=proxy.port)
        proxy.ask(alone)
        await proxy.verified(alone)
        assert await proxy.count(20) == {"aaaa": 20}
        for change, weight in ((2, 20), (3, 100), (4, 0)):
            wanted = split(change, weight, port=proxy.port, candidate="bbbb")
            proxy.ask(wanted)
            await proxy.verified(wanted)
            assert proxy.fleet.verify(wanted) == Verified(change=change, effective=weight, routers=1)
            found = await proxy.count(600)
            share = weight / 100
            assert abs(found["bbbb"] - 600 * share) <= 3 * math.sqrt(600 * share * (1 - share))
            assert found["aaaa"] + found["bbbb"] == 600
        async with proxy.client.get(f"http://127.0.0.1:{proxy.port}/x") as answer:
            assert answer.headers["x-model-revision"] == await answer.text() == "aaaa"
        assert SERVICE in proxy.told
        assert proxy.settled


async def test_rules_come_before_the_weight() -> None:
    rules = (
        Rule(match=Match(header=Value(name="x-team", value="vision")), to="Canary"),
        Rule(match=Match(cookie=Value(name="beta", value="yes+1")), to="Canary"),
        Rule(match=Match(user=UserShare(percent=30, salt="s\\1")), to="Canary"),
        Rule(match=Match(header=Value(name="x-team", value="billing")), to="Stable"),
    )
    async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
        await both(proxy, stable, candidate)
        wanted = split(1, 1, port=proxy.port, candidate="bbbb", rules=rules)
        proxy.ask(wanted)
        await proxy.verified(wanted)
        for headers, answer in (
            ({"x_model_exp": "canary"}, "bbbb"),
            ({"x_model_exp": "Stable"}, "aaaa"),
            ({"x_model_exp": "bbbb"}, "bbbb"),
            ({"x_model_exp": "v2.0.0"}, "bbbb"),
            ({"x_model_exp": "v1.0.0", "x_team": "vision"}, "aaaa"),
            ({"x_team": "vision"}, "bbbb"),
            ({"cookie": "a=b; beta=yes+1; c=d"}, "bbbb"),
            ({"cookie": 'beta="yes+1"'}, "bbbb"),
        ):
            assert await proxy.count(5, **headers) == {answer: 5}, headers
        for cookie in ("beta=yes+12", "xbeta=yes+1", "beta=yesss1"):
            assert (await proxy.count(20, cookie=cookie))["aaaa"] >= 15
        chosen: Counter[str] = Counter()
        for number in range(300):
            user = f"user-{number}"
            _, first = await proxy.get(x_user_id=user)
            chosen[first] += 1
            if number < 20:  # the same one every time
                assert await proxy.count(3, x_user_id=user) == {first: 3}
            if first == "aaaa" and number < 40:  # the rule after it holds for the others
                assert await proxy.count(2, x_user_id=user, x_team="billing") == {"aaaa": 2}
        share = 0.30 + 0.70 * 0.01
        assert abs(chosen["bbbb"] - 300 * share) <= 3.5 * math.sqrt(300 * share * (1 - share))


async def test_a_candidate_without_a_healthy_endpoint_loses_nothing() -> None:
    async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
        await both(proxy, stable, candidate)
        wanted = split(1, 100, port=proxy.port, candidate="bbbb")
        proxy.ask(wanted)
        await proxy.verified(wanted)
        assert await proxy.count(10) == {"bbbb": 10}
        await candidate.stop()  # dead, and nobody has told Envoy
        assert await proxy.count(100) == {"aaaa": 100}
        proxy.slices(endpoint_slice("bbbb", []))  # now it is told
        await until(
            lambda: "no ready endpoint" in getattr(proxy.fleet.verify(wanted), "reason", ""), "it is said"
        )
        assert await proxy.count(50) == {"aaaa": 50}


async def test_what_envoy_refuses_changes_nothing() -> None:
    async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
        await both(proxy, stable, candidate)
        wanted = split(1, 50, port=proxy.port, candidate="bbbb")
        proxy.ask(wanted)
        await proxy.verified(wanted)
        worse = split(2, 100, port=proxy.port, candidate="bbbb")
        proxy.world.ask(worse)
        proxy.fleet.aim(NAMESPACE, broken(proxy.world.snapshot(NAMESPACE)))
        await until(lambda: isinstance(proxy.fleet.verify(worse), Refused), "the refusal is heard")
        found = await proxy.count(200)
        assert found["aaaa"] > 50
        assert found["bbbb"] > 50
        better = split(3, 0, port=proxy.port, candidate="bbbb")
        proxy.ask(better)
        await proxy.verified(better)
        assert await proxy.count(20) == {"aaaa": 20}


def broken(snapshot: Snapshot) -> Snapshot:
    """With a route that Envoy refuses: an expression that does not compile."""
    resources = {kind: dict(found) for kind, found in snapshot.resources.items()}
    for name, one in resources[Kind.Route].items():
        regex = {"safe_regex": {"regex": "("}}
        hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": regex, "route": {"cluster": "x"}}]}]
        resources[Kind.Route][name] = Resource(
            kind=Kind.Route, name=name, version="bad", service=one.service,
            body={"name": name, "virtual_hosts": hosts},
        )  # fmt: skip
    return Snapshot(parts=snapshot.parts, resources=resources)


async def test_the_leader_dies_and_routers_go_on() -> None:
    async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
        await both(proxy, stable, candidate)
        wanted = split(1, 50, port=proxy.port, candidate="bbbb")
        proxy.ask(wanted)
        await proxy.verified(wanted)
        await proxy.end_server()
        found = await proxy.count(100)
        assert set(found) == {"aaaa", "bbbb"}
        verdict = proxy.fleet.verify(wanted)
        assert "not connected" in getattr(verdict, "reason", ""), verdict
        await proxy.serve()  # the next one
        later = split(2, 0, port=proxy.port, candidate="bbbb")
        proxy.ask(later)
        await proxy.verified(later)
        assert await proxy.count(20) == {"aaaa": 20}


async def test_a_hundred_changes_under_load_lose_no_request() -> None:
    async with running() as proxy, backends("aaaa", "bbbb", "cccc") as (stable, candidate, third):
        await both(proxy, stable, candidate)
        proxy.slices(endpoint_slice("cccc", [third.port]))
        wanted = split(1, 10, port=proxy.port, candidate="bbbb")
        proxy.ask(wanted)
        await proxy.verified(wanted)
        done = asyncio.Event()
        answers: Counter[str] = Counter()

        async def load() -> None:
            while not done.is_set():
                status, text = await proxy.get()
                answers[text if status == 200 else f"{status} {text}"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(load())
            for change in range(2, 102):
                stable_now, other = ("aaaa", "bbbb") if change % 20 < 10 else ("bbbb", "cccc")
                wanted = split(change, change % 101, port=proxy.port, candidate=other, stable=stable_now)
                proxy.ask(wanted)
                await proxy.verified(wanted)
            done.set()
        assert set(answers) <= {"aaaa", "bbbb", "cccc"}, answers
        assert sum(answers.values()) > 100


async def test_a_killed_backend_costs_no_request_and_errors_of_a_model_eject_nobody() -> None:
    async with running() as proxy, backends("aaaa", "aaaa") as (first, second):
        one, two = endpoint_slice("aaaa", [first.port]), endpoint_slice("aaaa", [second.port])
        two["metadata"] = {**dict(two["metadata"]), "name": "ocr-aaaa-2"}  # type: ignore[call-overload]
        proxy.slices(one, two)
        wanted = split(1, port=proxy.port)
        proxy.ask(wanted)
        await proxy.verified(wanted)
        first.status = 500
        found = await proxy.count(200)
        assert found["500"] > 50, "a model that answers 500 goes on being asked"
        first.status = 200
        await first.stop()
        assert await proxy.count(100) == {"aaaa": 100}


async def test_a_body_of_any_size_passes() -> None:
    async with running() as proxy, backends("aaaa") as (stable,):
        proxy.slices(endpoint_slice("aaaa", [stable.port]))
        wanted = split(1, port=proxy.port)
        proxy.ask(wanted)
        await proxy.verified(wanted)
        for size in (0, 1 << 20, 20 << 20):
            async with proxy.client.post(f"http://127.0.0.1:{proxy.port}/x", data=b"x" * size) as answer:
                assert answer.status == 200
            assert stable.received == size


async def test_who_is_no_router_gets_nothing() -> None:
    async with running(start=False) as proxy:
        proxy.ask(split(1, port=proxy.port))
        await proxy.start(token="stranger")
        await until(lambda: proxy.tokens.asked >= 2, "it asked twice")
        assert not await proxy.ready()
        assert proxy.fleet.verify(split(1, port=proxy.port)).__class__ is not Verified
        # A token of a pod that is no router of ours is not enough either.
        proxy.fleet.no_pod(NAMESPACE, "router-0")
        proxy.tokens.known["stranger"] = proxy.tokens.known["token-0"]
        asked = proxy.tokens.asked
        await until(lambda: proxy.tokens.asked >= asked + 2, "it asked again, and was turned away")
        assert not await proxy.ready()
        assert isinstance(proxy.fleet.verify(split(1, port=proxy.port)), Unreachable)
        proxy.fleet.pod(Router(namespace=NAMESPACE, name="router-0", uid="uid-0", ready=True))
        await until(proxy.ready, f"now it is one\n{proxy.log()}")


async def test_streams_end_in_time_and_come_again_with_a_fresh_token() -> None:
    async with running(start=False) as proxy, backends("aaaa") as (stable,):
        await proxy.end_server()
        await proxy.serve(lifetime=0.5)
        proxy.slices(endpoint_slice("aaaa", [stable.port]))
        wanted = split(1, port=proxy.port)
        proxy.ask(wanted)
        await proxy.start()
        await until(proxy.ready, f"Envoy ready\n{proxy.log()}")
        asked = proxy.tokens.asked
        await until(lambda: proxy.tokens.asked >= asked + 3, "the stream was opened again and again")
        assert await proxy.count(20) == {"aaaa": 20}
        proxy.tokens.known["fresh"] = proxy.tokens.known.pop("token-0")
        proxy.hand("fresh")
        later = split(2, 50, port=proxy.port, candidate="bbbb")
        proxy.slices(endpoint_slice("bbbb", [stable.port]))
        await until(lambda: proxy.tokens.accepted["fresh"] >= 2, f"the new token is used\n{proxy.log()}")
        proxy.ask(later)
        await proxy.verified(later)
