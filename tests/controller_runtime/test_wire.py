"""Bytes to entries, and the lazy object over them."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller_runtime import JSON, POD, Key
from controller_runtime._lines import LineSplitter
from controller_runtime._wire import (
    MalformedObject,
    StoredObject,
    bookmark_from,
    control_event,
    decode_page,
    entry_from,
    event_from,
)
from controller_runtime.errors import TransportError

from .scripted import THING, bookmark, event, page, thing

MANAGED = [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:size": {}}}}]


@pytest.mark.parametrize(
    "raw",
    [
        thing("a", 1, managedFields=MANAGED),
        thing("a", 1, managedFields=MANAGED) | {"data": {"managedFields": MANAGED}},
        {**thing("a", 1), "metadata": {"managedFields": MANAGED, **thing("a", 1)["metadata"]}},
        {"extra": {"x": 1, "managedFields": MANAGED}, **thing("a", 1, managedFields=MANAGED)},
        thing("a", 1),
        thing("a", 1, managedFields=[]),
    ],
)
@pytest.mark.parametrize("pretty", [False, True])
def test_managed_fields_are_cut_from_metadata_and_nothing_else_is(raw: JSON, pretty: bool) -> None:
    data = orjson.dumps(raw, option=orjson.OPT_INDENT_2 if pretty else 0)
    expected = orjson.loads(data)
    expected["metadata"].pop("managedFields", None)
    assert orjson.loads(entry_from(data).data) == expected
    line = b'{"type":"ADDED","object":' + data.replace(b"\n", b" ") + b"}\n"
    kind, entry = event_from(line)
    assert kind == "ADDED"
    assert orjson.loads(entry.data) == expected


def test_an_event_of_another_spelling_is_read_too() -> None:
    line = orjson.dumps({"object": thing("a", 1), "type": "MODIFIED"}, option=orjson.OPT_INDENT_2)
    kind, entry = event_from(line)
    assert (kind, entry.header.name) == ("MODIFIED", "a")
    assert orjson.loads(entry.data) == thing("a", 1)


def test_transform_shrinks_what_is_stored() -> None:
    def only_name(raw: JSON) -> JSON:
        return {"metadata": {k: raw["metadata"][k] for k in ("name", "resourceVersion")}}

    entry = entry_from(orjson.dumps(thing("a", 1)), only_name)
    assert orjson.loads(entry.data) == {"metadata": {"name": "a", "resourceVersion": "1"}}
    with pytest.raises(MalformedObject, match=r"ns/a: transform failed: ZeroDivisionError"):
        entry_from(orjson.dumps(thing("a", 1)), lambda raw: {"x": 1 / 0})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nope",
        b"[]",
        b'{"metadata": null}',
        b'{"metadata": {"name": "a"}}',
        b'{"metadata": {"name": "", "resourceVersion": "1"}}',
        b'{"metadata": {"name": "a", "resourceVersion": "1", "labels": {"a": 1}}}',
    ],
)
def test_what_is_no_object_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedObject):
        entry_from(data)
    with pytest.raises(MalformedObject):
        event_from(b'{"type":"ADDED","object":' + data + b"}")


def test_control_events() -> None:
    kind, data = control_event(bookmark(7, end=True))
    assert (kind, bookmark_from(data)) == ("BOOKMARK", ("7", True))
    assert bookmark_from(control_event(bookmark(8))[1]) == ("8", False)
    with pytest.raises(MalformedObject):
        control_event(b"{")
    with pytest.raises(MalformedObject):
        bookmark_from(b"3")
    assert decode_page(page(version=3)).metadata.resourceVersion == "3"
    assert decode_page(b'{"metadata":{},"items":null}').items is None


def test_a_stored_object_answers_from_its_header_and_then_from_its_content() -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}]
    raw = thing("a", 5, labels={"x": "y"}, ownerReferences=owners, deletionTimestamp="2026-01-01T00:00:00Z")
    obj = StoredObject(entry_from(orjson.dumps(raw)), THING)
    for _ in range(2):
        assert (obj.key, obj.uid, obj.resource_version) == (Key("ns", "a"), "uid-a", "5")
        assert (obj.generation, obj.labels, obj.deleting) == (1, {"x": "y"}, True)
        assert obj.owner_references == owners
        assert obj.controller_uid == "u"
        assert obj._raw is None, "nothing was decoded for the header's sake"
    assert obj.spec == {"size": 1}
    assert obj.owner_references == owners
    obj.raw["metadata"] = {"name": "b", "labels": {}}
    assert (obj.name, obj.namespace, obj.uid, obj.generation) == ("b", "", "", 0)
    assert (obj.labels, obj.deleting, obj.owner_references, obj.controller_uid) == ({}, False, [], "")
    assert obj.resource_version == ""


def test_owner_flags_survive_and_absent_ones_stay_absent() -> None:
    owners = [
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "blockOwnerDeletion": False},
        {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "v"},
    ]
    obj = StoredObject(entry_from(orjson.dumps(thing("a", 5, ownerReferences=owners))), THING)
    assert obj.owner_references == owners
    assert obj.controller_uid == ""


def test_items_of_built_in_lists_get_their_type() -> None:
    raw = {"metadata": {"name": "p", "namespace": "n", "resourceVersion": "1"}}
    assert StoredObject(entry_from(orjson.dumps(raw)), POD).raw["kind"] == "Pod"
    partial = raw | {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    obj = StoredObject(entry_from(orjson.dumps(partial)), POD)
    assert (obj.raw["kind"], obj.raw["apiVersion"]) == ("Pod", "v1")


def test_changing_the_labels_one_got_changes_nothing() -> None:
    entry = entry_from(orjson.dumps(thing("a", 5, labels={"x": "y"})))
    StoredObject(entry, THING).labels["x"] = "z"
    assert StoredObject(entry, THING).labels == {"x": "y"}


def test_an_entry_owns_its_bytes() -> None:
    body = page(thing("a", 1), version=3)
    item = (decode_page(body).items or [])[0]
    assert isinstance(item, msgspec.Raw)
    assert type(entry_from(item).data) is bytes


@given(st.lists(st.binary(max_size=200)), st.lists(st.integers(min_value=0, max_value=400), max_size=8))
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines: list[bytes], cuts: list[int]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    splitter = LineSplitter()
    found: list[bytes] = []
    start = 0
    for cut in [*sorted(cuts), len(stream)]:
        found += splitter.feed(stream[start:cut])
        start = max(start, min(cut, len(stream)))
    assert found == [line for line in lines if line]
    assert splitter.feed(b"\n") == [b"rest"]


def test_a_line_may_be_megabytes_but_not_without_end() -> None:
    splitter = LineSplitter(limit=1_000_000)
    for _ in range(9):
        assert splitter.feed(b"x" * 100_000) == []
    assert [len(line) for line in splitter.feed(b"y\nz")] == [900_001]
    for _ in range(9):
        splitter.feed(b"x" * 100_000)
    with pytest.raises(TransportError, match="more than 1000000 bytes"):
        splitter.feed(b"x" * 100_001)
    with pytest.raises(TransportError):
        LineSplitter(limit=10).feed(b"x" * 11 + b"\n")


def test_events_of_a_stream_are_split_and_read() -> None:
    splitter = LineSplitter()
    stream = event("ADDED", thing("a", 1)) + event("DELETED", thing("b", 2))
    names = [event_from(line)[1].header.name for line in splitter.feed(stream)]
    assert names == ["a", "b"]
