"""Canaries whose own pods and routers go wrong. The node must be on this host."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from e2e.canary import asks, harm
from e2e.canary.trial import Trial, canary
from e2e.kube import metadata_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

Trials = Callable[..., Trial]


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
    router = one.routers()[0]
    one.kube.run("-n", one.ns.name, "delete", "pod", router, "--wait=false")
    asks.ended(one.ending(1, within=400), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)


def test_a_router_dies(trial: Trials) -> None:
    """Killed outright: what it held is lost and nothing else, and the run goes on."""
    one = trial("a router is killed in the middle of a step", strategy=canary(20))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    killed = time.time()
    harm.send(one.kube, one.ns.name, one.routers()[0], signal.SIGKILL)
    asks.ended(one.ending(1, within=400), "Promoted")
    one.finish()
    lost = [reply.at - killed for reply in one.replies if reply.lost]
    one.notes["lost when"] = f"{len(lost)}, the last {max(lost, default=0.0):.1f} s after the kill"
    assert all(-2 < after < 10 for after in lost), lost
    asks.none_failed(one, "v1.0.0", "v1.1.0")
    asks.steps_in_order(one)


def test_no_room(trial: Trials) -> None:
    """A candidate that no node can take is told with what it lacks; the next one goes on."""
    one = trial("no room for the candidate, then a smaller one", strategy=canary(20))
    one.begin(rate=50)
    small = {"requests": {"cpu": "50m", "memory": "256Mi"}}
    one.change("v1.1.0", resources={"requests": {"cpu": "900", "memory": "256Mi"}})
    one.wait("the scheduler's word", lambda _: "nsufficient cpu" in one.told(), within=150)
    assert "nsufficient cpu" in one.command("explain")
    time.sleep(10)
    state = one.canary()
    assert (state["phase"], one.service()["status"]["phase"]) == ("Preparing", "Ready")  # type: ignore[index]
    one.change("v1.2.0", resources=small)
    asks.ended(one.ending(1, within=90), "Superseded")
    asks.ended(one.ending(2, within=400), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    assert {reply.version for reply in one.replies} == {"v1.0.0", "v1.2.0"}


def test_no_room_for_routers(trial: Trials) -> None:
    """A run whose routers cannot start says so and can be ended: no client was led to them."""
    one = trial("a quota leaves no room for routers, then it goes", strategy=canary(20))
    one.begin(rate=50)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": one.ns.name},
    }
    one.kube.apply({**quota, "spec": {"hard": {"pods": str(one.replicas + 1)}}})
    one.change("v1.1.0")
    one.wait("whom it waits for", lambda _: "routers to take the route" in one.told(), within=60)
    time.sleep(15)
    one.notes["explained"] = one.command("explain").strip()
    one.command("abort")
    asks.ended(one.ending(1, within=30), "Aborted")
    one.phase("Idle", within=90)
    one.kube.run("-n", one.ns.name, "delete", "resourcequota", "full")
    one.command("retry")
    asks.ended(one.ending(1, attempt=2, within=500), "Promoted")
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
