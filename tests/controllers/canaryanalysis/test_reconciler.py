"""A whole analysis on a real API server, with an HTTP server for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

import controller_runtime as ctrl
from controllers.analysis.tally import Verdict
from controllers.canaryanalysis import status as wire
from controllers.canaryanalysis.spec import moment, stamp
from controllers.kinds import CANARY_ANALYSIS

from .harness import BASELINE, CANDIDATE, Harness, condition, harness
from .objects import START
from .scenes import Side, World

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

pytestmark = pytest.mark.apiserver
BEGIN = moment(START)


@pytest.fixture
async def desk(apiserver: Envtest, namespace: str) -> AsyncIterator[Harness]:
    async with apiserver.client() as client, harness(client, namespace) as made:
        yield made


async def test_a_good_candidate_passes_after_three_windows(desk: Harness) -> None:
    key = await desk.create(successCondition="status.metrics.latency.p95 < 200")
    status = await desk.until_done(key)
    assert (status["verdict"], status["reason"]) == ("Passed", "Good")
    assert [(w["start"][14:19], w["end"][14:19], w["outcome"]) for w in status["measurements"]] == [
        ("00:00", "01:00", "Pass"),
        ("01:00", "02:00", "Pass"),
        ("02:00", "03:00", "Pass"),
    ]
    assert status["counts"]["passes"] == 3
    assert status["models"][0]["candidate"]["p95Milliseconds"] == 50
    assert status["models"][0]["baseline"]["samples"] == pytest.approx(2090)
    assert status["evidence"]["m/errors"]["windows"] == 3
    assert status["evidenceRatio"] == 1
    assert condition(status, "AnalysisAvailable") == "True"
    assert condition(status, "Reconciling") == ""
    # One write to begin with, and one a look; all queries of a look at one time.
    assert desk.client.writes == ["status"] * 4
    assert await desk.looks() == [BEGIN + 60, BEGIN + 120, BEGIN + 180]
    assert desk.told.events == [("Normal", "AnalysisPassed", "no worse than the baseline")]
    assert desk.metrics.looks == [("", "pass")] * 3
    found = await desk.live.get_live(CANARY_ANALYSIS, key)
    assert found is not None
    fact = wire.found(found)
    assert (fact.run, fact.step, fact.attempt, fact.verdict) == (1, 0, 1, Verdict.Passed)
    assert fact.ledger.processes["m/slow"].windows == 3
    assert wire.finished(found)
    # Nothing to do any more: no query, no write.
    asked = len(desk.prometheus.asked)
    assert (await desk.once(key)).requeue_after is None
    assert (len(desk.prometheus.asked), len(desk.client.writes)) == (asked, 4)


async def test_a_bad_candidate_fails_at_the_first_look(desk: Harness) -> None:
    desk.world = World(candidate=Side(errors=0.5))
    status = await desk.until_done(await desk.create())
    assert (status["verdict"], status["reason"]) == ("Failed", "Worse")
    assert status["message"].startswith("m: error rate 55 of 110 against 0 of 2090")
    assert status["evidenceRatio"] > 100
    assert desk.told.events[0][:2] == ("Warning", "AnalysisFailed")
    assert desk.metrics.looks == [("errorRate", "fail")]


async def test_a_condition_fails_and_one_that_is_no_cel_waits_for_a_person(desk: Harness) -> None:
    slow = await desk.until_done(await desk.create(successCondition="status.metrics.latency.p95 < 20"))
    assert (slow["verdict"], slow["message"]) == ("Failed", "m: successCondition is false")
    desk.phase("Analysing", attempt=2)
    wrong = await desk.until_done(await desk.create(attempt=2, successCondition="status.metrics."))
    assert (wrong["verdict"], wrong["reason"]) == ("Inconclusive", "InvalidSpec")
    assert wrong["message"].startswith("successCondition is not a CEL expression: character 16")


async def test_queries_of_ones_own_are_asked_only_if_the_operator_allows_it(desk: Harness) -> None:
    own = [{"name": "own", "query": "secret_of_others", "max": 10}]
    status = await desk.until_done(await desk.create(metrics=own))
    assert (status["verdict"], status["reason"]) == ("Inconclusive", "InvalidSpec")
    assert "--allow-custom-promql" in status["message"]
    assert desk.prometheus.asked == []
    desk.start(custom_promql=True)
    desk.phase("Analysing", attempt=2)
    status = await desk.until_done(await desk.create(metrics=own, attempt=2))
    assert status["verdict"] == "Passed"
    assert status["metrics"] == [{"name": "own", "value": 7}]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(4))
async def test_a_crash_at_any_write_loses_no_window_and_doubles_none(
    desk: Harness, when: str, write: int
) -> None:
    setattr(desk.client, f"crash_{when}", write)
    status = await desk.until_done(await desk.create())
    assert (status["verdict"], status["counts"]["windows"]) == ("Passed", 3)
    ends = [BEGIN + 60, BEGIN + 120, BEGIN + 180]
    assert [moment(window["end"]) for window in status["measurements"]] == ends
    assert status["evidence"]["m/errors"]["windows"] == 3
    assert status["evidence"]["m/errors"]["candidate"] == [0, 330]


async def test_a_crash_while_prometheus_is_asked_leaves_the_window_open(desk: Harness) -> None:
    key = await desk.create()
    await desk.once(key)
    desk.now += 60
    desk.prometheus.hang = asyncio.Event()
    before = await desk.status(key)
    task = asyncio.ensure_future(desk.once(key))
    await desk.prometheus.arrive()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await desk.status(key) == before
    desk.prometheus.hang.set()
    desk.prometheus.hang = None
    desk.start()
    desk.now += 100  # away for a while: one long window, not three
    status = await desk.until_done(key)
    assert [moment(window["end"]) - BEGIN for window in status["measurements"]] == [160, 220, 280]


async def test_a_status_that_changed_meanwhile_is_not_overwritten(
    desk: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await desk.create()
    await desk.once(key)
    desk.now += 60
    stale = await desk.live.get_live(CANARY_ANALYSIS, key)
    other = Harness(desk.live, desk.namespace, desk.prometheus)
    other.now = desk.now
    await other.once(key)  # the leader before us, or a cache that is behind
    await other.servers[0].close()

    async def behind(kind: ctrl.Kind, wanted: ctrl.Key) -> ctrl.Object | None:
        return stale if wanted == key else await real(kind, wanted)

    real = desk.client.get
    monkeypatch.setattr(desk.client, "get", behind)
    assert (await desk.once(key)).requeue_after == 0.1
    assert (await desk.status(key))["counts"]["windows"] == 1
    assert desk.metrics.looks == []  # what was not written has not happened


async def test_prometheus_down_and_back(desk: Harness) -> None:
    desk.down = True
    key = await desk.create()
    for _ in range(60):
        status = await desk.status(key)
        if status.get("verdict", "Running") != "Running":
            break
        desk.now += (await desk.once(key)).requeue_after or 0
        desk.start()  # without the breaker's memory, each attempt reaches the server
    assert (status["verdict"], status["reason"]) == ("Unavailable", "PrometheusUnavailable")
    assert 300 <= moment(status["finishedTime"]) - BEGIN <= 375
    assert "does not answer well: HTTP 500: down" in status["message"]
    assert condition(status, "AnalysisAvailable") == "False"
    assert "measurements" not in status
    found = await desk.live.get_live(CANARY_ANALYSIS, key)
    assert not wire.answers(found)
    assert wire.answers(None)
    assert [reason for _, reason, _ in desk.told.events] == ["AnalysisUnavailable"]

    desk.phase("Paused")
    again = await desk.once(key)
    assert again.requeue_after is not None
    desk.now += again.requeue_after
    desk.down = False
    desk.prometheus.asked.clear()
    assert (await desk.once(key)).requeue_after is None
    assert [query for query, _ in desk.prometheus.asked] == ["vector(1)"]
    status = await desk.status(key)
    assert (status["verdict"], condition(status, "AnalysisAvailable")) == ("Unavailable", "True")
    assert "nextLookTime" not in status


async def test_a_run_that_went_back_is_not_probed_for(desk: Harness) -> None:
    desk.down = True
    key = await desk.create(prometheus="nowhere")
    for _ in range(60):
        result = await desk.once(key)
        desk.now += result.requeue_after or 0
        if (await desk.status(key)).get("verdict") == "Unavailable":
            break
    assert "has no Prometheus nowhere (--prometheus gives: default)" in (await desk.status(key))["message"]
    desk.phase("RollingBack")
    desk.now += 60
    assert (await desk.once(key)).requeue_after is None


async def test_empty_and_idle_never_pass(desk: Harness) -> None:
    desk.world = World(candidate=Side(pods=None), baseline=None)
    status = await desk.until_done(await desk.create())
    assert (status["verdict"], status["reason"]) == ("Unavailable", "NoData")
    assert condition(status, "AnalysisAvailable") == "True"
    assert moment(status["finishedTime"]) - BEGIN == 900
    desk.world = World(candidate=Side(qps=1 / 60))
    desk.phase("Analysing", attempt=2)
    status = await desk.until_done(await desk.create(attempt=2, windowStart=stamp(desk.now)))
    assert (status["verdict"], status["reason"]) == ("Inconclusive", "TooFewSamples")
    assert status["message"] == "m: 5 requests of the candidate, 50 are needed"


async def test_pods_that_are_not_ready_are_not_judged(desk: Harness) -> None:
    await desk.deployment("ocr", CANDIDATE, ready=0)
    key = await desk.create()
    await desk.once(key)
    desk.now += 60
    await desk.once(key)
    assert (await desk.status(key))["message"] == "Prometheus saw 0 of 0 ready pods of the candidate"


async def test_without_ready_stable_pods_only_the_candidate_is_asked(desk: Harness) -> None:
    await desk.deployment("ocr", BASELINE, ready=0)
    await desk.until_done(await desk.create(requiredPasses=1))
    assert not any(BASELINE in query for query, _ in desk.prometheus.asked)


async def test_an_old_cache_neither_starts_nor_supersedes(desk: Harness) -> None:
    key = await desk.create(run=2)
    desk.phase("Analysing", run=1)
    assert (await desk.once(key)).requeue_after is None
    assert await desk.status(key) == {}  # early
    desk.phase("Analysing", run=2)
    desk.client.cached = {"phase": "Paused", "run": 2, "step": 0, "attempt": 1}
    await desk.once(key)  # the live one says that it is awaited
    assert (await desk.status(key))["verdict"] == "Running"
    assert desk.prometheus.asked == []


@pytest.mark.parametrize("phase", ["RollingBack", "Idle", "Paused"])
async def test_superseded_once_the_owner_has_gone_on(desk: Harness, phase: str) -> None:
    key = await desk.create()
    await desk.once(key)
    desk.phase(phase)
    status = await desk.until_done(key)
    assert (status["verdict"], status["counts"]["windows"]) == ("Superseded", 0)
    assert "window" not in status
    found = await desk.live.get_live(CANARY_ANALYSIS, key)
    assert found is not None
    assert wire.found(found).verdict is Verdict.Running
    assert desk.prometheus.asked == []
    assert desk.told.events[0][:2] == ("Normal", "AnalysisSuperseded")


async def test_what_the_operator_did_not_make_is_left_alone(desk: Harness) -> None:
    for uid in ("", "11111111-2222-3333-4444-555555555555"):
        key = await desk.create(owner_uid=uid, attempt=1 if uid else 2)
        assert (await desk.once(key)).requeue_after is None
        assert await desk.status(key) == {}
    assert (await desk.once(ctrl.Key(desk.namespace, "none"))).requeue_after is None


async def test_at_most_five_finished_ones_are_kept(desk: Harness) -> None:
    names = []
    for attempt in range(1, 8):
        desk.phase("Analysing", attempt=attempt)
        key = await desk.create(attempt=attempt, requiredPasses=1)
        names.append(key.name)
        desk.now = BEGIN
        await desk.until_done(key)
        await desk.once(key)
    left = await desk.live.list_live(CANARY_ANALYSIS, namespace=desk.namespace)
    assert sorted(item.name for item in left) == names[2:]
