"""How canaries go, each on a real cluster under a load that logs every reply. `make e2e-canary` runs them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.canary import asks
from e2e.canary.replies import between
from e2e.canary.trial import Trial, canary
from e2e.kube import condition

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
    begin = time.time()
    assert "retry" in one.command("explain")
    time.sleep(20)
    assert one.canary()["phase"] == "Idle"
    one.command("retry")
    state = one.phase("Preparing", "Shifting", "Analysing", within=60)
    assert (state["run"], state.get("attempt", 0)) == (1, 2)
    asks.ended(one.ending(1, within=300), "AnalysisFailed")
    history = one.canary()["history"]
    assert isinstance(history, list)
    assert len(history) == 2
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")
    assert begin < time.time()


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
    """Good in every step and bad at 100 %: the old revision is still at full size and takes all back."""
    one = trial("bad at 100 %, rolled back", strategy=canary(20, stable_for=60))
    one.begin(rate=50)
    one.change("v1.1.0")
    state = one.phase("Soaking", within=400)
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


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
def test_header(trial: Trials, kept: bool) -> None:
    """x-model-exp finds the version that it names, whatever the weight."""
    one = trial("a header finds its version", strategy=canary(10))
    one.begin(rate=20, kept=kept)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    one.command("pause")
    begin = time.time()
    both = [one.load(20, kept=kept, headers={"x-model-exp": name}) for name in ("canary", "stable", "v1.1.0")]
    time.sleep(5)
    canary_only, stable_only, by_version = (one.stop(name) for name in both)
    one.command("abort")
    one.ending(1, within=60)
    end = time.time()
    assert {reply.version for reply in canary_only} == {"v1.1.0"}
    assert {reply.version for reply in stable_only} == {"v1.0.0"}
    assert {reply.version for reply in by_version} == {"v1.1.0"}
    one.stop(f"load-{one.name}-1")
    asks.none_failed(one)
    assert between(one.replies, begin, end)
