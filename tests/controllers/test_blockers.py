"""What is in the way of a pod: one reason, one line."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.blockers import Blocker, choose, of_deployment, of_pod, report
from controllers.probe import ModelProgress, Observation
from controllers.reasons import FATAL_IN_POD, Reason
from tests.support import fakenode


def blocker(status: Mapping[str, object], seen: Observation | None = None) -> Blocker | None:
    return of_pod({"metadata": {"name": "p"}, "status": status}, seen)


def said(**words: object) -> str:
    return json.dumps({"result": "failed", **words})


@pytest.mark.parametrize(
    ("status", "reason", "message", "fatal"),
    [
        (
            fakenode.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            Reason.Unschedulable,
            "pod p cannot be scheduled: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            False,
        ),
        (
            fakenode.waiting("ErrImagePull", "no such\nhost"),
            Reason.ImagePullFailed,
            "pod p cannot pull image paddle-runtime:dev: no such host",
            False,
        ),
        (
            fakenode.waiting("ErrImageNeverPull", ""),
            Reason.ImagePullFailed,
            "pod p cannot pull image paddle-runtime:dev: ErrImageNeverPull",
            True,
        ),
        (
            fakenode.waiting("CreateContainerConfigError", "couldn't find key TOKEN in Secret a/b"),
            Reason.ContainerConfigError,
            "pod p cannot start container server: couldn't find key TOKEN in Secret a/b",
            False,
        ),
        (
            fakenode.crashed(name="pull", code=137, reason="OOMKilled"),
            Reason.OutOfMemory,
            "pod p container pull was killed: out of memory: raise resources.limits.memory",
            False,
        ),
        (
            fakenode.crashed(code=139, message="line one\nSegmentation fault\n", restarts=4),
            Reason.CrashLoop,
            "pod p container server keeps ending 4 times with exit code 139: Segmentation fault",
            False,
        ),
        (
            fakenode.failed_pull("ChecksumMismatch", "m.json: expected aa, found bb"),
            Reason.ChecksumMismatch,
            "pod p cannot pull the model: m.json: expected aa, found bb",
            True,
        ),
        (
            fakenode.failed_pull("SomethingNew", "who knows"),
            Reason.PullFailed,
            "pod p cannot pull the model: who knows",
            False,
        ),
        (
            fakenode.crashed(message=said(reason="CorruptModel", message="bad magic")),
            Reason.CorruptModel,
            "pod p cannot serve: bad magic",
            True,
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            Reason.OutOfMemory,
            "pod p was ended (Evicted): The node was low on resource: memory.",
            False,
        ),
    ],
)
def test_what_a_pod_says(status: Mapping[str, object], reason: Reason, message: str, fatal: bool) -> None:
    found = blocker(status)
    assert found is not None
    assert (found.reason, found.message, found.fatal) == (reason, message, fatal)


def test_a_container_between_two_tries_still_says_why() -> None:
    ended = {"terminated": {"exitCode": 1, "message": said(reason="KeyNotFound", message="no key")}}
    item = fakenode.container("pull", state={"running": {}}, last=ended, restarts=1)
    found = blocker({"initContainerStatuses": [item]})
    assert found is not None
    assert found.reason is Reason.KeyNotFound


@pytest.mark.parametrize(
    "status",
    [
        {},
        fakenode.running(ready=True),
        fakenode.running(ready=False),
        fakenode.pulling(),
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
        {
            "containerStatuses": [
                fakenode.container("server", state={"waiting": {"reason": "PodInitializing"}})
            ]
        },
    ],
)
def test_a_pod_that_is_on_its_way_has_no_blocker(status: Mapping[str, object]) -> None:
    assert blocker(status) is None


def test_a_runtime_that_stays_up_tells_on_its_admin_port() -> None:
    failed = ModelProgress(name="m", state="Failed", reason="SchemaMismatch", message="input x is FP32")
    seen = Observation(stage="Failed", models=(ModelProgress(name="a", state="Ready"), failed))
    found = blocker(fakenode.running(ready=False), seen)
    assert found == Blocker(Reason.SchemaMismatch, "pod p cannot serve model m: input x is FP32", True, "p")
    pulling = Observation(stage="Pulling", models=(ModelProgress(name="m", state="Failed", reason="New"),))
    found = blocker(fakenode.pulling(), pulling)
    assert found is not None
    assert found.reason is Reason.PullFailed


def test_pods_that_are_refused() -> None:
    message = 'pods "x" is forbidden: exceeded quota: q, requested: cpu=1'
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    found = of_deployment("svc-1", {"conditions": [{"type": "Available", "status": "False"}, condition]})
    assert found == Blocker(Reason.PodRefused, f"the pods of svc-1 are refused: {message}")
    assert of_deployment("svc-1", {"conditions": [{**condition, "status": "False"}]}) is None


found = st.builds(
    Blocker, st.sampled_from(Reason), st.text("ab", max_size=2), st.booleans(), st.text("pq", max_size=1)
)


@given(st.lists(found, min_size=1, max_size=6), st.randoms())
def test_the_choice_does_not_depend_on_the_order(items: list[Blocker], random: object) -> None:
    first = choose(items)
    random.shuffle(items)  # type: ignore[attr-defined]
    assert choose(items) == first
    assert first is not None
    if any(item.fatal for item in items):
        assert first.fatal


def test_the_most_telling_comes_first() -> None:
    crash, memory = Blocker(Reason.CrashLoop, "c"), Blocker(Reason.OutOfMemory, "o")
    pull, place = Blocker(Reason.KeyNotFound, "k"), Blocker(Reason.Unschedulable, "u")
    assert choose([crash, place]) == place
    assert choose([crash, place, memory]) == memory
    assert choose([crash, place, memory, pull]) == pull
    assert choose([None]) is None


@given(st.text(max_size=50) | st.just('{"result": "ok"}') | st.just("[1]") | st.just('{"a":1}'))
def test_a_termination_message_may_be_anything(text: str) -> None:
    value = report(text)
    assert value is None or "result" in value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(
    st.dictionaries(
        st.sampled_from(["conditions", "containerStatuses", "initContainerStatuses", "phase", "reason"]),
        json_values,
    )
)
def test_no_status_of_a_pod_breaks_it(status: dict[str, object]) -> None:
    found = blocker(status)
    assert found is None or "\n" not in found.message


def test_what_no_retry_cures_is_fatal_wherever_it_is_said() -> None:
    for reason in FATAL_IN_POD:
        found = blocker(fakenode.failed_pull(reason, "x"))
        assert found is not None
        assert found.fatal
