"""What counts as unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from controllers.applied import ANNOTATION_APPLIED, needs_apply, stamped, subset

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
documents = st.dictionaries(st.sampled_from(["spec", "data", "kind"]), json)


@given(documents)
def test_what_was_just_applied_is_unchanged(document: dict[str, object]) -> None:
    desired = stamped(document)
    assert not needs_apply(desired, desired)
    assert not needs_apply(stamped(desired), desired)


def test_defaults_of_the_server_are_no_change() -> None:
    desired = stamped({"spec": {"ports": [{"port": 80}]}})
    live = {
        "metadata": {"uid": "1", "annotations": {**desired["metadata"]["annotations"], "other": "x"}},  # type: ignore[index]
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"},
    }
    assert not needs_apply(desired, live)


def test_a_dropped_field_and_a_hand_edit_are_changes() -> None:
    before = stamped({"spec": {"a": 1, "b": 2}})
    assert needs_apply(stamped({"spec": {"a": 1}}), before)
    edited = {**before, "spec": {"a": 1, "b": 3}}
    assert needs_apply(before, edited)
    assert needs_apply(before, None)


def test_lists_keep_length_and_order() -> None:
    assert not subset([1, 2], [2, 1])
    assert not subset([1], [1, 2])
    assert subset([], None)
    assert subset({}, None)
    assert not subset({"a": 1}, None)
    assert not subset("ab", ["a", "b"])


def test_the_stamp_does_not_depend_on_itself() -> None:
    once = stamped({"metadata": {"name": "x"}})
    assert stamped(once) == once
    assert ANNOTATION_APPLIED in once["metadata"]["annotations"]  # type: ignore[index]
