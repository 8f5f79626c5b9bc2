import pytest

from controller_runtime import DEPLOYMENT, Key, Kind, Object
from controller_runtime._handlers import EnqueueForObject, EnqueueForOwner, EnqueueMapped, QueueFeeder
from controller_runtime._predicates import Predicate, generation_changed
from controller_runtime._workqueue import LOW_PRIORITY, WorkQueue

CLUSTER = Kind("example.org", "v1", "Fleet", "fleets", namespaced=False)


def pod(name: str = "p", version: str = "1", **metadata: object) -> Object:
    return Object({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version, **metadata}})


def ref(kind: str, name: str, *, api: str = "apps/v1", controller: bool | None = True) -> dict[str, object]:
    reference: dict[str, object] = {"apiVersion": api, "kind": kind, "name": name, "uid": "u"}
    if controller is not None:
        reference["controller"] = controller
    return reference


def test_owner_is_matched_by_group_and_kind_and_not_by_version() -> None:
    mapper = EnqueueForOwner(DEPLOYMENT)
    child = pod(
        ownerReferences=[
            ref("Deployment", "other-group", api="example.org/v1"),
            ref("ReplicaSet", "other-kind"),
            ref("Deployment", "not-controlling", controller=None),
            ref("Deployment", "old", api="apps/v1beta1"),
        ]
    )
    assert list(mapper.of(child)) == [Key("ns", "old")]
    assert list(mapper.of(pod())) == []


def test_any_owner_on_request_and_cluster_scoped_owners_have_no_namespace() -> None:
    child = pod(
        ownerReferences=[ref("Fleet", "f", api="example.org/v2", controller=False), ref("Deployment", "d")]
    )
    assert list(EnqueueForOwner(CLUSTER).of(child)) == []
    assert list(EnqueueForOwner(CLUSTER, only_controller=False).of(child)) == [Key("", "f")]


def test_a_change_looks_at_old_and_new_owner_once() -> None:
    mapper = EnqueueForOwner(DEPLOYMENT)
    before, after = (
        pod(ownerReferences=[ref("Deployment", "a")]),
        pod(ownerReferences=[ref("Deployment", "b")]),
    )
    assert list(mapper.of_change(before, after)) == [Key("ns", "a"), Key("ns", "b")]
    assert list(mapper.of_change(before, before)) == [Key("ns", "a")]


def test_mapped_runs_on_old_and_new_and_removes_duplicates() -> None:
    mapper = EnqueueMapped(lambda obj: [Key("ns", obj.name), Key("ns", "shared"), Key("ns", "shared")])
    assert list(mapper.of(pod("a"))) == [Key("ns", "a"), Key("ns", "shared")]
    assert list(mapper.of_change(pod("a"), pod("b"))) == [Key("ns", "a"), Key("ns", "shared"), Key("ns", "b")]


def test_for_object() -> None:
    assert list(EnqueueForObject().of(pod("a"))) == [Key("ns", "a")]
    assert list(EnqueueForObject().of_change(pod("a"), pod("a"))) == [Key("ns", "a")]


async def take(queue: WorkQueue[Key]) -> list[tuple[str, int]]:
    taken = []
    while len(queue):
        item = await queue.get()
        queue.done(item.key)
        taken.append((item.key.name, item.priority))
    return taken


async def test_initial_list_and_unchanged_updates_have_low_priority() -> None:
    queue: WorkQueue[Key] = WorkQueue()
    feeder = QueueFeeder(queue, EnqueueForObject())
    feeder.on_add(pod("initial"), True)
    feeder.on_update(pod("resync"), pod("resync"))
    feeder.on_add(pod("new"), False)
    feeder.on_update(pod("changed"), pod("changed", "2"))
    feeder.on_delete(pod("gone"), True)
    feeder.on_generic(pod("generic"))
    assert await take(queue) == [
        *[("new", 0), ("changed", 0), ("gone", 0), ("generic", 0)],
        *[("initial", LOW_PRIORITY), ("resync", LOW_PRIORITY)],
    ]


async def test_each_event_asks_its_own_predicate() -> None:
    queue: WorkQueue[Key] = WorkQueue()
    asked: list[str] = []

    def no(name: str) -> bool:
        asked.append(name)
        return False

    feeder = QueueFeeder(
        queue,
        EnqueueForObject(),
        Predicate(
            create=lambda obj: no("create"),
            update=lambda old, new: no("update"),
            delete=lambda obj: no("delete"),
            generic=lambda obj: no("generic"),
        ),
    )
    feeder.on_add(pod(), False)
    feeder.on_update(pod(), pod(version="2"))
    feeder.on_delete(pod(), False)
    feeder.on_generic(pod())
    assert asked == ["create", "update", "delete", "generic"]
    assert len(queue) == 0


async def test_priority_of_the_watch_is_used_and_the_old_owner_hears_of_a_filtered_kind() -> None:
    queue: WorkQueue[Key] = WorkQueue()
    feeder = QueueFeeder(queue, EnqueueForOwner(DEPLOYMENT), generation_changed, priority=7)
    owned = pod(ownerReferences=[ref("Deployment", "d")], generation=1)
    feeder.on_update(owned, pod(version="2", generation=1))
    assert len(queue) == 0
    feeder.on_update(owned, pod(version="2", generation=2))
    assert await take(queue) == [("d", 7)]


def test_a_mapper_that_raises_is_not_swallowed_here() -> None:
    def broken(obj: Object) -> list[Key]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        QueueFeeder(WorkQueue(), EnqueueMapped(broken)).on_add(pod(), False)
