"""Canaries on a real API server, while their operator dies, their routers fail and their leaders linger."""

import pytest

import controller_runtime as ctrl
from controllers.kinds import PADDLE_SERVICE
from controllers.paddleservice.effects import Scale, act
from controllers.resources.meta import Owner
from controllers.traffic import Refused, Unreachable, Verified

from .canaries import Canaries
from .harness import condition

pytestmark = pytest.mark.apiserver


@pytest.mark.parametrize(("when", "verdict"), [("after", "Passed"), ("before", "Failed")])
async def test_the_operator_is_killed_at_every_write(canaries: Canaries, when: str, verdict: str) -> None:
    """It dies before, or right after, each write in turn; a fresh one goes on from what the server has."""
    first = await canaries.first()
    canaries.verdict = verdict
    await canaries.canary("v1.1.0", stableForSeconds=30)
    deaths = await canaries.killed_at_every_write(when)
    state = await canaries.rest()
    assert deaths > 8
    status = await canaries.status()
    second = status["updatedRevision"]
    ended = [(item["run"], item["attempt"], item["ending"]) for item in state["history"]]  # type: ignore
    names = [item.name for item in await canaries.analyses()]
    if verdict == "Passed":
        assert ended == [(1, 1, "Promoted")]
        assert status["stableRevision"] == second != first
        assert await canaries.deployments() == {first: 0, second: 2}
        assert names == [f"resnet50-{second}-1-0-1", f"resnet50-{second}-1-1-1"], "no step was skipped"
    else:
        assert ended == [(1, 1, "AnalysisFailed")]
        assert await canaries.deployments() == {first: 2, second: 0}
        assert names == [f"resnet50-{second}-1-0-1"]
    changes = [split.change for split in canaries.routers.history]
    assert changes == sorted(set(changes))
    assert canaries.mixed == []


async def test_a_provider_that_is_down_holds_the_run_and_a_refusal_rolls_it_back(canaries: Canaries) -> None:
    first = await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    await canaries.until("Analysing")
    canaries.routers.mode = Unreachable
    canaries.verdict = "Passed"
    await canaries.until("Promoting")
    for _ in range(20):
        await canaries.turn()
    status = await canaries.status()
    assert status["canary"]["pause"] == "TrafficProvider"  # type: ignore[index]
    assert condition(status, "TrafficVerified")["reason"] == "TrafficUnreachable"
    assert (await canaries.deployments())[first] == 2, "nothing is scaled down"
    assert "CanaryPaused" in canaries.told.reasons()
    canaries.routers.mode = Verified
    state = await canaries.rest()
    assert state["history"][-1]["ending"] == "Promoted"  # type: ignore[index]
    canaries.routers.mode = Refused
    await canaries.canary("v1.2.0")
    for _ in range(6):
        await canaries.turn()
    assert len(await canaries.deployments()) == 2, "no candidate before the routers have the route"
    canaries.routers.mode = Verified
    await canaries.until("Shifting")
    canaries.routers.mode = Refused
    await canaries.until("RollingBack")
    canaries.routers.mode = Verified
    state = await canaries.rest()
    assert state["history"][-1]["ending"] == "TrafficRefused"  # type: ignore[index]
    assert canaries.mixed == []


async def test_a_late_scale_of_a_frozen_leader_is_refused(canaries: Canaries) -> None:
    """It had decided to end the drained revision; meanwhile that is on trial again and has traffic."""
    first = await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = "Failed"
    await canaries.until("Draining")
    state = await canaries.canary_status()
    second = str(state["retiring"])
    frozen = ctrl.Key(canaries.namespace, f"resnet50-{second}")
    seen = await canaries.live.get_live(ctrl.DEPLOYMENT, frozen)
    assert seen is not None
    late = Scale(frozen, 0, seen.resource_version)
    canaries.verdict = "Passed"
    await canaries.rest()
    await canaries.command("retry")
    await canaries.until("Soaking")
    with pytest.raises(ctrl.Conflict):
        await act(canaries.live, Owner(canaries.namespace, "resnet50", ""), [late])
    assert (await canaries.deployments())[second] == 2
    assert first in await canaries.deployments()


async def test_a_state_that_cannot_be_read_stops_everything(canaries: Canaries) -> None:
    first = await canaries.first()
    broken = {"status": {"canary": {"phase": "Idle", "stable": first, "since": "not a time"}}}
    with pytest.raises(ctrl.Invalid):  # the schema lets no such thing in
        await canaries.live.patch(PADDLE_SERVICE, canaries.key, broken, subresource="status")
    broken = {"status": {"canary": {"ending": "Exploded"}}}
    await canaries.live.patch(PADDLE_SERVICE, canaries.key, broken, subresource="status")
    await canaries.canary("v1.1.0")
    for _ in range(3):
        await canaries.turn()
    status = await canaries.status()
    assert condition(status, "Ready")["reason"] == "CanaryUnreadable"
    assert await canaries.deployments() == {first: 2}
    await canaries.live.patch(
        PADDLE_SERVICE, canaries.key, {"status": {"canary": None}}, subresource="status"
    )
    await canaries.rest()
    assert (await canaries.status())["stableRevision"] != first


async def test_other_rules_are_another_change_of_the_same_weights(canaries: Canaries) -> None:
    await canaries.first()
    rule = {"match": {"header": {"name": "x-beta", "value": "1"}}, "to": "Canary"}
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    await canaries.until("Analysing")
    before = canaries.routers.split
    await canaries.canary("v1.1.0", rules=[rule])
    for _ in range(3):
        await canaries.turn()
    after = canaries.routers.split
    assert before is not None
    assert after is not None
    assert (after.weight, after.change) == (before.weight, before.change + 1)
    assert len(after.rules) == 1
    assert (await canaries.canary_status())["phase"] == "Analysing"
