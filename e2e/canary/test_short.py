"""The two ends of a canary, side by side: what CI runs of the scenarios."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.canary import asks
from e2e.canary.trial import Trial, canary
from e2e.kube import condition

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_promoted_and_rolled_back(trial: Callable[..., Trial]) -> None:
    # Errors are what is judged here: on a busy machine answers may be slow for other reasons.
    # A first look after 5 s has enough requests of both sides: 50 and 100 are needed.
    strategy = canary(35, stable_for=3, analysis={"requiredPasses": 1})
    good = trial("a good version is promoted", name="good", replicas=1, sla=10_000, strategy=strategy)
    bad = trial("errors are rolled back", name="bad", replicas=1, sla=10_000, strategy=strategy)
    for one in (good, bad):
        one.prepare(rate=50)
    for one in (good, bad):
        one.ready_to_change()
    good.change("v1.1.0")
    bad.change("v1.1.0", faults="errors=0.4")

    rejected = bad.ending(1, within=240)
    asks.ended(rejected, "AnalysisFailed")
    assert "error rate" in str(rejected["reason"])
    service = bad.service()
    assert service["status"]["phase"] == "Ready"  # type: ignore[index]
    assert condition(service, "Degraded")["reason"] == "CanaryRolledBack"
    assert "error rate" in bad.command("explain")
    bad.finish()
    asks.ended(good.ending(1, within=240), "Promoted")
    assert good.service()["status"]["stableRevision"] == good.canary()["stable"]  # type: ignore[index]

    good.finish()
    asks.none_lost(good)
    asks.none_failed(good)
    asks.none_lost(bad)
    asks.none_failed(bad, "v1.0.0")
    asks.first(good.replies, "v1.1.0")
    last = good.replies[-1]
    assert last.version == "v1.1.0"
    assert bad.replies[-1].version == "v1.0.0"
