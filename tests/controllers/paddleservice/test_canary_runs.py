"""Whole runs on a real API server: promoted, rolled back, superseded, reverted, commanded."""

import json

import pytest

import controller_runtime as ctrl
from controllers.paddleservice.questions import Answer

from .canaries import ROUTERS, Canaries
from .harness import condition

pytestmark = pytest.mark.apiserver


async def test_the_first_revision_has_no_steps_and_no_routers(canaries: Canaries) -> None:
    first = await canaries.first()
    status = await canaries.status()
    assert status["phase"] == "Ready"
    assert status["display"] == {"ready": "2/2"}
    assert "traffic" not in status
    assert status["canary"] == {"phase": "Idle", "stable": first, "since": status["canary"]["since"]}  # type: ignore
    assert canaries.routers.history == []
    assert await canaries.analyses() == []


async def test_a_good_version_is_promoted_and_the_clients_come_back(canaries: Canaries) -> None:
    first = await canaries.first()
    await canaries.canary("v1.1.0")
    seen: list[tuple[str, str]] = []
    columns: list[str] = []
    for _ in range(60):
        await canaries.turn()
        status = await canaries.status()
        assert status["phase"] == "Ready", "the phase is the stable revision's"
        state = status["canary"]
        place = (str(state["phase"]), state.get("path", {}).get("way", "Direct"))  # type: ignore
        seen += [place] if not seen or seen[-1] != place else []
        columns += [str(status["display"].get("canary", ""))]  # type: ignore
        if place == ("Idle", "Direct"):
            break
    assert seen == [
        *(("Preparing", way) for way in ("Opening", "Entering", "Routed")),
        *(
            (phase, "Routed")
            for phase in ("Shifting", "Analysing", "Promoting", "Soaking", "Draining", "Idle")
        ),
        *(("Idle", way) for way in ("Leaving", "Closing", "Direct")),
    ], seen
    assert list(dict.fromkeys(columns)) == ["0% 1/2", "50% 1/2", "50% 2/2", "100% 2/2", "100%", ""]
    status = await canaries.status()
    second = status["stableRevision"]
    assert second != first
    assert status["models"][0]["version"] == "v1.1.0"  # type: ignore[index]
    assert await canaries.deployments() == {first: 0, second: 2}
    assert [
        (s.stable.hash, s.candidate and s.candidate.hash, s.weight) for s in canaries.routers.history
    ] == [
        (first, None, 0),
        (first, second, 50),
        (first, second, 100),
        (second, None, 0),
    ]
    assert canaries.routers.removals == 1
    assert "traffic" not in status
    assert canaries.mixed == []
    names = [item.name for item in await canaries.analyses()]
    assert names == [f"resnet50-{second}-1-0-1", f"resnet50-{second}-1-1-1"]
    history = status["canary"]["history"]  # type: ignore[index]
    assert [(item["run"], item["candidate"], item["ending"]) for item in history] == [(1, second, "Promoted")]
    assert len(json.dumps(status)) < 16 * 1024
    made = [message for _, reason, message in canaries.told.events if reason == "RevisionCreated"]
    assert made[-1] == f"created revision {second} (resnet50 v1.1.0)"
    reasons = [reason for reason in canaries.told.reasons() if reason.startswith("Canary")]
    assert reasons == [
        *("CanaryStarted", "CanaryShifting", "CanaryAnalysing", "CanaryPromoting", "CanarySoaking"),
        *("CanaryPromoted", "CanaryEnded"),
    ]
    canaries.client.writes.clear()
    canaries.start()
    await canaries.turn()
    assert canaries.client.writes == []


