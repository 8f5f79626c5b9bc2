"""The local copy of one kind: entries by key, by namespace and by the user's indexes. Pure, never awaits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from ._objects import Key, Kind, Object
from ._selectors import Selector, compile_selector
from ._wire import Entry, StoredObject
from .errors import NotCached

_log = structlog.get_logger("controller_runtime.store")

IndexFunction: TypeAlias = Callable[[Object], Iterable[str]]
"""The values an object is found under. Must depend on nothing but the object."""


@dataclass(frozen=True, slots=True)
class Delta:
    """One change of the store: `old` None = added, `new` None = deleted, both = replaced.

    `unknown`: the deletion itself was missed, `old` is the last known state.
    """

    key: Key
    old: Entry | None
    new: Entry | None
    unknown: bool = False


class Store:
    """Keeps entries and hands out private objects; each method leaves it consistent.

    Index functions run once per change. One that raises is logged and the object is kept, found under no
    value of that index.
    """

    def __init__(self, kind: Kind, indexes: Mapping[str, IndexFunction] | None = None) -> None:
        self.kind = kind
        self.size = 0
        self._entries: dict[Key, Entry] = {}
        self._namespaces: dict[str, dict[Key, None]] = {}
        self._functions: dict[str, IndexFunction] = {}
        self._indexes: dict[str, dict[str, dict[Key, None]]] = {}
        self._values: dict[str, dict[Key, tuple[str, ...]]] = {}
        for name, function in (indexes or {}).items():
            self.add_index(name, function)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        return iter(self._entries.items())

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index what is there and what comes. Replaces an index of that name."""
        self._functions[name] = function
        self._indexes[name] = {}
        self._values[name] = {}
        for key, entry in self._entries.items():
            self._index(name, function, key, entry)

    def replace(self, entries: Mapping[Key, Entry]) -> list[Delta]:
        """Become exactly `entries`. The deltas: deletions first (`unknown`), then adds and updates in
        order.
        """
        gone = [key for key in self._entries if key not in entries]
        deltas = [Delta(key, self._remove(key), None, unknown=True) for key in gone]
        for key, entry in entries.items():
            deltas.append(Delta(key, self._put(key, entry), self._entries[key]))
        return deltas

    def put(self, entry: Entry) -> Delta:
        """Add or replace one object."""
        header = entry.header
        key = Key(header.namespace, header.name)
        return Delta(key, self._put(key, entry), self._entries[key])

    def delete(self, entry: Entry) -> Delta | None:
        """Remove one object; the delta's `old` is the final state the server sent. None when not held."""
        header = entry.header
        key = Key(header.namespace, header.name)
        if self._remove(key) is None:
            return None
        return Delta(key, entry, None)

    def get(self, key: Key) -> Object | None:
        """A private copy, or None."""
        entry = self._entries.get(key)
        return None if entry is None else StoredObject(entry, self.kind)

    def header_version(self, key: Key) -> tuple[str, str] | None:
        """(uid, resourceVersion) of a held object."""
        entry = self._entries.get(key)
        return None if entry is None else (entry.header.uid, entry.header.resourceVersion)

    def list(
        self, *, namespace: str | None = None, labels: Selector = None, index: tuple[str, str] | None = None
    ) -> list[Object]:
        """Private copies of what matches all conditions, oldest in the store first."""
        matches = compile_selector(labels)
        found: list[Object] = []
        for key in self._candidates(namespace, index):
            entry = self._entries[key]
            if namespace is not None and entry.header.namespace != namespace:
                continue
            if matches is None or matches(entry.header.labels or {}):
                found.append(StoredObject(entry, self.kind))
        return found

    def _candidates(self, namespace: str | None, index: tuple[str, str] | None) -> Iterable[Key]:
        if index is not None:
            name, value = index
            if name not in self._indexes:
                known = ", ".join(sorted(self._indexes)) or "none"
                raise NotCached(f"{self.kind}: no index {name!r} (has: {known}); add it with cache.watch()")
            return self._indexes[name].get(value, ())
        if namespace is not None:
            return self._namespaces.get(namespace, ())
        return self._entries

    def _put(self, key: Key, entry: Entry) -> Entry | None:
        old = self._entries.get(key)
        if old is not None and _same_version(old, entry):
            return old  # a relist of what is held: keep the bytes we have, and their indexes
        self._entries[key] = entry
        self.size += len(entry.data) - (len(old.data) if old is not None else 0)
        if old is None:
            self._namespaces.setdefault(key.namespace, {})[key] = None
        for name, function in self._functions.items():
            if old is not None:
                self._unindex(name, key)
            self._index(name, function, key, entry)
        return old

    def _remove(self, key: Key) -> Entry | None:
        old = self._entries.pop(key, None)
        if old is None:
            return None
        self.size -= len(old.data)
        group = self._namespaces[key.namespace]
        del group[key]
        if not group:
            del self._namespaces[key.namespace]
        for name in self._functions:
            self._unindex(name, key)
        return old

    def _index(self, name: str, function: IndexFunction, key: Key, entry: Entry) -> None:
        try:
            values = tuple(dict.fromkeys(function(StoredObject(entry, self.kind))))
        except Exception:
            _log.exception("index function failed", index=name, kind=str(self.kind), object=str(key))
            return
        if values:
            self._values[name][key] = values
            for value in values:
                self._indexes[name].setdefault(value, {})[key] = None

    def _unindex(self, name: str, key: Key) -> None:
        for value in self._values[name].pop(key, ()):
            group = self._indexes[name][value]
            del group[key]
            if not group:
                del self._indexes[name][value]


def _same_version(one: Entry, other: Entry) -> bool:
    a, b = one.header, other.header
    return a.resourceVersion == b.resourceVersion and a.uid == b.uid
