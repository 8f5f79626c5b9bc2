"""Canaries while the parts around them die. `make e2e-canary` runs them; the node must be on this host."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import pytest

from e2e.canary import asks, harm
from e2e.canary.trial import Trial, canary
from e2e.kube import metadata_of, until

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
    one = trial("Prometheus gone: held, then goes on", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    with harm.without_prometheus(one.kube):
        state = one.phase("Paused", within=330)
        assert state["pause"] == "MetricsUnavailable"
        assert "Prometheus" in one.command("explain")
    one.phase("Shifting", "Analysing", within=120)
    asks.ended(one.ending(1, within=400), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)


def test_prometheus_gone_and_the_candidate_dies(trial: Trials) -> None:
    one = trial("Prometheus gone, the candidate crash-loops: rolled back", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    state = one.phase("Analysing", within=150)
    with harm.without_prometheus(one.kube):
        one.fault(str(state["candidate"]), exit=0.2)
        entry = one.ending(1, within=240)
    asks.ended(entry, "Unhealthy")
    one.finish()
    asks.none_failed(one, "v1.0.0")


def test_a_candidate_that_never_starts(trial: Trials) -> None:
    one = trial("the candidate crash-loops from the start, never gets a request", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0", faults="exit=0.1")
    entry = one.ending(1, within=400)
    asks.ended(entry, "NotReady")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    assert {reply.version for reply in one.replies} == {"v1.0.0"}


def test_stable_pods_deleted_while_rolling_back(trial: Trials) -> None:
    """The weight follows what stable can carry."""
    one = trial("stable loses pods while it takes the traffic back", strategy=canary(50), replicas=3)
    one.begin(rate=30)
    one.change("v1.1.0", faults="errors=0.02")
    state = one.phase("Analysing", within=150)
    for pod in one.pods(str(state["stable"]))[:2]:
        one.kube.run("-n", one.ns.name, "delete", "pod", str(metadata_of(pod)["name"]), "--wait=false")
    one.command("abort")
    asks.ended(one.ending(1, within=180), "Aborted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one, "v1.0.0")


def test_a_router_ends(trial: Trials) -> None:
    """A planned end of a router, in the middle of a step, loses nothing."""
    one = trial("a router is replaced in the middle of a step", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    routers = [pod for pod in one.ns.pods() if "router" in str(metadata_of(pod)["name"])]
    assert routers
    one.kube.run("-n", one.ns.name, "delete", "pod", str(metadata_of(routers[0])["name"]), "--wait=false")
    asks.ended(one.ending(1, within=400), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
