"""Canaries while what all of them share dies: one at a time, and nothing beside it. The node must be on this
host.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from e2e.canary import asks, harm, stands
from e2e.canary.trial import Trial, canary
from e2e.kube import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

Trials = Callable[..., Trial]
KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("SEED", "1"))


def test_operator_killed_in_each_phase(trial: Trials) -> None:
    one = trial("the operator is killed in each phase, promoted", strategy=canary(20, stable_for=20))
    one.begin(rate=50)
    one.change("v1.1.0")
    for phase in ("Preparing", "Shifting", "Analysing", "Promoting", "Soaking", "Draining"):
        state = one.phase(phase, *_later(phase), within=180)
        one.notes[f"killed in {phase}"] = str(state["phase"])
        harm.kill_operator(one.kube)
    asks.ended(one.ending(1, within=300), "Promoted")
    one.phase("Idle", within=120)
    harm.operator_ready(one.kube)
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)


def _later(phase: str) -> tuple[str, ...]:
    """Phases too short to be met for sure may be over when they are looked for."""
    order = ("Preparing", "Shifting", "Analysing", "Promoting", "Soaking", "Draining", "Idle")
    return order[order.index(phase) + 1 :] if phase in ("Shifting", "Promoting") else ()


def test_operator_killed_at_random(trial: Trials) -> None:
    """KILLS times (8; 100 for the long form), with SEED. A bad version is never promoted by it."""
    one = trial(f"the operator is killed {KILLS} times, rolled back", strategy=canary(10, 30))
    one.begin(rate=50)
    rng, killed = random.Random(SEED), 0
    runs = 0
    while killed < KILLS:
        runs += 1
        version = f"v1.{1 + runs % 4}.0"
        # Another share of errors is another revision, even of a version that was rejected before.
        one.change(version, faults=f"errors=0.3{runs:02}")
        active = ("Preparing", "Shifting", "Analysing", "Paused", "Promoting", "Soaking")
        one.phase(*active, within=120, run=runs)
        while killed < KILLS and one.canary().get("phase") not in ("Idle", "Draining", "RollingBack"):
            harm.kill_operator(one.kube)
            killed += 1
            threading.Event().wait(rng.uniform(0.5, 12.0))
        asks.ended(one.ending(runs, within=400), "AnalysisFailed")
        one.phase("Idle", within=120)
    one.notes["kills"] = killed
    harm.operator_ready(one.kube)
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")
    asks.steps_in_order(one)


def test_frozen_leader(trial: Trials) -> None:
    """A leader that stands still is replaced, and when it wakes it changes nothing any more."""
    one = trial("the leader is frozen, promoted by the other", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    first = harm.leader(one.kube)
    with harm.frozen(one.kube, first):
        until(
            lambda: harm.leader(one.kube) not in ("", first),
            within=60,
            what=lambda: "nobody took over",
        )
        one.phase("Soaking", "Draining", "Idle", within=300)
    asks.ended(one.ending(1, within=300), "Promoted")
    harm.operator_ready(one.kube)
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)


def test_prometheus_gone(trial: Trials) -> None:
    """Held, resumed by itself when it answers again; pod health needs no Prometheus."""
    analysis = {"requiredPasses": 4}
    one = trial("Prometheus gone: held, then goes on", strategy=canary(20, analysis=analysis))
    sick = trial(
        "Prometheus gone, the candidate crash-loops: rolled back",
        name="sick",
        strategy=canary(20, analysis={"requiredPasses": 12}),
    )
    for each in (one, sick):
        each.change("v1.0.0")
    for each in (one, sick):
        each.begin(rate=40)
    one.change("v1.1.0")
    sick.change("v1.1.0", faults="exit=50")  # each process lives so many seconds
    for each in (one, sick):
        each.phase("Analysing", within=150)
    with harm.without_prometheus(one.kube):
        asks.ended(sick.ending(1, within=300), "Unhealthy")
        state = one.phase("Paused", within=330)
        assert state["pause"] == "MetricsUnavailable"
        assert "Prometheus" in one.command("explain")
    one.phase("Shifting", "Analysing", within=120)
    asks.ended(one.ending(1, within=400), "Promoted")
    for each in (one, sick):
        each.finish()
        asks.none_lost(each)
        asks.none_failed(each, "v1.0.0")
    asks.none_failed(one)
    asks.steps_in_order(one)


def test_prometheus_slow(trial: Trials) -> None:
    """Answers that take 6 s (the deadline is 10 s) delay the verdict and change nothing else."""
    one = trial("Prometheus takes 6 s for an answer, promoted", strategy=canary(20))
    one.begin(rate=50)
    with stands.before_prometheus(one.kube) as stand:
        stand.mode(delay=6.0)
        one.change("v1.1.0")
        asks.ended(one.ending(1, within=300), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)


def test_prometheus_empty(trial: Trials) -> None:
    """It answers, and knows nothing: no series, two of each, NaN. Never promoted, never failed."""
    one = trial("Prometheus knows nothing: waits for a person", strategy=canary(20))
    one.begin(rate=50)
    with stands.before_prometheus(one.kube) as stand:
        for number, data in enumerate(("empty", "two", "nan")):
            stand.mode(data=data)
            if number:
                one.command("resume")
                one.phase("Analysing", within=60)
            else:
                one.change("v1.1.0")
            state = one.phase("Paused", within=300)
            assert state["pause"] == "Inconclusive", state
            one.notes[data] = str(state["reason"])
        assert "history" not in one.canary()
        stand.mode(data="")
        one.command("resume")
        asks.ended(one.ending(1, within=300), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)


def test_api_server_restarted(trial: Trials) -> None:
    """Gone for half a minute in a step: nobody leads meanwhile, and everybody serves."""
    one = trial("the API server is restarted in the middle of a step, promoted", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    with harm.without_api_server(one.kube):
        time.sleep(30)
    asks.ended(one.ending(1, within=300), "Promoted")
    harm.operator_ready(one.kube)
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.steps_in_order(one)
