import pytest

from controller_runtime import Object
from controller_runtime import _predicates as predicates
from controller_runtime._predicates import (
    ALWAYS,
    Predicate,
    all_of,
    any_of,
    combine,
    has_labels,
    matching,
    not_,
)


def thing(**metadata: object) -> Object:
    return Object({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", **metadata}})


NO = Predicate(
    create=lambda obj: False,
    update=lambda old, new: False,
    delete=lambda obj: False,
    generic=lambda obj: False,
)


def answers(predicate: Predicate, old: Object, new: Object) -> list[bool]:
    return [predicate.create(new), predicate.update(old, new), predicate.delete(new), predicate.generic(new)]


@pytest.mark.parametrize(
    ("predicate", "field", "before", "after"),
    [
        (predicates.generation_changed, "generation", 1, 2),
        (predicates.resource_version_changed, "resourceVersion", "1", "2"),
        (predicates.labels_changed, "labels", {"a": "1"}, {"a": "2"}),
        (predicates.annotations_changed, "annotations", None, {"a": "2"}),
    ],
)
def test_change_predicates_judge_updates_only(
    predicate: Predicate, field: str, before: object, after: object
) -> None:
    assert answers(predicate, thing(**{field: before}), thing(**{field: after})) == [True, True, True, True]
    assert answers(predicate, thing(**{field: after}), thing(**{field: after})) == [True, False, True, True]


def test_deletion_started_passes_once() -> None:
    alive, dying = thing(), thing(deletionTimestamp="2026-01-01T00:00:00Z")
    assert predicates.deletion_started.update(alive, dying)
    assert not predicates.deletion_started.update(dying, dying)
    assert predicates.deletion_started.create(dying)
    assert not predicates.deletion_started.create(alive)


def test_labels_are_asked_of_the_new_object() -> None:
    ours = has_labels({"app": "x", "tier": "y"})
    with_labels, without = thing(labels={"app": "x", "tier": "y", "more": "z"}), thing(labels={"app": "x"})
    assert answers(ours, without, with_labels) == [True] * 4
    assert answers(ours, with_labels, without) == [False] * 4
    assert answers(matching(lambda obj: obj.name == "b"), thing(), thing()) == [False] * 4


def test_combinations() -> None:
    old, new = thing(), thing()
    assert answers(ALWAYS, old, new) == [True] * 4
    assert answers(all_of(ALWAYS, NO), old, new) == [False] * 4
    assert answers(all_of(), old, new) == [True] * 4
    assert answers(any_of(NO, ALWAYS), old, new) == [True] * 4
    assert answers(any_of(NO, NO), old, new) == [False] * 4
    assert answers(not_(NO), old, new) == [True] * 4
    # As in Go, the questions that generation_changed does not ask are turned round as well.
    assert answers(not_(predicates.generation_changed), old, new) == [False, True, False, False]


def test_all_of_stops_at_the_first_no() -> None:
    def unreachable(obj: Object) -> bool:
        raise AssertionError

    assert not all_of(NO, Predicate(create=unreachable)).create(thing())


def test_combine_keeps_nothing_as_nothing() -> None:
    assert combine(None, None) is None
    assert combine(NO, None) is NO
    assert combine(None, NO) is NO
    both = combine(ALWAYS, NO)
    assert both is not None
    assert not both.create(thing())