async def test_a_bad_version_goes_back_and_stays_away_until_retry(canaries: Canaries) -> None:
    first = await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = "Failed"
    await canaries.until("RollingBack")
    status = await canaries.status()
    assert condition(status, "Degraded")["reason"] == "CanaryRolledBack"
    assert status["phase"] == "Ready"
    state = await canaries.rest()
    second = state["rejected"][0]  # type: ignore[index]
    assert await canaries.deployments() == {first: 2, second: 0}
    status = await canaries.status()
    assert status["stableRevision"] == first
    assert status["updatedRevision"] == second
    assert status["models"][0]["version"] == "v1.0.0"  # type: ignore[index]
    assert "AnalysisFailed: numbers" in str(condition(status, "Degraded")["message"])
    assert condition(status, "Progressing")["reason"] == "CanaryRolledBack"
    canaries.client.writes.clear()
    for _ in range(3):
        await canaries.turn(1000)
    assert canaries.client.writes == [], "nothing happens by itself"
    canaries.verdict = "Passed"
    await canaries.command("retry")
    await canaries.until("Analysing")
    assert (await canaries.canary_status())["attempt"] == 2
    await canaries.rest()
    status = await canaries.status()
    assert status["stableRevision"] == second
    assert condition(status, "Degraded")["status"] == "False"
    assert canaries.mixed == []


async def test_a_third_version_waits_until_the_second_is_off_the_route(canaries: Canaries) -> None:
    await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    state = await canaries.until("Analysing")
    second = state["candidate"]
    await canaries.canary("v1.2.0")
    await canaries.turn()
    third = (await canaries.status())["updatedRevision"]
    while third not in await canaries.deployments():
        await canaries.turn()
    split = canaries.routers.split
    assert split is not None
    assert split.candidate is None
    canaries.verdict = "Passed"
    state = await canaries.rest()
    endings = [(item["candidate"], item["ending"]) for item in state["history"]]  # type: ignore
    assert endings == [(second, "Superseded"), (third, "Promoted")]
    assert (await canaries.status())["stableRevision"] == third
    assert canaries.mixed == []


async def test_back_to_the_stable_spec_is_no_rejection(canaries: Canaries) -> None:
    first = await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    await canaries.until("Analysing")
    await canaries.canary("v1.0.0")
    state = await canaries.rest()
    assert state["history"][-1]["ending"] == "Reverted"  # type: ignore[index]
    assert "rejected" not in state
    assert (await canaries.status())["stableRevision"] == first


async def test_commands_are_done_once_and_answered(canaries: Canaries) -> None:
    await canaries.first()
    await canaries.command("abort", run=0, token="early")
    await canaries.turn()
    assert (await canaries.canary_status())["answer"] == "nothing to do in phase Idle, run 0"
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    await canaries.until("Analysing")
    await canaries.command("pause", token="one")
    await canaries.turn()
    status = await canaries.status()
    assert status["canary"]["pause"] == "User"  # type: ignore[index]
    assert status["display"] == {"ready": "2/2", "canary": "50% 1/2 paused"}
    await canaries.command("resume", token="two")
    await canaries.turn()
    await canaries.command("promote-full", token="three")
    await canaries.until("Soaking")
    await canaries.command("abort", token="four")
    await canaries.turn()
    state = await canaries.canary_status()
    assert (state["token"], state["answer"]) == ("four", "abort: done")
    state = await canaries.rest()
    assert state["history"][-1]["ending"] == "Aborted"  # type: ignore[index]
    told = [message for _, reason, message in canaries.told.events if reason == "CanaryCommand"]
    assert told[-1] == "abort: done (run 1)"


async def test_pods_and_hooks_are_asked_before_the_run_goes_on(canaries: Canaries) -> None:
    await canaries.first()
    hooks = [{"name": "approve", "url": "http://hooks.default/approve"}]
    await canaries.canary("v1.1.0", readinessPath="/v2/health/ready", hooks=hooks)
    await canaries.until("Preparing")
    canaries.said.answer = Answer(False, "answers 503")
    for _ in range(6):
        await canaries.turn()
    status = await canaries.status()
    assert status["canary"]["phase"] == "Preparing"  # type: ignore[index]
    assert "the readiness path of every pod" in str(condition(status, "Progressing")["message"])
    canaries.said.answer = Answer(True)
    await canaries.until("Analysing")
    canaries.said.answer = Answer(False, "answers 403")
    for _ in range(3):
        await canaries.turn()
    status = await canaries.status()
    assert status["canary"]["phase"] == "Analysing"  # type: ignore[index]
    assert "the approve hook, which answers 403" in str(condition(status, "Progressing")["message"])
    canaries.said.answer = Answer(True)
    await canaries.rest()
    assert {"hook/1-0-1/approve", "hook/1-1-1/approve"} <= canaries.said.asked
    assert (await canaries.canary_status())["history"][-1]["ending"] == "Promoted"  # type: ignore[index]


