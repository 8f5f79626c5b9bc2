"""From an event's object to the keys that should be reconciled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ._informer_api import Handler
from ._objects import Key, Kind, Object, split_api_version
from ._predicates import Predicate
from ._workqueue import LOW_PRIORITY, WorkQueue


class Mapper(Protocol):
    """Names the keys to reconcile because of an object. Must not await, nor change the object."""

    def of(self, obj: Object) -> Iterable[Key]:
        """Keys for an object that appeared, went away or was published."""
        ...

    def of_change(self, old: Object, new: Object) -> Iterable[Key]:
        """Keys for a change, each once: what the old object pointed at needs a look as well."""
        ...


class EnqueueForObject:
    """The object itself."""

    __slots__ = ()

    def of(self, obj: Object) -> Iterable[Key]:
        return (obj.key,)

    def of_change(self, old: Object, new: Object) -> Iterable[Key]:
        return (new.key,)


class EnqueueForOwner:
    """The owners of kind `owner` in the object's owner references.

    Compares group and kind and not the version, so it holds through an upgrade of the owner's API. By
    default only the reference that says `controller: true` counts. Owners of a cluster-scoped kind get a key
    without a namespace.
    """

    __slots__ = ("_group", "_kind", "_namespaced", "_only_controller")

    def __init__(self, owner: Kind, *, only_controller: bool = True) -> None:
        self._group = owner.group
        self._kind = owner.kind
        self._namespaced = owner.namespaced
        self._only_controller = only_controller

    def of(self, obj: Object) -> Iterable[Key]:
        keys = []
        for reference in obj.owner_references:
            if reference.get("kind") != self._kind:
                continue
            if self._only_controller and not reference.get("controller"):
                continue
            if split_api_version(reference.get("apiVersion") or "")[0] == self._group:
                namespace = obj.namespace if self._namespaced else ""
                keys.append(Key(namespace, reference.get("name") or ""))
        return keys

    def of_change(self, old: Object, new: Object) -> Iterable[Key]:
        return dict.fromkeys((*self.of(old), *self.of(new)))


class EnqueueMapped:
    """Whatever `map_fn` says, asked of the old and of the new object, each key once."""

    __slots__ = ("_map",)

    def __init__(self, map_fn: Callable[[Object], Iterable[Key]]) -> None:
        self._map = map_fn

    def of(self, obj: Object) -> Iterable[Key]:
        return dict.fromkeys(self._map(obj))

    def of_change(self, old: Object, new: Object) -> Iterable[Key]:
        return dict.fromkeys((*self._map(old), *self._map(new)))


class QueueFeeder(Handler):
    """An informer's handler that adds keys to a work queue.

    What the initial list brings, and updates that changed nothing (a resync, a relist), get LOW_PRIORITY;
    everything else `priority`.
    """

    __slots__ = ("_mapper", "_predicate", "_priority", "_queue")

    def __init__(
        self, queue: WorkQueue[Key], mapper: Mapper, predicate: Predicate | None = None, *, priority: int = 0
    ) -> None:
        self._queue = queue
        self._mapper = mapper
        self._predicate = predicate
        self._priority = priority

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        if self._predicate is None or self._predicate.create(obj):
            self._add(self._mapper.of(obj), LOW_PRIORITY if in_initial_list else self._priority)

    def on_update(self, old: Object, new: Object) -> None:
        if self._predicate is None or self._predicate.update(old, new):
            same = old.resource_version == new.resource_version
            self._add(self._mapper.of_change(old, new), LOW_PRIORITY if same else self._priority)

    def on_delete(self, obj: Object, state_unknown: bool) -> None:
        if self._predicate is None or self._predicate.delete(obj):
            self._add(self._mapper.of(obj), self._priority)

    def on_generic(self, obj: Object) -> None:
        """An object from outside the API server."""
        if self._predicate is None or self._predicate.generic(obj):
            self._add(self._mapper.of(obj), self._priority)

    def _add(self, keys: Iterable[Key], priority: int) -> None:
        for key in keys:
            self._queue.add(key, priority=priority)
