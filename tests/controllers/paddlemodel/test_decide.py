"""What a PaddleModel's pass decides, from every side, without a server."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import controller_runtime as ctrl
from artifacts import File, Manifest
from controllers.paddlemodel.decide import Decision, decide, decide_deleting
from controllers.reasons import Reason
from controllers.resolver import Outcome, Pending, Resolved

from .histories import OPTIONS, T0, at, condition, manifest, model, observe, rejected, resolved, service_from


def step(
    of: ctrl.Object, outcome: Outcome | None = None, service: ctrl.Object | None = None, now: float = 0
) -> Decision:
    return decide(observe(of, outcome, service), OPTIONS, at(now))


def served(of: ctrl.Object) -> tuple[ctrl.Object, Decision]:
    """The model after its artefact was resolved, and what was decided then."""
    decision = step(of, resolved(of))
    return model(spec=of.spec, status=decision.status, generation=of.generation), decision


def test_a_new_model_is_initialized_and_says_what_it_asks() -> None:
    decision = step(model(), Pending(0))
    assert decision.status["phase"] == "Initialized"
    assert "s3://models/lenet-v1" in str(decision.status["message"])
    assert decision.service is None
    assert [event.message.split(":")[0] for event in decision.events] == ["New -> Initialized"]


def test_the_store_says_no_within_initialized_and_fails_after_the_deadline() -> None:
    no = rejected(Reason.BucketNotFound, "bucket models does not exist")
    first = step(model(), no)
    assert first.status["phase"] == "Initialized"
    assert first.status["message"] == "bucket models does not exist"
    artifact = condition(first.status, "ArtifactResolved")
    assert artifact is not None
    assert (artifact["status"], artifact["reason"]) == ("False", "BucketNotFound")
    assert any(event.warning and event.reason is Reason.BucketNotFound for event in first.events)
    assert first.requeue_after == pytest.approx(600)

    again = step(model(status=first.status), no, now=10)
    assert again.status == first.status
    assert again.events == ()

    late = step(model(status=first.status), no, now=601)
    assert late.status["phase"] == "Failed"
    assert condition(late.status, "Stalled") is not None
    assert late.events[-1].reason is Reason.BucketNotFound

    healed = step(model(status=late.status), resolved(model()), now=700)
    assert healed.status["phase"] == "Deploying"
    assert condition(healed.status, "Stalled") is None
    assert healed.service is not None


def test_what_was_resolved_is_pinned_and_handed_over_once() -> None:
    after, first = served(model())
    assert first.service is not None
    pinned = first.service["spec"]["models"][0]["pinned"]  # type: ignore[index]
    assert pinned["version"] == "v1.0.0"
    assert pinned["digest"] == first.status["artifact"]["digest"]  # type: ignore[index]
    assert pinned["source"]["files"][0]["etag"] == "e1"

    service = service_from(first.service, phase="Deploying", message="pulling")
    second = step(after, None, service)
    assert second.service is None
    assert second.status["phase"] == "Deploying"
    assert second.status["message"] == "pulling"

    ready = step(after, None, service_from(first.service, phase="Ready"))
    assert ready.status["phase"] == "Ready"
    assert ready.status["url"] == "http://lenet.default.svc"
    assert ready.status["revision"] == "abcd1234"
    assert ready.status["replicas"] == {"desired": 1, "ready": 1}
    assert ready.status["artifact"]["contentDigest"] == "sha256:ff"  # type: ignore[index]
    quiet = step(model(status=ready.status), None, service_from(first.service, phase="Ready"), now=99)
    assert quiet.status == ready.status
    assert quiet.events == ()
    assert quiet.service is None


def test_a_failed_service_fails_the_model_with_its_reason() -> None:
    after, first = served(model())
    assert first.service is not None
    service = service_from(first.service, phase="Failed", message="inference.json is truncated")
    failed = step(after, None, service)
    assert failed.status["phase"] == "Failed"
    assert failed.status["message"] == "inference.json is truncated"
    ready = condition(failed.status, "Ready")
    assert ready is not None
    assert ready["reason"] == "CorruptModel"


def test_a_phase_of_an_older_generation_of_the_service_is_not_believed() -> None:
    after, first = served(model())
    assert first.service is not None
    stale = service_from(first.service, phase="Ready", observed=0)
    assert step(after, None, stale).status["phase"] == "Deploying"


def test_replicas_change_without_asking_the_store_again() -> None:
    after, first = served(model())
    scaled = model(spec={"serving": {"replicas": 3}}, status=after.status, generation=2)
    decision = step(scaled, None, service_from(first.service or {}, phase="Ready"))
    assert decision.service is not None
    assert decision.service["spec"]["replicas"] == 3  # type: ignore[index]
    before = first.service["spec"]["models"][0]["pinned"]  # type: ignore[index]
    assert decision.service["spec"]["models"][0]["pinned"] == before  # type: ignore[index]


def test_a_new_version_is_resolved_while_the_old_one_serves() -> None:
    after, first = served(model())
    assert first.service is not None
    live = service_from(first.service, phase="Ready")
    changed = model(
        spec={"version": "v1.1.0", "modelPath": "minio://models/lenet-v2"}, status=after.status, generation=2
    )
    asking = step(changed, Pending(0), live)
    assert asking.status["phase"] == "Initialized"
    assert asking.service is None
    available = condition(asking.status, "Available")
    assert available is not None
    assert available["status"] == "True"
    assert asking.status["artifact"] == after.status["artifact"]
    found = step(model(spec=changed.spec, status=asking.status, generation=2), resolved(changed), live)
    assert found.service is not None
    assert found.service["spec"]["models"][0]["pinned"]["version"] == "v1.1.0"  # type: ignore[index]
    assert [item["version"] for item in found.status["versions"]] == ["v1.1.0", "v1.0.0"]  # type: ignore[attr-defined]


def test_a_foreign_service_is_left_alone() -> None:
    _, first = served(model())
    foreign = service_from(first.service or {}, phase="Ready", owner="somebody")
    decision = step(model(), resolved(model()), foreign)
    assert decision.service is None
    assert decision.remove_service == ""
    assert decision.status["phase"] == "Failed"
    assert condition(decision.status, "NameConflict") is not None
    assert step(model(status=decision.status), None, None).status["phase"] == "Deploying"


def test_serving_disabled_keeps_the_artefact_and_removes_our_service() -> None:
    _, first = served(model())
    off = model(spec={"serving": {"enabled": False}}, status=first.status, generation=2)
    decision = step(off, None, service_from(first.service or {}, phase="Ready"))
    assert decision.status["phase"] == "Ready"
    assert decision.service is None
    assert decision.remove_service == "s-1"
    foreign = service_from(first.service or {}, phase="Ready", owner="somebody")
    assert step(off, None, foreign).remove_service == ""


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"compatibility": {"runtime": ">=4"}}, "excludes the runtime's Paddle 3.3.1"),
        ({"compatibility": {"hardware": ["gpu"]}}, "set serving.gpu"),
        ({"compatibility": {"hardware": ["cpu"]}, "serving": {"gpu": {"count": 1}}}, "remove serving.gpu"),
    ],
)
def test_what_can_never_work_is_refused_before_there_is_a_pod(spec: dict[str, object], word: str) -> None:
    decision = step(model(spec=spec), resolved(model(spec=spec)))
    assert decision.status["phase"] == "Failed"
    assert decision.service is None
    assert word in str(decision.status["message"])


def test_drift_is_reported_and_nothing_else() -> None:
    after, first = served(model())
    assert first.service is not None
    live = service_from(first.service, phase="Ready")
    drifted = step(after, resolved(model(), etag="e2"), live)
    assert condition(drifted.status, "Drifted") is not None
    assert drifted.service is None
    assert drifted.status["phase"] == "Ready"
    assert condition(step(after, resolved(model()), live).status, "Drifted") is None


def test_drift_behind_a_demanded_checksum_is_seen_by_its_etag() -> None:
    of = model(spec={"checksum": "sha256:" + "0" * 64})

    def answer(etag: str) -> Resolved:
        found = manifest(of, etag=etag)
        files = [replace(file, sha256="0" * 64) for file in found.files]
        return Resolved(Manifest.of(found.source, files), 0.0)

    first = step(of, answer("e1"))
    assert first.service is not None
    after = model(spec=of.spec, status=first.status)
    live = service_from(first.service, phase="Ready")
    assert condition(step(after, answer("e1"), live).status, "Drifted") is None
    assert condition(step(after, answer("e2"), live).status, "Drifted") is not None


def test_drift_that_the_service_found_is_told_by_the_model_too() -> None:
    after, first = served(model())
    live = service_from(first.service or {}, phase="Ready")
    live.status["conditions"].append(
        {
            "type": "Drifted",
            "status": "True",
            "reason": "Drifted",
            "message": "lenet-abcd1234 was edited",
        }
    )
    told = condition(step(after, None, live).status, "Drifted")
    assert told is not None
    assert "lenet-abcd1234" in str(told["message"])


def test_too_many_files_are_told_and_not_pinned() -> None:
    of = model()
    files = [File(key=f"k/{number}", path=f"{number}", size=1, etag="e") for number in range(65)]
    decision = step(of, Resolved(Manifest.of(manifest(of).source, files), 0.0))
    assert "artifact" not in decision.status
    assert decision.service is None
    assert "pack it as a tar" in str(decision.status["message"])


def test_deletion_names_who_holds_it() -> None:
    of, _ = served(model())
    watched = observe(of)
    status = decide_deleting(
        type(watched)(model=of, spec=watched.spec, wanted=None, outcome=None, users=("other",)), T0
    )
    blocked = condition(status, "DeletionBlocked")
    assert blocked is not None
    assert "PaddleService other" in str(blocked["message"])
    assert status["phase"] == of.status["phase"]


outcomes = st.sampled_from(["none", "pending", "resolved", "resolved2", "denied"])
phases = st.sampled_from(["absent", "Initialized", "Deploying", "Ready", "Failed"])


@given(st.lists(st.tuples(outcomes, phases, st.integers(0, 700)), max_size=12))
def test_any_history_settles_and_never_hands_over_what_is_not_pinned(
    history: list[tuple[str, str, int]],
) -> None:
    of, applied, now = model(), None, 0.0
    for outcome, phase, passed in history:
        now += passed
        answer: Outcome | None = {
            "none": None,
            "pending": Pending(0),
            "resolved": resolved(of),
            "resolved2": resolved(of, etag="other"),
            "denied": rejected(Reason.AccessDenied, "no"),
        }[outcome]
        service = service_from(applied, phase=phase) if applied and phase != "absent" else None
        decision = step(of, answer, service, now)
        if decision.service is not None:
            assert "artifact" in decision.status
            applied = decision.service
        before = of.status.get("artifact")
        if before:
            assert decision.status["artifact"]["digest"] == before["digest"]  # type: ignore[index]
        of = model(status=decision.status)
        settled = step(of, answer, service, now)
        assert settled.status == decision.status
        assert settled.events == ()
        assert T0 + timedelta(seconds=now) >= T0


def test_a_model_with_a_canary_stays_ready_and_tells_of_the_run() -> None:
    serving = {"updateStrategy": {"type": "Canary"}}
    first = model(spec={**model().spec, "serving": serving})
    after, decided = served(first)
    assert decided.service is not None
    ready = step(after, None, service_from(decided.service, phase="Ready"))
    assert ready.status["phase"] == "Ready"

    spec = {**first.spec, "version": "v1.1.0", "modelPath": "s3://models/lenet-v2"}
    changed = model(spec=spec, status=ready.status, generation=2)
    resolving = step(changed, Pending(0), service_from(decided.service, phase="Ready"))
    assert resolving.status["phase"] == "Ready"
    assert [event.message for event in resolving.events] == []
    missing = rejected(Reason.KeyNotFound, "no such key")
    wrong = step(changed, missing, service_from(decided.service, phase="Ready"), now=1000)
    assert wrong.status["phase"] == "Ready"
    assert wrong.status["message"] == "no such key"
    assert (condition(wrong.status, "ArtifactResolved") or {})["reason"] == "KeyNotFound"

    handed = step(changed, resolved(changed), service_from(decided.service, phase="Ready"))
    assert handed.service is not None
    assert (condition(handed.status, "Reconciling") or {})["status"] == "True"
    service = service_from(handed.service, phase="Ready")
    service.status["display"] = {"ready": "1/1", "canary": "5% 1/2"}
    service.status["models"] = [{"name": "lenet", "version": "v1.0.0", "contentDigest": "sha256:ff"}]
    service.status["conditions"] += [
        {"type": "Progressing", "status": "True", "reason": "CanaryAnalysing", "message": "run"},
        {"type": "TrafficVerified", "status": "True", "reason": "TrafficVerified", "message": "5 %"},
    ]
    later = model(spec=spec, status=handed.status, generation=2)
    running = step(later, None, service)
    assert running.status["phase"] == "Ready"
    assert running.status["display"] == {"ready": "1/1", "canary": "5% 1/2"}
    assert (condition(running.status, "Progressing") or {})["reason"] == "CanaryAnalysing"
    assert (condition(running.status, "TrafficVerified") or {})["status"] == "True"
    artifact = running.status["artifact"]
    assert "contentDigest" not in artifact, "that of the version in place"  # type: ignore[operator]
