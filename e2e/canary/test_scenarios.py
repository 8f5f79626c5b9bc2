"""How canaries go, each on a real cluster under a load that logs every reply. `make e2e-canary` runs them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.canary import asks, stands
from e2e.canary.trial import Trial, canary
from e2e.kube import condition, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

Trials = Callable[..., Trial]


def test_good_version(trial: Trials) -> None:
    one = trial("three steps, promoted", strategy=canary(10, 25, 50))
    one.begin(rate=50)
    one.change("v1.1.0")
    old = str(one.phase("Analysing", within=150)["stable"])
    entry = one.ending(1, within=400)
    asks.ended(entry, "Promoted")
    begin = time.monotonic()
    assert one.pods(old), "the old pods are gone before they were drained"
    one.phase("Idle", within=90)
    one.notes["drained after"] = f"{time.monotonic() - begin:.0f} s"
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.shares(one, "v1.1.0", [10, 25, 50])
    asks.steps_in_order(one)


def test_errors(trial: Trials) -> None:
    one = trial("10 % errors at weight 10, rolled back", strategy=canary(10))
    one.begin(rate=50)
    begin = one.change("v1.1.0", faults="errors=0.1")
    one.phase("Analysing", within=150)
    verified = time.time()
    entry = one.ending(1, within=145)
    took = time.time() - verified
    one.notes["weight 0 after"] = f"{took:.0f} s"
    asks.ended(entry, "AnalysisFailed")
    assert "error rate" in str(entry["reason"])
    service = one.service()
    assert service["status"]["phase"] == "Ready"  # type: ignore[index]
    assert condition(service, "Degraded")["reason"] == "CanaryRolledBack"
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")
    asks.share_at_most(one, "v1.1.0", 10, begin)


def test_slow_version(trial: Trials) -> None:
    one = trial("slower than the SLA, rolled back", strategy=canary(20), sla=100)
    one.begin(rate=50)
    one.change("v1.1.0", faults="latency=0.2")
    entry = one.ending(1, within=300)
    asks.ended(entry, "AnalysisFailed")
    assert "slower than the SLA" in str(entry["reason"])
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)


def test_both_slow(trial: Trials) -> None:
    one = trial("both versions equally slow, promoted", strategy=canary(20), sla=100)
    one.begin(rate=50, faults="latency=0.2")
    one.change("v1.1.0", faults="latency=0.2")
    asks.ended(one.ending(1, within=400), "Promoted")
    one.finish()
    asks.none_failed(one)


def test_condition(trial: Trials) -> None:
    analysis = {"successCondition": "status.metrics.latency.p95 < 100"}
    one = trial("the successCondition fails, rolled back", strategy=canary(20, analysis=analysis), sla=1000)
    one.begin(rate=50)
    one.change("v1.1.0", faults="latency=0.2")
    entry = one.ending(1, within=300)
    asks.ended(entry, "AnalysisFailed")
    assert "successCondition" in str(entry["reason"])
    one.finish()
    asks.none_failed(one)


def test_rejected_comes_back_by_retry_only(trial: Trials) -> None:
    one = trial("a rejected version comes back by retry only", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0", faults="errors=0.5")
    asks.ended(one.ending(1, within=300), "AnalysisFailed")
    one.phase("Idle", within=120)
    # Applied again, it changes nothing.
    one.kube.run("-n", one.ns.name, "annotate", "paddlemodel", one.name, "applied=again")
    one.change("v1.1.0", faults="errors=0.5")
    assert "retry" in one.command("explain")
    time.sleep(20)
    assert one.canary()["phase"] == "Idle"
    one.command("retry")
    state = one.phase("Preparing", "Shifting", "Analysing", within=60)
    assert (state["run"], state.get("attempt", 0)) == (1, 2)
    asks.ended(one.ending(1, attempt=2, within=300), "AnalysisFailed")
    history = one.canary()["history"]
    assert isinstance(history, list)
    assert len(history) == 2
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")


def test_back_and_forth(trial: Trials) -> None:
    one = trial("A, B, A, B in the middle of a run ends at B", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Shifting", "Analysing", within=150)
    one.change("v1.0.0")
    asks.ended(one.ending(1, within=60), "Reverted")
    one.change("v1.1.0")
    asks.ended(one.ending(2, within=400), "Promoted")
    assert "rejected" not in one.canary()
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    assert one.replies[-1].version == "v1.1.0"


def test_superseded(trial: Trials) -> None:
    one = trial("a third version while the second is at 50 %", strategy=canary(50))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    one.change("v1.2.0")
    asks.ended(one.ending(1, within=90), "Superseded")
    asks.ended(one.ending(2, within=400), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    last = max(reply.at for reply in one.replies if reply.version == "v1.1.0")
    assert last < asks.first(one.replies, "v1.2.0")
    asks.steps_in_order(one)


def test_commands(trial: Trials) -> None:
    """Pause holds; resume goes on; promote ends a step; --full skips the analysis; abort rejects."""
    one = trial("pause, resume, promote, promote --full, abort", strategy=canary(10, 30))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    one.command("pause")
    assert one.phase("Paused", within=10)["pause"] == "User"
    assert "a person" in one.command("explain")
    assert "Paused (User)" in one.command("status")
    time.sleep(15)
    assert one.canary()["phase"] == "Paused"
    one.command("resume")
    one.phase("Shifting", "Analysing", within=30)
    one.phase("Analysing", within=60, step=0)
    one.command("promote")
    one.phase("Analysing", within=90, step=1)
    one.command("promote", "--full")
    one.phase("Soaking", within=120)
    one.command("abort")
    asks.ended(one.ending(1, within=60), "Aborted")
    assert "Aborted" in one.command("history")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    assert one.replies[-1].version == "v1.0.0"


def test_soak_fails(trial: Trials) -> None:
    """Good in every step and bad late at 100 %: the old revision is still at full size and takes all back."""
    one = trial("bad late at 100 %, rolled back", strategy=canary(20, stable_for=90))
    one.begin(rate=50)
    one.change("v1.1.0")
    state = one.phase("Soaking", within=400)
    time.sleep(45)  # far more than two passes: all of the soak counts
    one.fault(str(state["candidate"]), errors=0.5)
    asks.ended(one.ending(1, within=120), "AnalysisFailed")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")
    assert one.replies[-1].version == "v1.0.0"


def test_little_traffic(trial: Trials) -> None:
    """Never promoted, never failed: it waits for a person and says how few requests there were."""
    one = trial("no traffic, then a request every 5 s: waits for a person", strategy=canary(20))
    one.begin(rate=0)
    one.change("v1.1.0")
    state = one.phase("Paused", within=300)
    assert state["pause"] == "Inconclusive"
    assert "request" in str(state["reason"])
    one.load(0.2)
    one.command("resume")
    one.phase("Analysing", within=60)
    state = one.phase("Paused", within=300)
    assert state["pause"] == "Inconclusive"
    assert "history" not in state
    one.finish()
    asks.none_failed(one)


def test_replicas_change_in_the_middle(trial: Trials) -> None:
    """As an autoscaler does it under a doubling and halving load."""
    one = trial("replicas doubled and halved in the middle of a step", strategy=canary(25))
    one.begin(rate=50)
    one.change("v1.1.0")
    state = one.phase("Analysing", within=150)
    one.command("pause")
    for replicas in (4, 2):
        one.change("v1.1.0", replicas=replicas)
        until(
            lambda count=replicas: len(one.ready(str(state["stable"]))) == count,  # type: ignore[misc]
            within=90,
            what=lambda: f"stable has {len(one.ready(str(state['stable'])))} ready pods",
        )
        assert one.ready(str(state["candidate"])), "the candidate has no pod at 25 %"
    one.command("resume")
    asks.ended(one.ending(1, within=300), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)


def test_readiness_path(trial: Trials) -> None:
    """No request before every candidate pod answers on the path; then the run goes on by itself."""
    one = trial("a readiness path that does not answer, then one that does", strategy=canary(20))
    one.begin(rate=50)
    one.strategy = canary(20, readinessPath="/nowhere")
    one.change("v1.1.0")
    one.wait("the path is asked", lambda _: "readiness path" in one.told(), within=150)
    assert "readiness path" in one.command("explain")
    time.sleep(10)
    assert one.canary()["phase"] == "Preparing"
    answered = time.time()
    one.strategy = canary(20, readinessPath="/v2/health/ready")
    one.change("v1.1.0")
    asks.ended(one.ending(1, within=300), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    assert asks.first(one.replies, "v1.1.0") > answered


def test_hooks(trial: Trials) -> None:
    """A hook that says no holds the step and fails nothing; a yes lets it go on, and is asked for once."""
    one = trial("a hook holds the step until it says yes", strategy=canary(20))
    one.begin(rate=50)
    stand = stands.start(one.kube, one.ns.name, "approval")
    stand.mode(status=503)
    hooks = [{"name": "approval", "url": f"{stand.url}/hook"}]
    one.strategy = canary(20, stable_for=0, hooks=hooks)
    one.change("v1.1.0")
    one.wait("the hook holds", lambda _: "answers 503" in one.told(), within=200)
    assert "the approval hook, which answers 503" in one.command("explain")
    time.sleep(12)  # longer than between two questions
    assert one.canary()["phase"] == "Analysing"
    said_no = stand.asked()
    assert len(said_no) >= 2, said_no
    stand.mode(status=200)
    asks.ended(one.ending(1, within=120), "Promoted")
    told = [{name: body[name] for name in ("run", "step", "attempt", "weight")} for body in stand.asked()]
    first = {"run": 1, "step": 0, "attempt": 1, "weight": 20}
    assert all(body == first for body in told), told
    assert len(said_no) < len(told) <= len(said_no) + 2, told
    one.notes["asked"] = told
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
