"""Keys, kinds, views and what they refuse."""

from __future__ import annotations

import pytest

from controller_runtime import CONFIG_MAP, DEPLOYMENT, NODE, POD, Key, Kind, Object, Request, owner_reference
from controller_runtime._kinds import BUILT_IN
from controller_runtime._objects import split_api_version


def test_key() -> None:
    assert str(Key("a", "b")) == "a/b"
    assert str(Key("", "b")) == "b"
    assert Request is Key


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (POD.path(), "/api/v1/pods"),
        (POD.path("a"), "/api/v1/namespaces/a/pods"),
        (POD.path("a", "b"), "/api/v1/namespaces/a/pods/b"),
        (DEPLOYMENT.path("a", "b", "scale"), "/apis/apps/v1/namespaces/a/deployments/b/scale"),
        (NODE.path("", "n"), "/api/v1/nodes/n"),
        (NODE.path("ignored", "n"), "/api/v1/nodes/n"),
        (CONFIG_MAP.path("a", "b/../c"), "/api/v1/namespaces/a/configmaps/b%2F..%2Fc"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


def test_paths_that_would_address_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="Pod 'b': kind is namespaced"):
        POD.path("", "b")
    with pytest.raises(ValueError, match="Thing: its plural is not known"):
        Object({"apiVersion": "x/v1", "kind": "Thing"}).kind.path()


def test_kinds_name_themselves() -> None:
    assert (POD.api_version, DEPLOYMENT.api_version) == ("v1", "apps/v1")
    assert (POD.resource, DEPLOYMENT.resource) == ("pods", "deployments.apps")
    assert (str(POD), str(DEPLOYMENT)) == ("Pod", "Deployment.apps")
    assert len(set(BUILT_IN)) == len(BUILT_IN) == 21
    assert split_api_version("v1") == ("", "v1")
    assert split_api_version("a.b/v2") == ("a.b", "v2")


def test_an_object_reads_its_dictionary() -> None:
    raw = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "d",
            "namespace": "n",
            "uid": "u",
            "resourceVersion": "5",
            "generation": 2,
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "finalizers": ["f"],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"uid": "x"}, {"uid": "y", "controller": True}],
        },
        "spec": {"replicas": 1},
        "status": {"ready": True},
    }
    obj = Object(raw)
    assert obj.kind == Kind("apps", "v1", "Deployment", "")
    assert (obj.key, obj.uid, obj.resource_version, obj.generation) == (Key("n", "d"), "u", "5", 2)
    assert (obj.labels, obj.annotations, obj.finalizers) == ({"a": "b"}, {"c": "d"}, ["f"])
    assert obj.deleting
    assert obj.controller_uid == "y"
    assert (obj.spec, obj.status) == ({"replicas": 1}, {"ready": True})
    raw["metadata"]["labels"] = {"changed": "yes"}  # type: ignore[index]
    assert obj.labels == {"changed": "yes"}
    assert repr(obj) == "<Deployment n/d resourceVersion=5>"


def test_an_empty_object_has_empty_parts() -> None:
    obj = Object({"metadata": None, "spec": None}, POD)
    assert (obj.name, obj.namespace, obj.uid, obj.resource_version, obj.controller_uid) == (
        "",
        "",
        "",
        "",
        "",
    )
    assert (obj.labels, obj.annotations, obj.spec, obj.status, obj.finalizers) == ({}, {}, {}, {}, [])
    assert (obj.generation, obj.deleting, obj.owner_references) == (0, False, [])
    assert obj.api_version == "v1"
    assert "Pod" in repr(obj)


def test_owner_reference() -> None:
    owner = Object({"metadata": {"name": "d", "uid": "u"}}, DEPLOYMENT)
    assert owner_reference(owner) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "d",
        "uid": "u",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert owner_reference(owner, controller=False, block=False)["controller"] is False
    with pytest.raises(ValueError, match="no uid"):
        owner_reference(Object({"metadata": {"name": "d"}}, DEPLOYMENT))
