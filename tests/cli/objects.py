"""Objects of one service as an API server would show them, from the canary's own step machine."""

from __future__ import annotations

from datetime import UTC, datetime

from controllers.rollout.canary import to_wire
from controllers.rollout.canary.facts import View
from controllers.rollout.canary.machine import waits_for
from tests.controllers.rollout.test_canary_desk import Desk

NOW = 1_000_000.0
JSON = dict[str, object]


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def service(desk: Desk, *, name: str = "svc", message: str | None = None, reason: str = "") -> JSON:
    """The PaddleService; `message`: of condition Progressing, by default the step machine's own words."""
    said = waits_for(View(desk.state, desk.plan, desk.facts)) if message is None else message
    condition = {"type": "Progressing", "reason": reason or f"Canary{desk.state.phase}", "message": said}
    return {
        "kind": "PaddleService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": desk.plan.replicas},
        "status": {
            "phase": "Ready",
            "canary": to_wire(desk.state),
            "stableRevision": desk.state.stable,
            "updatedRevision": desk.facts.wanted,
            "revisions": [
                {"hash": "old", "models": [{"name": "m", "version": "v1.0.0"}]},
                {"hash": "new", "models": [{"name": "m", "version": "v1.1.0"}]},
            ],
            "conditions": [condition],
            "traffic": {"provider": "Envoy"},
        },
    }


def others(desk: Desk) -> list[JSON]:
    """Deployments and pods as the desk's facts have them."""
    found: list[JSON] = []
    for revision, pods in desk.facts.pods.items():
        labels = {"serving.paddlepaddle.org/revision": revision}
        found.append({"kind": "Deployment", "metadata": {"labels": labels}, "spec": {"replicas": pods.spec}})
        found += [pod(f"svc-{revision}-{n}", revision, ready=n < pods.ready) for n in range(pods.spec)]
    return found


def pod(name: str, revision: str, *, ready: bool, why: str = "") -> JSON:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"serving.paddlepaddle.org/revision": revision}},
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": stamp(NOW - 60),
                    "message": why,
                }
            ]
        },
    }


def analysis(desk: Desk, *, attempt: int | None = None, **status: object) -> JSON:
    """The CanaryAnalysis of the desk's step after two passed windows, with a third one open."""
    state, now = desk.state, desk.facts.now
    side = {"errorRate": 0.0, "slowRate": 0.004, "qps": 2.0, "p50Milliseconds": 8.25, "p99Milliseconds": 31.0}
    measured = [{"start": stamp(now), "end": stamp(now), "outcome": "Pass", "reason": "Good"}]
    return {
        "kind": "CanaryAnalysis",
        "metadata": {"name": "a", "labels": {}},
        "spec": {
            "run": state.run,
            "step": state.step,
            "attempt": attempt or state.attempt,
            "candidate": state.candidate,
            "requiredPasses": 3,
        },
        "status": {
            "verdict": "Running",
            "message": "m: 34 requests of the candidate, 50 are needed",
            "counts": {"windows": 2, "passes": 2, "undecided": 0, "blind": 0, "failed": False},
            "window": {"start": stamp(now - 34), "looks": 1},
            "nextLookTime": stamp(now + 26),
            "measurements": measured * 2,
            "models": [
                {
                    "name": "m",
                    "candidate": {"samples": 34, **side, "p95Milliseconds": 14.4},
                    "baseline": {"samples": 1203, **side, "errorRate": 0.0125},
                }
            ],
            "evidenceRatio": 0.83,
            **status,
        },
    }
