"""Decisions on made-up observations: settled at once, bounded, and the same for the same input."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import controller_runtime as ctrl
from controllers.kinds import LABEL_REVISION
from controllers.paddleservice.decide import PROGRESS_INTERVAL, decide
from controllers.paddleservice.effects import REFUSED, Create, Delete, Effect, Scale
from controllers.paddleservice.observed import (
    LOST_AFTER,
    Child,
    Foreign,
    Observed,
    Refusal,
    Waiting,
    revision_of,
)
from controllers.probe import ModelProgress, Observation
from controllers.reasons import Reason
from controllers.resources.desired import Settings, Strategy
from controllers.resources.meta import labels
from controllers.rollout.identity import Recorded, identify

from .builders import NOW, desired, observed, pod, revision


@pytest.mark.parametrize(
    ("change", "live", "leaving"),
    [
        ({}, 1, 0),
        ({"ended": True}, 0, 0),
        ({"ended": True, "deleting": True, "lost_at": NOW + LOST_AFTER}, 0, 0),
        ({"deleting": True, "lost_at": NOW + timedelta(seconds=1)}, 0, 1),
        ({"deleting": True, "lost_at": NOW}, 0, 0),
    ],
)
def test_which_pods_count(change: dict[str, object], live: int, leaving: int) -> None:
    made = revision(desired("v1.0.0"))
    meta = {"name": made.name, "labels": {LABEL_REVISION: made.hash}}
    mine = replace(pod(made, 1), **change)  # type: ignore[arg-type]
    found = revision_of(ctrl.Object({"metadata": meta, "spec": {"replicas": 1}}), (mine,), NOW)
    assert (found.live, found.leaving, found.pods) == (live, leaving, live + leaving)


def scales(effects: tuple[Effect, ...]) -> dict[str, int]:
    return {effect.key.name: effect.replicas for effect in effects if isinstance(effect, Scale)}


def test_the_same_observation_gives_the_same_decision() -> None:
    seen = observed(desired("v1.0.0"))
    assert decide(seen, NOW) == decide(seen, NOW)


def test_a_first_rollout_creates_everything_with_its_size() -> None:
    decision = decide(observed(desired("v1.0.0"), settings=Settings(replicas=3)), NOW)
    kinds = [e.object.kind.kind for e in decision.effects if isinstance(e, Create)]
    assert kinds == ["Service", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"]
    deployment = next(
        e.object.body
        for e in decision.effects
        if isinstance(e, Create) and "svc-" in e.object.key.name and e.object.kind.kind == "Deployment"
    )
    assert deployment["spec"]["replicas"] == 3  # type: ignore[index]
    assert decision.status is not None
    assert decision.status["phase"] == "Deploying"


def told(seen: Observed) -> list[tuple[str, str, bool]]:
    notes = [note for note in decide(seen, NOW).notes if note.effect is None]
    return [(str(note.reason), note.message, note.warning) for note in notes]


def test_events_say_what_happened() -> None:
    made = revision(desired("v1.0.0"), ready=1, promoted="2026")
    status = {"phase": "Deploying", "observedGeneration": 1, "stableRevision": made.hash}
    changed = observed(desired("v1.0.0"), made, status=status, generation=2)
    assert told(changed) == [
        ("PhaseChanged", "Deploying -> Initialized: the spec changed (generation 2)", False),
        ("PhaseChanged", f"Initialized -> Deploying: deploying revision {made.hash}", False),
        ("PhaseChanged", "Deploying -> Ready: 1 of 1 pods ready, serving m v1.0.0", False),
    ]
    waiting = observed(None, made, status=status, waiting=Waiting(Reason.ModelNotFound, "no model m"))
    assert told(waiting) == [("PhaseChanged", "Deploying -> Initialized: no model m", False)]


def test_a_failure_is_told_once_and_with_its_own_reason() -> None:
    made = revision(desired("v1.0.0"))
    broken = {"state": "Failed", "reason": "CorruptModel", "message": "m.json is cut short"}
    model = ModelProgress(name="m", **broken)
    mine = pod(made, 1)
    seen = {mine.uid: Observation(stage="Failed", models=(model,))}
    status = {"phase": "Deploying", "observedGeneration": 1}
    said = told(observed(desired("v1.0.0"), made, pods=(mine,), seen=seen, status=status))
    assert said == [
        (
            "CorruptModel",
            f"Deploying -> Failed: pod {mine.name} cannot serve model m: m.json is cut short",
            True,
        )
    ]
    foreign = (Foreign("Service", "svc"),)
    said = told(observed(desired("v1.0.0"), foreign=foreign, status=status))
    assert [reason for reason, _, _ in said] == ["NameConflict"]


sizes = st.integers(0, 3)


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    versions = [desired(f"v1.{n}.0", latency_sla=draw(st.sampled_from([0, 100]))) for n in range(3)]
    revisions, pods, seen = [], [], {}
    for age, wanted in enumerate(versions):
        if not draw(st.booleans()):
            continue
        replicas, live = draw(sizes), draw(sizes)
        ready = draw(st.integers(0, live))
        made = revision(
            wanted,
            replicas=replicas,
            live=live,
            ready=ready,
            age=age,
            promoted=draw(st.sampled_from(["", "2026"])),
        )
        revisions.append(made)
        for number in range(live):
            pods.append(
                pod(
                    made,
                    number,
                    ready=number < ready,
                    content=draw(st.sampled_from(["", "sha256:aa", "sha256:bb"])),
                )
            )
            if draw(st.booleans()):
                stage = draw(st.sampled_from(["Pulling", "Loading", "WarmingUp", "Ready", "Failed", "New"]))
                model = ModelProgress(
                    name="m",
                    state=stage,
                    reason=draw(st.sampled_from(["", "CorruptModel", "Timeout"])),
                    bytes_done=draw(st.integers(0, 9)),
                    bytes_total=9,
                    warm_up_median=draw(st.sampled_from([0.0, 50.0, 500.0])),
                )
                seen[pods[-1].uid] = Observation(stage=stage, models=(model,))
    hashes = ["", *(item.hash for item in revisions)]
    status: dict[str, object] = {
        "phase": draw(st.sampled_from(["", "Initialized", "Deploying", "Ready", "Failed"])),
        "observedGeneration": draw(st.integers(0, 1)),
        "stableRevision": draw(st.sampled_from(hashes)),
        "updatedRevision": draw(st.sampled_from(hashes)),
    }
    waiting = draw(st.sampled_from([None, None, Waiting(Reason.ModelNotFound, "no model")]))
    strategy = draw(
        st.sampled_from([Strategy(), Strategy(type="Recreate"), Strategy(max_surge=0, max_unavailable=1)])
    )
    return observed(
        None if waiting else draw(st.sampled_from(versions)),
        *revisions,
        settings=Settings(replicas=draw(sizes), strategy=strategy, history_limit=draw(st.integers(0, 2))),
        status=status,
        waiting=waiting,
        pods=tuple(pods),
        seen=seen,
        foreign=draw(
            st.sampled_from([(), (), (Foreign("Service", "svc"),), (Foreign("Service", "svc", True),)])
        ),
        refusal=draw(
            st.sampled_from(
                [
                    None,
                    None,
                    Refusal(Reason.InvalidSpec, f"{REFUSED}x: bad"),
                    Refusal(Reason.PodRefused, f"{REFUSED}x: full"),
                ]
            )
        ),
    )


@given(observations())
def test_whatever_is_seen_the_status_settles_at_once(seen: Observed) -> None:
    first = decide(seen, NOW)
    written = replace(seen, status=first.status if first.status is not None else seen.status)
    second = decide(written, NOW)
    # Only what was announced as a change of spec may make a second look differ, and that is announced once.
    third = decide(replace(written, status=second.status or written.status), NOW)
    assert third.status is None
    assert not [note for note in third.notes if note.effect is None]


@given(observations())
def test_whatever_is_seen_the_rules_hold(seen: Observed) -> None:
    decision = decide(seen, NOW)
    stable, target = (
        str(seen.status["stableRevision"]),
        decision.report.status.get("updatedRevision") if decision.report else "",
    )
    by_name = {item.name: item for item in seen.revisions}
    if seen.foreign:
        assert decision.effects == ()
    for effect in decision.effects:
        if isinstance(effect, Delete) and effect.kind.kind == "Deployment":
            gone = by_name[effect.key.name]
            assert gone.hash != target
            assert gone.replicas == gone.live == 0
    for name, number in scales(decision.effects).items():
        assert 0 <= number <= seen.settings.replicas + 1 or number < by_name[name].replicas
    kept = next((item for item in seen.revisions if item.hash == stable), None)
    if (
        kept
        and kept.hash != target
        and seen.settings.replicas
        and seen.settings.strategy.type == "RollingUpdate"
    ):
        least = seen.settings.replicas - (1 if seen.settings.strategy.max_unavailable else 0)
        proven = sum(min(item.ready, item.replicas) for item in seen.revisions if item is not kept)
        left = scales(decision.effects).get(kept.name, kept.replicas)
        assert left >= min(kept.replicas, least - proven)
    available = sum(item.ready for item in seen.revisions) > 0
    told = {item.type: item.status for item in decision.report.conditions} if decision.report else {}
    assert told["Available"] == ("True" if available else "False")


def test_a_status_stays_small_whatever_there_is() -> None:
    names = [f"model-{number:02d}-{'x' * 40}" for number in range(16)]
    revisions = [revision(desired(f"v1.{n}.0", *names), replicas=0, age=n) for n in range(50)]
    wanted = desired("v1.0.0", *names)
    decision = decide(observed(wanted, *revisions, settings=Settings(history_limit=50)), NOW)
    assert decision.status is not None
    assert len(json.dumps(decision.status)) < 16 * 1024


def test_pods_that_hold_different_content_degrade_the_service() -> None:
    wanted = desired("v1.0.0")
    made = revision(wanted, replicas=2, ready=2, promoted="2026")
    pods = (pod(made, 1, ready=True, content="sha256:aa"), pod(made, 2, ready=True, content="sha256:bb"))
    decision = decide(
        observed(
            wanted, made, pods=pods, settings=Settings(replicas=2), status={"stableRevision": made.hash}
        ),
        NOW,
    )
    assert decision.report is not None
    degraded = next(item for item in decision.report.conditions if item.type == "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "ContentChanged")
    assert decision.report.phase == "Ready"


def test_a_surge_without_a_place_is_told_the_way_out() -> None:
    old, new = desired("v1.0.0"), desired("v1.1.0")
    stable, target = revision(old, replicas=1, ready=1, promoted="2026"), revision(new, replicas=1)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
    stuck = replace(pod(target, 1), raw={"metadata": {"name": "p"}, "status": {"conditions": [condition]}})
    seen = observed(new, stable, target, pods=(stuck,), status={"stableRevision": stable.hash})
    decision = decide(seen, NOW)
    assert decision.report is not None
    assert "maxSurge: 0, maxUnavailable: 1" in decision.report.message
    scarce = Settings(strategy=Strategy(max_surge=0, max_unavailable=1))
    again = decide(replace(seen, settings=scarce), NOW)
    assert again.report is not None
    assert "maxSurge" not in again.report.message


def test_mere_bytes_are_written_at_most_so_often() -> None:
    wanted = desired("v1.0.0")
    made = revision(wanted)
    mine = pod(made, 1)

    def pulled(done: int) -> dict[str, Observation]:
        model = ModelProgress(name="m", state="Pulling", bytes_done=done, bytes_total=100)
        return {mine.uid: Observation(stage="Pulling", models=(model,))}

    seen = observed(wanted, made, pods=(mine,), seen=pulled(1))
    first = decide(seen, NOW)
    assert first.status is not None
    seen = replace(seen, status=first.status, seen=pulled(2), written=NOW)
    soon = decide(seen, NOW + timedelta(seconds=2))
    assert soon.status is None
    assert soon.requeue_after == PROGRESS_INTERVAL - 2
    due = decide(seen, NOW + timedelta(seconds=5))
    assert due.status is not None
    ready = replace(made, ready=1)
    other = replace(seen, revisions=(ready,))
    assert decide(other, NOW + timedelta(seconds=1)).status is not None, "anything else is written at once"


def test_children_of_the_revision_are_made_again_if_they_are_gone() -> None:
    wanted = desired("v1.0.0")
    made = revision(wanted, ready=1, promoted="2026")
    seen = observed(wanted, made, status={"stableRevision": made.hash})
    names = [e.object.key.name for e in decide(seen, NOW).effects if isinstance(e, Create)]
    assert names.count(made.name) == 2
    raw = {"metadata": {"labels": labels("svc", made.hash)}}
    child = {("ConfigMap", made.name): Child("u", "1", raw), ("Service", made.name): Child("u", "1", raw)}
    names = [
        e.object.key.name for e in decide(replace(seen, children=child), NOW).effects if isinstance(e, Create)
    ]
    assert made.name not in names


def test_of_two_revisions_that_fit_the_current_one_stays() -> None:
    """A spec without an image fits revisions that differ in nothing but their image."""
    wanted = desired("v1.0.0")
    made = [identify(wanted, image=image) for image in ("i:1", "i:2")]
    revisions = [
        replace(
            revision(wanted, ready=1),
            hash=item.hash,
            name=f"svc-{item.hash}",
            recorded=Recorded(item.hash, item.image, item.version, item.inputs),
        )
        for item in made
        if item is not None
    ]
    for current in revisions:
        decision = decide(observed(wanted, *revisions, status={"updatedRevision": current.hash}), NOW)
        assert decision.report is not None
        assert decision.report.status["updatedRevision"] == current.hash
