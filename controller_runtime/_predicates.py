"""Which events are worth a reconcile. Predicates filter deliveries; they do not make the cache smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ._objects import Object


def _always(_: Object) -> bool:
    return True


def _always_update(_: Object, __: Object) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """One question per kind of event; what is not given answers yes.

    `generic` is asked of objects published on a `Channel`. Questions must not await, change the object or
    take long. A predicate that raises drops that one event for its controller; the error is logged.
    """

    create: Callable[[Object], bool] = _always
    update: Callable[[Object, Object], bool] = _always_update
    delete: Callable[[Object], bool] = _always
    generic: Callable[[Object], bool] = _always


ALWAYS = Predicate()

generation_changed = Predicate(update=lambda old, new: old.generation != new.generation)
"""Updates that changed metadata.generation, that is, the spec. Hides changes of status *and* of labels,
annotations, finalizers; kinds without a generation (ConfigMap, Secret) never pass."""

resource_version_changed = Predicate(update=lambda old, new: old.resource_version != new.resource_version)
"""Updates that changed anything at all; swallows resyncs and relists that brought nothing new."""

labels_changed = Predicate(update=lambda old, new: old.labels != new.labels)
"""Updates that changed a label."""

annotations_changed = Predicate(update=lambda old, new: old.annotations != new.annotations)
"""Updates that changed an annotation."""

deletion_started = Predicate(
    create=lambda obj: obj.deleting, update=lambda old, new: new.deleting and not old.deleting
)
"""The moment an object with finalizers is asked to go; combine it as
`any_of(generation_changed, deletion_started)` where the generation does not tell."""


def matching(question: Callable[[Object], bool]) -> Predicate:
    """The same question for every event; an update is asked of its new object."""
    return Predicate(
        create=question, update=lambda old, new: question(new), delete=question, generic=question
    )


def has_labels(wanted: Mapping[str, str]) -> Predicate:
    """Objects that carry all these labels with these values."""
    pairs = tuple(wanted.items())

    def question(obj: Object) -> bool:
        labels = obj.labels
        return all(labels.get(name) == value for name, value in pairs)

    return matching(question)


def all_of(*predicates: Predicate) -> Predicate:
    """Events that every predicate lets through, asked in the order given until one says no."""
    return Predicate(
        create=lambda obj: all(predicate.create(obj) for predicate in predicates),
        update=lambda old, new: all(predicate.update(old, new) for predicate in predicates),
        delete=lambda obj: all(predicate.delete(obj) for predicate in predicates),
        generic=lambda obj: all(predicate.generic(obj) for predicate in predicates),
    )


def any_of(*predicates: Predicate) -> Predicate:
    """Events that at least one predicate lets through."""
    return Predicate(
        create=lambda obj: any(predicate.create(obj) for predicate in predicates),
        update=lambda old, new: any(predicate.update(old, new) for predicate in predicates),
        delete=lambda obj: any(predicate.delete(obj) for predicate in predicates),
        generic=lambda obj: any(predicate.generic(obj) for predicate in predicates),
    )


def not_(predicate: Predicate) -> Predicate:
    """Turns every answer round, the default yes of questions not given included."""
    return Predicate(
        create=lambda obj: not predicate.create(obj),
        update=lambda old, new: not predicate.update(old, new),
        delete=lambda obj: not predicate.delete(obj),
        generic=lambda obj: not predicate.generic(obj),
    )


def combine(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    """Both, in this order; None stands for "everything" and costs nothing per event."""
    if first is None:
        return second
    return first if second is None else all_of(first, second)
