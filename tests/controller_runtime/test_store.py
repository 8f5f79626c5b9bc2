"""The store against a dictionary, through any history."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller_runtime import Key, NotCached, Object
from controller_runtime._store import Store
from controller_runtime._wire import Entry, entry_from

from .scripted import THING, thing


def entry(name: str, version: int, *, namespace: str = "ns", **extra: object) -> Entry:
    return entry_from(orjson.dumps(thing(name, version, namespace=namespace, **extra)))


def by_color(obj: Object) -> Iterable[str]:
    return (obj.labels["color"],) if "color" in obj.labels else ()


def names(objects: Iterable[Object]) -> list[str]:
    return sorted(obj.name for obj in objects)


def test_replace_deletes_first_and_says_that_it_did_not_see_it() -> None:
    store = Store(THING)
    store.put(entry("a", 1))
    store.put(entry("b", 2))
    deltas = store.replace({Key("ns", "b"): entry("b", 5), Key("ns", "c"): entry("c", 6)})
    assert [(d.key.name, d.old is not None, d.new is not None, d.unknown) for d in deltas] == [
        ("a", True, False, True),
        ("b", True, True, False),
        ("c", False, True, False),
    ]
    assert names(store.list()) == ["b", "c"]


def test_a_relist_of_the_same_version_keeps_the_bytes_it_has() -> None:
    store = Store(THING)
    first = entry("a", 1)
    store.put(first)
    (delta,) = store.replace({Key("ns", "a"): entry("a", 1)})
    assert delta.old is delta.new is first


def test_the_same_version_of_another_uid_is_another_object() -> None:
    store = Store(THING)
    store.put(entry("a", 1))
    delta = store.put(entry("a", 1, uid="other"))
    assert delta.new is not None
    assert delta.new.header.uid == "other"


def test_delete_reports_the_final_state_once() -> None:
    store = Store(THING)
    store.put(entry("a", 1))
    delta = store.delete(entry("a", 9))
    assert delta is not None
    assert delta.old is not None
    assert delta.old.header.resourceVersion == "9"
    assert store.delete(entry("a", 9)) is None
    assert (len(store), store.size) == (0, 0)


def test_reads_are_private_copies() -> None:
    store = Store(THING)
    store.put(entry("a", 1))
    first = store.get(Key("ns", "a"))
    assert first is not None
    first.raw["spec"]["size"] = 99
    second = store.get(Key("ns", "a"))
    assert second is not None
    assert second.spec == {"size": 1}
    assert store.get(Key("ns", "none")) is None
    assert store.header_version(Key("ns", "a")) == ("uid-a", "1")
    assert store.header_version(Key("ns", "none")) is None


def test_an_index_that_raises_hides_the_object_only_from_itself() -> None:
    store = Store(THING, {"color": lambda obj: [obj.labels["color"]]})
    store.put(entry("plain", 1))
    store.put(entry("red", 2, labels={"color": "red"}))
    assert names(store.list(index=("color", "red"))) == ["red"]
    assert names(store.list()) == ["plain", "red"]


def test_an_index_can_come_late() -> None:
    store = Store(THING)
    store.put(entry("red", 2, labels={"color": "red"}))
    with pytest.raises(NotCached, match=r"no index 'color' \(has: none\)"):
        store.list(index=("color", "red"))
    store.add_index("color", by_color)
    assert names(store.list(index=("color", "red"))) == ["red"]
    with pytest.raises(NotCached, match="has: color"):
        store.list(index=("size", "1"))


def test_conditions_are_anded() -> None:
    store = Store(THING, {"color": by_color})
    store.put(entry("a", 1, namespace="one", labels={"color": "red", "x": "1"}))
    store.put(entry("b", 2, namespace="two", labels={"color": "red", "x": "1"}))
    store.put(entry("c", 3, namespace="one", labels={"color": "red", "x": "2"}))
    assert names(store.list(namespace="one", labels="x=1", index=("color", "red"))) == ["a"]
    assert names(store.list(namespace="none")) == []
    assert names(store.list(labels={"x": "1"})) == ["a", "b"]


NAMES = st.sampled_from("abcd")
NAMESPACES = st.sampled_from(["one", "two"])
COLORS = st.sampled_from(["red", "blue", ""])


class StoreMachine(RuleBasedStateMachine):
    """Compares with {key: color}."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(THING, {"color": by_color})
        self.model: dict[Key, str] = {}
        self.version = 0

    def make(self, namespace: str, name: str, color: str) -> Entry:
        self.version += 1
        return entry(name, self.version, namespace=namespace, labels={"color": color} if color else {})

    @rule(namespace=NAMESPACES, name=NAMES, color=COLORS)
    def put(self, namespace: str, name: str, color: str) -> None:
        key = Key(namespace, name)
        delta = self.store.put(self.make(namespace, name, color))
        assert (delta.old is None) == (key not in self.model)
        self.model[key] = color

    @rule(namespace=NAMESPACES, name=NAMES)
    def delete(self, namespace: str, name: str) -> None:
        delta = self.store.delete(self.make(namespace, name, ""))
        assert (delta is not None) == (self.model.pop(Key(namespace, name), None) is not None)

    @rule(wanted=st.dictionaries(st.tuples(NAMESPACES, NAMES), COLORS))
    def replace(self, wanted: dict[tuple[str, str], str]) -> None:
        entries = {Key(*key): self.make(*key, color) for key, color in wanted.items()}
        deltas = self.store.replace(entries)
        gone = [delta.key for delta in deltas if delta.new is None]
        assert sorted(gone) == sorted(key for key in self.model if key not in entries)
        assert all(delta.unknown for delta in deltas if delta.new is None)
        assert [delta.key for delta in deltas][len(gone) :] == list(entries)
        self.model = {Key(*key): color for key, color in wanted.items()}

    @invariant()
    def agrees(self) -> None:
        assert {obj.key for obj in self.store.list()} == set(self.model)
        for namespace in ("one", "two"):
            expected = {key for key in self.model if key.namespace == namespace}
            assert {obj.key for obj in self.store.list(namespace=namespace)} == expected
        for color in ("red", "blue"):
            expected = {key for key, value in self.model.items() if value == color}
            assert {obj.key for obj in self.store.list(index=("color", color))} == expected
        assert self.store.size == sum(len(entry.data) for _, entry in self.store.entries())


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
