"""Electors, a server and a network that misbehaves: never two who may write."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller_runtime import Object, TransportError
from controller_runtime.testing.clock import FakeClock

from .test_leaderelection import Campaign, FakeLeases

NAMES = ("one", "two", "three")


class Server(FakeLeases):
    """The shared lease; `on_store` looks at the world at the very moment of each write."""

    on_store: Callable[[str], None]

    async def _store(self, raw: dict[str, Any]) -> Object:
        self.on_store(raw["spec"]["holderIdentity"])
        return await super()._store(raw)


class Link(FakeLeases):
    """One elector's way to the shared lease."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    async def _store(self, raw: dict[str, Any]) -> Object:
        stored = await self.server._store(raw)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise TransportError("connection reset after the write")
        return stored

    def __getattribute__(self, name: str) -> object:
        if name in ("lease", "version"):
            return getattr(object.__getattribute__(self, "server"), name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("lease", "version") and "server" in self.__dict__:
            setattr(self.server, name, value)
        elif name not in ("lease", "version"):
            object.__setattr__(self, name, value)


class ElectionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.server = Server()
        self.violations: list[str] = []
        self.server.on_store = self.nobody_else_leads
        self.links = {name: Link(self.server) for name in NAMES}
        self.campaigns: dict[str, Campaign] = {}
        self.born = 0
        for name in NAMES:
            self.start(name)

    def run(self, work: Coroutine[object, object, None]) -> None:
        self.loop.run_until_complete(work)

    def start(self, name: str) -> None:
        async def begin() -> None:
            self.born += 1
            self.campaigns[name] = Campaign(self.links[name], self.clock, f"{name}-{self.born}")

        self.run(begin())

    def teardown(self) -> None:
        for campaign in self.campaigns.values():
            self.run(campaign.stop())
        self.loop.close()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 7.0, 16.0]))
    def pass_time(self, seconds: float) -> None:
        async def pass_watching() -> None:
            left = seconds
            while left > 0:
                await self.clock.advance(min(0.5, left))
                left -= 0.5
                self.at_most_one_leads()

        self.run(pass_watching())

    @rule(seconds=st.sampled_from([1.0, 9.0, 20.0]))
    def block_everyone(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from(["ok", "fail", "hang", "lose answer"]))
    def change_network(self, name: str, kind: str) -> None:
        link = self.links[name]
        link.failing = TransportError("down") if kind == "fail" else None
        link.hanging = kind == "hang"
        link.lose_next_answer = kind == "lose answer"

    @rule(name=st.sampled_from(NAMES))
    def kill_and_restart(self, name: str) -> None:
        self.run(self.campaigns[name].stop())
        self.start(name)

    @rule(name=st.sampled_from(NAMES))
    def stop_cleanly_and_restart(self, name: str) -> None:
        async def stop() -> None:
            campaign = self.campaigns[name]
            await campaign.stop()
            releasing = asyncio.ensure_future(campaign.elector.release())
            await self.clock.advance(6.0)
            await releasing

        self.run(stop())
        self.start(name)

    @precondition(lambda self: any(campaign.lost for campaign in self.campaigns.values()))
    @rule()
    def restart_the_losers(self) -> None:
        for name, campaign in list(self.campaigns.items()):
            if campaign.lost is not None:
                self.start(name)

    def nobody_else_leads(self, holder: str) -> None:
        for campaign in self.campaigns.values():
            identity = campaign.elector.options.identity
            if identity != holder and campaign.elector.leads():
                # Raising here would only be one more failing call to the elector.
                self.violations.append(f"{holder!r} took the lease while {identity} leads")

    @invariant()
    def at_most_one_leads(self) -> None:
        assert self.violations == []
        leaders = [name for name, campaign in self.campaigns.items() if campaign.elector.leads()]
        assert len(leaders) <= 1, leaders


TestElectionMachine = ElectionMachine.TestCase
TestElectionMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