async def test_an_analysis_that_somebody_else_made_says_nothing(canaries: Canaries) -> None:
    await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    await canaries.until("Shifting")
    status = await canaries.status()
    name = f"resnet50-{status['updatedRevision']}-1-0-1"
    forged = {
        "service": "resnet50",
        "run": 1,
        "step": 0,
        "attempt": 1,
        "weight": 50,
        "candidate": status["updatedRevision"],
        "baseline": status["stableRevision"],
        "windowStart": "2026-01-01T00:00:00Z",
        "models": [{"name": "resnet50"}],
    }
    body = {"apiVersion": "serving.paddlepaddle.org/v1alpha1", "kind": "CanaryAnalysis", "spec": forged}
    await canaries.live.create(body | {"metadata": {"name": name, "namespace": canaries.namespace}})
    canaries.verdict = "Passed"
    for _ in range(6):
        await canaries.turn()
    status = await canaries.status()
    assert status["canary"]["phase"] == "Analysing"  # type: ignore[index]
    assert "NameConflict" in canaries.told.reasons()
    version = (await canaries.service()).resource_version
    await canaries.turn()
    assert (await canaries.service()).resource_version == version, "it is told once"


async def test_without_a_proxy_the_pods_are_the_weight(canaries: Canaries) -> None:
    first = await canaries.first(provider="Replicas", replicas=4)
    sizes: list[tuple[int, int]] = []
    await canaries.canary("v1.1.0", provider="Replicas", replicas=4, steps=[{"weight": 20}, {"weight": 50}])
    for _ in range(60):
        await canaries.turn()
        now = await canaries.deployments()
        pair = (now[first], sum(size for name, size in now.items() if name != first))
        sizes += [pair] if not sizes or sizes[-1] != pair else []
        if (await canaries.status())["stableRevision"] != first:
            break
    assert sizes[0] == (4, 0)
    assert (4, 1) in sizes
    assert (2, 2) in sizes
    assert sizes[-1] == (0, 4)
    assert min(a + b for a, b in sizes) >= 4
    await canaries.rest()
    assert canaries.routers.history == []
    await canaries.canary("v1.2.0", replicas=4)
    await canaries.rest()
    assert (await canaries.status())["models"][0]["version"] == "v1.2.0"  # type: ignore[index]
    assert [split.weight for split in canaries.routers.history] == [0, 50, 100, 0], (
        "the routers were told all"
    )
    assert canaries.mixed == []


async def test_another_strategy_ends_the_run_before_it_begins(canaries: Canaries) -> None:
    await canaries.first()
    await canaries.canary("v1.1.0")
    canaries.verdict = ""
    state = await canaries.until("Analysing")
    models = (await canaries.service()).spec["models"]
    service = await canaries.service()
    await canaries.live.update({**service.raw, "spec": {"models": models, "replicas": 2}})
    await canaries.rest()
    status = await canaries.status()
    assert status["stableRevision"] == state["candidate"], "the rolling update took over"
    assert status["canary"]["history"][-1]["ending"] == "Reverted"  # type: ignore[index]
    assert canaries.mixed == []
    service_ = await canaries.live.get_live(ctrl.SERVICE, canaries.key)
    assert service_ is not None
    assert service_.spec["selector"] != ROUTERS
    canaries.verdict = "Passed"
    await canaries.canary("v1.2.0")
    await canaries.rest()
    assert (await canaries.status())["models"][0]["version"] == "v1.2.0"  # type: ignore[index]


async def test_what_cannot_be_judged_is_told_and_nothing_begins(canaries: Canaries) -> None:
    first = await canaries.first()
    await canaries.canary("v1.1.0", analysis={"successCondition": "status.metrics.latency.p95 <"})
    await canaries.rest()
    status = await canaries.status()
    assert status["stableRevision"] == first
    assert condition(status, "Degraded")["reason"] == "CanaryRefused"
    assert "successCondition" in str(condition(status, "Progressing")["message"])
    assert await canaries.deployments() == {first: 2}
    await canaries.canary("v1.1.0")
    await canaries.rest()
    assert (await canaries.status())["stableRevision"] != first
