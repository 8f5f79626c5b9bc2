import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from controller_runtime import (
    AlreadyExists,
    Conflict,
    Key,
    Kind,
    NotLeader,
    Object,
    ServerError,
    TransportError,
)
from controller_runtime._leaderelection import Elector, LeaderElection, LeaderLost, default_identity
from controller_runtime.testing.clock import FakeClock, settle


class FakeLeases:
    """One Lease with optimistic locking; calls can be made to fail, hang, or lose their answer."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.calls: list[str] = []
        self.failing: Exception | None = None
        self.hanging = False
        self.lose_next_answer = False

    async def _gate(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.hanging:
            await asyncio.Event().wait()
        if self.failing is not None:
            raise self.failing

    async def _store(self, raw: dict[str, Any]) -> Object:
        self.version += 1
        stored = copy.deepcopy(raw)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.lease = stored
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise TransportError("connection reset after the write")
        return Object(copy.deepcopy(stored))

    async def get_live(self, kind: Kind, key: Key) -> Object | None:
        await self._gate("get")
        return None if self.lease is None else Object(copy.deepcopy(self.lease))

    async def create(self, raw: Object | dict[str, Any]) -> Object:
        await self._gate("create")
        assert isinstance(raw, dict)
        if self.lease is not None:
            raise AlreadyExists(409, "AlreadyExists")
        return await self._store(raw)

    async def update(self, raw: Object | dict[str, Any]) -> Object:
        await self._gate("update")
        assert isinstance(raw, dict)
        if self.lease is None or raw["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(409, "Conflict")
        return await self._store(raw)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


class Campaign:
    """An elector, its tasks, and what happened to it."""

    def __init__(
        self,
        api: FakeLeases,
        clock: FakeClock,
        identity: str,
        *,
        uniform: Callable[[float, float], float] = min,
        **options: Any,
    ) -> None:
        self.changes: list[bool] = []
        self.slow = 0
        self.elector = Elector(
            api,
            LeaderElection(name="lock", namespace="ns", identity=identity, **options),
            clock=clock,
            uniform=uniform,
            on_change=self.changes.append,
            on_slow_path=self.count_slow,
        )
        self.task = asyncio.create_task(self.run())
        self.lost: LeaderLost | None = None

    def count_slow(self) -> None:
        self.slow += 1

    async def run(self) -> None:
        await self.elector.acquire()
        try:
            await self.elector.renew()
        except LeaderLost as lost:
            self.lost = lost

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_the_first_takes_the_lease_and_keeps_it() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    assert one.elector.leads()
    assert api.spec == {
        "holderIdentity": "one",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }
    await clock.advance(60.0)
    assert one.elector.leads()
    assert api.spec["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert api.spec["renewTime"] == "2026-01-01T00:01:00.000000Z"
    assert api.calls == ["get", "create", *["update"] * 30]  # the fast path: one PUT a renewal
    assert one.elector.since_renewal() == 0.0
    assert one.elector.lease is not None
    assert one.elector.lease.name == "lock"
    assert one.changes == [True]
    await one.stop()


async def test_a_follower_takes_over_after_the_lease_ran_out_and_not_before() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    two = Campaign(api, clock, "two")
    await clock.advance(30.0)
    assert two.elector.holder == "one"
    assert two.elector.since_renewal() is None
    with pytest.raises(NotLeader, match="two"):
        two.elector.check()
    await one.stop()  # killed: nothing is released
    await clock.advance(14.0)
    assert not two.elector.leads()
    await clock.advance(4.0)
    assert two.elector.leads()
    two.elector.check()
    assert api.spec["holderIdentity"] == "two"
    assert api.spec["leaseTransitions"] == 1
    await two.stop()


async def test_validity_is_local_observed_time_and_never_the_remote_clock() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    await one.stop()
    api.spec["renewTime"] = "1999-01-01T00:00:00.000000Z"  # a holder whose clock is far behind ours
    two = Campaign(api, clock, "two")
    await clock.advance(14.0)
    assert not two.elector.leads()
    clock.set_wall(4e9)
    await clock.advance(0.5)
    assert not two.elector.leads()
    await clock.advance(4.0)
    assert two.elector.leads()
    await two.stop()


async def test_a_wall_clock_step_does_not_cost_the_lease() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(5.0)
    clock.set_wall(0.0)
    await clock.advance(60.0)
    assert one.elector.leads()
    await one.stop()


async def test_fence_falls_exactly_at_the_renew_deadline_and_the_leader_is_told_at_once() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(2.0)
    api.failing = ServerError(500, "InternalError", "down")
    await clock.advance(9.9)
    assert one.elector.leads()
    assert one.lost is None
    await clock.advance(0.1)
    assert not one.elector.leads()
    assert one.lost is not None
    assert one.changes == [True, False]
    assert one.elector.since_renewal() is None
    assert one.slow > 0
    calls = len(api.calls)
    await one.elector.release()
    assert len(api.calls) == calls  # a lost lease is not ours to release


async def test_hanging_calls_lose_the_lease_no_later() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(2.0)
    api.hanging = True
    await clock.advance(9.9)
    assert one.lost is None
    await clock.advance(0.1)
    assert one.lost is not None
    assert not one.elector.leads()


async def test_one_hanging_call_does_not_lose_the_lease() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(2.0)
    api.hanging = True
    await clock.advance(5.0)  # the renewal that began after 2 s hangs for max(1, 10 / 2) s at most
    api.hanging = False
    await clock.advance(30.0)
    assert one.elector.leads()
    await one.stop()


async def test_the_fence_holds_when_the_event_loop_was_blocked() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(1.0)
    clock.jump(9.0)  # no task has run: the loop stood still
    assert not one.elector.leads()
    with pytest.raises(NotLeader):
        one.elector.check()
    await clock.advance(0.0)
    assert one.lost is not None


async def test_a_lost_answer_is_no_lost_lease() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    api.lose_next_answer = True
    await clock.advance(2.0)
    assert one.elector.leads()
    assert api.calls[-3:] == ["update", "get", "update"]
    assert api.spec["leaseTransitions"] == 0
    await one.stop()


async def test_another_holder_ends_the_leadership_at_once() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    api.spec["holderIdentity"] = "thief"
    api.version += 1
    assert api.lease is not None
    api.lease["metadata"]["resourceVersion"] = str(api.version)
    await clock.advance(2.0)
    assert one.lost is not None
    assert "thief" in str(one.lost)


async def test_a_released_lease_is_taken_within_three_seconds_at_the_latest() -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    two = Campaign(api, clock, "two", uniform=max)
    await clock.advance(5.0)
    await one.stop()
    await one.elector.release()
    assert api.spec["holderIdentity"] == ""
    assert api.spec["leaseDurationSeconds"] == 1
    assert not one.elector.leads()
    await clock.advance(2.5)
    assert two.elector.leads()
    assert api.spec["leaseTransitions"] == 1
    await two.stop()


async def test_release_survives_a_renewal_that_landed_while_it_was_cancelled() -> None:
    """kubernetes#137988, client-go#1417: the version we know is then one too old."""
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one")
    await clock.advance(0.0)
    await one.stop()
    assert api.lease is not None
    await api._store(api.lease)  # the cancelled PUT got through
    await one.elector.release()
    assert api.spec["holderIdentity"] == ""


