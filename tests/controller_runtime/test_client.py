"""The client against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from controller_runtime import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    JSON,
    NAMESPACE,
    SECRET,
    AlreadyExists,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    Key,
    Kind,
    NotCached,
    NotFound,
    NotLeader,
    Object,
    connect,
    create_or_update,
    retry_on_conflict,
)
from controller_runtime.testing import Envtest, FakeClock

pytestmark = pytest.mark.apiserver


@pytest.fixture
async def client(apiserver: Envtest) -> AsyncIterator[Client]:
    async with apiserver.client(field_manager="tester") as client:
        yield client


def config_map(namespace: str, name: str, **data: str) -> JSON:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(namespace: str, name: str, replicas: int | None = 1) -> JSON:
    labels = {"app": name}
    spec: JSON = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "image"}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


async def test_create_get_delete(client: Client, namespace: str) -> None:
    key = Key(namespace, "a")
    assert await client.get(CONFIG_MAP, key) is None
    made = await client.create(config_map(namespace, "a", x="1"))
    assert (made.kind, made.key) == (CONFIG_MAP, key)
    with pytest.raises(AlreadyExists) as raised:
        await client.create(config_map(namespace, "a"))
    assert raised.value.details["name"] == "a"
    found = await client.get(CONFIG_MAP, key)
    assert found is not None
    assert found.raw["data"] == {"x": "1"}
    assert await client.delete(CONFIG_MAP, key)
    assert not await client.delete(CONFIG_MAP, key)


async def test_create_gives_names(client: Client, namespace: str) -> None:
    raw = config_map(namespace, "")
    raw["metadata"] = {"namespace": namespace, "generateName": "made-"}
    assert (await client.create(raw)).name.startswith("made-")


async def test_apply_owns_what_it_says_and_removes_what_it_no_longer_says(
    apiserver: Envtest, client: Client, namespace: str
) -> None:
    await client.apply(config_map(namespace, "a", mine="1", both="1"))
    async with apiserver.client(field_manager="other") as other:
        with pytest.raises(Conflict, match='conflict with "tester"'):
            await other.apply(config_map(namespace, "a", both="2"), force=False)
        taken = await other.apply(config_map(namespace, "a", both="2"))
        assert taken.raw["data"] == {"mine": "1", "both": "2"}
    managers = {entry["manager"] for entry in taken.metadata["managedFields"]}
    assert managers == {"tester", "other"}
    left = await client.apply(config_map(namespace, "a"))
    assert left.raw["data"] == {"both": "2"}, "ours vanished, theirs stayed"


async def test_apply_accepts_what_was_read(client: Client, namespace: str) -> None:
    made = await client.apply(config_map(namespace, "a", x="1"))
    assert "managedFields" in made.metadata
    again = await client.apply(made)
    assert "managedFields" in made.metadata, "the caller's object is left alone"
    assert again.raw["data"] == {"x": "1"}


async def test_an_unchanged_apply_is_no_write(client: Client, namespace: str) -> None:
    first = await client.apply(config_map(namespace, "a", x="1"))
    second = await client.apply(config_map(namespace, "a", x="1"))
    assert first.resource_version == second.resource_version


async def test_status_is_applied_apart_from_spec(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, "d"))
    written = await client.apply_status(DEPLOYMENT, made.key, {"observedGeneration": 1, "replicas": 3})
    assert (written.status["replicas"], written.spec["replicas"]) == (3, 1)
    rewritten = await client.apply_status(DEPLOYMENT, made.key, {"observedGeneration": 1})
    assert "replicas" not in rewritten.status, "what is no longer said is removed"


async def test_status_preconditions(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, "d"))
    stale = made.resource_version
    await client.scale(DEPLOYMENT, made.key, 4)
    with pytest.raises(Conflict):
        await client.apply_status(DEPLOYMENT, made.key, {"replicas": 1}, resource_version=stale)
    with pytest.raises(Conflict):
        await client.apply_status(DEPLOYMENT, made.key, {"replicas": 1}, uid="another")
    await client.apply_status(DEPLOYMENT, made.key, {"replicas": 1}, uid=made.uid)
    with pytest.raises(NotFound):
        await client.apply_status(DEPLOYMENT, Key(namespace, "none"), {"replicas": 1})


async def test_scale_changes_replicas_only(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, "d"))
    await client.scale(DEPLOYMENT, made.key, 5)
    scaled = await client.get_live(DEPLOYMENT, made.key)
    assert scaled is not None
    assert scaled.spec == {**made.spec, "replicas": 5}


async def test_update_needs_the_newest_version(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, "a", x="1"))
    await client.patch(CONFIG_MAP, made.key, {"data": {"x": "2"}})
    made.raw["data"]["y"] = "1"
    with pytest.raises(Conflict):
        await client.update(made)

    async def attempt() -> Object:
        current = await client.get(CONFIG_MAP, made.key)
        assert current is not None
        current.raw["data"]["y"] = "1"
        return await client.update(current)

    assert (await retry_on_conflict(attempt)).raw["data"] == {"x": "2", "y": "1"}


async def test_two_writers_of_one_status_lose_nothing(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, "d"))

    async def write(name: str) -> Object:
        current = await client.get_live(DEPLOYMENT, made.key)
        assert current is not None
        conditions = current.raw.setdefault("status", {}).setdefault("conditions", [])
        conditions.append({"type": name, "status": "True"})
        return await client.update(current, subresource="status")

    names = [f"c{number}" for number in range(4)]
    await asyncio.gather(*(retry_on_conflict(partial(write, name)) for name in names))
    current = await client.get_live(DEPLOYMENT, made.key)
    assert current is not None
    assert sorted(item["type"] for item in current.status["conditions"]) == names


async def test_patches(client: Client, namespace: str) -> None:
    made = await client.create(deployment(namespace, "d"))
    containers = {"spec": {"template": {"spec": {"containers": [{"name": "c", "imagePullPolicy": "Never"}]}}}}
    patched = await client.patch(DEPLOYMENT, made.key, containers, type="strategic")
    assert patched.spec["template"]["spec"]["containers"][0]["image"] == "image"
    test = {"op": "test", "path": "/spec/replicas", "value": 99}
    with pytest.raises(Invalid):
        await client.patch(DEPLOYMENT, made.key, [test], type="json")
    replace = {"op": "replace", "path": "/spec/replicas", "value": 2}
    assert (await client.patch(DEPLOYMENT, made.key, [replace], type="json")).spec["replicas"] == 2


async def test_delete_with_the_uid_of_another_is_refused(client: Client, namespace: str) -> None:
    made = await client.create(config_map(namespace, "a"))
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, made.key, uid="not-this-one")
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, made.key, uid=made.uid, resource_version="1")
    assert await client.delete(CONFIG_MAP, made.key, uid=made.uid)


async def test_list_live_reads_every_page(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller_runtime._client._PAGE", 2)
    for number in range(5):
        raw = config_map(namespace, f"a{number}")
        raw["metadata"]["labels"] = {"odd": str(number % 2)}
        await client.create(raw)
    found = await client.list(CONFIG_MAP, namespace=namespace, labels={"odd": "0"})
    assert [obj.name for obj in found] == ["a0", "a2", "a4"]
    assert found[0].raw["kind"] == "ConfigMap"
    one = await client.list_live(CONFIG_MAP, namespace=namespace, fields="metadata.name=a3")
    assert [obj.name for obj in one] == ["a3"]
    everywhere = await client.list_live(CONFIG_MAP)
    assert len(everywhere) > 5
    with pytest.raises(NotCached, match="needs a cached kind"):
        await client.list(CONFIG_MAP, index=("a", "b"))


async def test_kinds_are_found_on_the_server(client: Client, namespace: str) -> None:
    metadata = {"name": "high", "namespace": namespace}
    raw = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "1"}}}
    assert (await client.create(raw)).kind == Kind("", "v1", "ResourceQuota", "resourcequotas")
    with pytest.raises(NotFound, match="no resource for kind 'Nothing' in v1; apply its CRD"):
        await client.create({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}})
    with pytest.raises(NotFound, match=r"in none\.example/v1"):
        await client.create({"apiVersion": "none.example/v1", "kind": "X", "metadata": {"name": "x"}})
    with pytest.raises(ValueError, match="object without 'kind'"):
        await client.create({"apiVersion": "v1"})


async def test_an_object_of_a_spelled_out_kind_needs_no_discovery(client: Client, namespace: str) -> None:
    kind = Kind("", "v1", "LimitRange", "limitranges")
    obj = Object({"metadata": {"name": "l", "namespace": namespace}, "spec": {"limits": []}}, kind)
    assert (await client.create(obj)).kind == kind
    assert client.mapper.known("v1", "LimitRange") == kind


async def test_the_fence_stops_every_write_and_no_read(apiserver: Envtest, namespace: str) -> None:
    def closed() -> None:
        raise NotLeader("not the leader")

    base = connect(apiserver.config)
    client = Client(base._transport, field_manager="fenced", fence=closed)
    key = Key(namespace, "a")
    async with client:
        writes = [
            client.create(config_map(namespace, "a")),
            client.apply(config_map(namespace, "a")),
            client.apply_status(DEPLOYMENT, key, {}),
            client.update(config_map(namespace, "a")),
            client.patch(CONFIG_MAP, key, {}),
            client.scale(DEPLOYMENT, key, 1),
            client.delete(CONFIG_MAP, key),
            client.request("POST", CONFIG_MAP.path(namespace), body=config_map(namespace, "a")),
        ]
        for write in writes:
            with pytest.raises(NotLeader):
                await write
        assert await client.get(CONFIG_MAP, key) is None
        assert await client.list(CONFIG_MAP, namespace=namespace) == []


async def test_reviews_and_raw_requests(apiserver: Envtest, client: Client, namespace: str) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    }
    assert (await client.create_review(review)).status["allowed"] is True
    version = await client.request("GET", "/version")
    assert version["major"] == "1"
    listed = await client.request("GET", SECRET.path(namespace), params={"limit": "1"})
    assert listed["items"] == []


async def test_a_user_without_permission_is_told_what_is_missing(apiserver: Envtest, namespace: str) -> None:
    async with connect(apiserver.user("nobody", ["nothing"])) as client:
        with pytest.raises(Forbidden, match='User "nobody" cannot get resource "secrets"'):
            await client.get(SECRET, Key(namespace, "s"))


async def test_create_or_update_writes_only_changes(client: Client, namespace: str) -> None:
    key = Key(namespace, "a")

    def mutate(raw: JSON) -> None:
        raw["data"] = {"x": "1"}

    made, outcome = await create_or_update(client, CONFIG_MAP, key, mutate)
    assert outcome == "created"
    same, outcome = await create_or_update(client, CONFIG_MAP, key, mutate)
    assert (outcome, same.resource_version) == ("unchanged", made.resource_version)
    changed, outcome = await create_or_update(client, CONFIG_MAP, key, lambda raw: raw["data"].update(y="2"))
    assert (outcome, changed.raw["data"]) == ("updated", {"x": "1", "y": "2"})
    with pytest.raises(ValueError, match="name and namespace must stay"):
        await create_or_update(client, CONFIG_MAP, key, lambda raw: raw["metadata"].update(name="b"))


async def test_cluster_scoped_create_or_update(client: Client, namespace: str) -> None:
    _, outcome = await create_or_update(client, NAMESPACE, Key("", f"{namespace}-2"), lambda raw: None)
    assert outcome == "created"


async def test_retry_on_conflict_gives_up() -> None:
    clock = FakeClock()
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        raise Conflict(409, "Conflict")

    task = asyncio.create_task(retry_on_conflict(attempt, clock=clock, random=lambda: 1.0))
    await clock.advance(0.0439)
    assert tries == 4
    await clock.advance(0.0002)
    with pytest.raises(Conflict):
        await task
    assert tries == 5


def test_a_client_needs_a_name() -> None:
    with pytest.raises(ValueError, match="field_manager is empty"):
        Client(None, field_manager="")  # type: ignore[arg-type]


async def test_events_can_be_written(client: Client, namespace: str) -> None:
    raw = {
        "metadata": {"name": "e", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "namespace": namespace, "name": "p"},
        "reportingController": "tester",
        "reportingInstance": "tester-1",
        "action": "Test",
        "reason": "Test",
        "type": "Normal",
    }
    made = await client.create(Object(raw, EVENT))
    assert made.api_version == "events.k8s.io/v1"