async def test_release_gives_up_a_claim_whose_answer_never_came() -> None:
    api, clock = FakeLeases(), FakeClock()
    before = Campaign(api, clock, "before")
    await clock.advance(0.0)
    one = Campaign(api, clock, "one")
    await settle()
    await before.stop()
    await before.elector.release()
    api.lose_next_answer = True
    await clock.advance(1.0)
    assert not one.elector.leads()
    assert api.spec["holderIdentity"] == "one"
    await one.stop()
    await one.elector.release()
    assert api.spec["holderIdentity"] == ""


@pytest.mark.parametrize(
    "event", ["stolen", "deleted", "never held", "unwanted", "failing", "hanging", "busy"]
)
async def test_release_never_raises_and_never_takes_from_another(event: str) -> None:
    api, clock = FakeLeases(), FakeClock()
    one = Campaign(api, clock, "one", release=event != "unwanted")
    if event != "never held":
        await clock.advance(0.0)
    await one.stop()
    if event == "stolen":
        await api._store({**api.lease, "spec": {**api.spec, "holderIdentity": "thief"}})  # type: ignore[dict-item]
    elif event == "deleted":
        api.lease = None
    elif event == "failing":
        api.failing = TransportError("down")
    elif event == "hanging":
        api.hanging = True
    elif event == "busy":
        api.failing = Conflict(409, "Conflict")
    releasing = asyncio.create_task(one.elector.release())
    await clock.advance(10.0)
    await releasing
    if event == "never held":
        assert api.calls == []
    elif api.lease is not None:
        assert api.spec["holderIdentity"] == ("thief" if event == "stolen" else "one")
    assert not one.elector.leads()


async def test_acquire_survives_every_failure() -> None:
    api, clock = FakeLeases(), FakeClock()
    api.failing = ValueError("a body that is no Lease")
    one = Campaign(api, clock, "one")
    await clock.advance(10.0)
    api.failing = TransportError("refused")
    await clock.advance(10.0)
    api.failing = Conflict(409, "Conflict")
    await clock.advance(10.0)
    assert not one.elector.leads()
    api.failing = None
    await clock.advance(2.0)
    assert one.elector.leads()
    await one.stop()


async def test_followers_look_with_jitter() -> None:
    api, clock = FakeLeases(), FakeClock()
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    api.failing = TransportError("down")
    elector = Elector(api, LeaderElection(name="a", namespace="b"), clock=clock, uniform=uniform)
    task = asyncio.create_task(elector.acquire())
    await clock.advance(5.0)
    task.cancel()
    await asyncio.wait([task])
    assert asked[0] == pytest.approx((1.0, 2.2))


def test_options_are_checked_when_they_are_made() -> None:
    assert LeaderElection(name="x").identity != LeaderElection(name="x").identity
    assert "_" in default_identity()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "name"),
        ({"identity": ""}, "identity"),
        ({"lease_duration": 10.0}, "lease > renew"),
        ({"retry_period": 9.0}, "lease > renew"),
        ({"retry_period": 0.0}, "lease > renew"),
        ({"lease_duration": 0.9, "renew_deadline": 0.5, "retry_period": 0.1}, "whole seconds"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            LeaderElection(**{"name": "x", **options})
