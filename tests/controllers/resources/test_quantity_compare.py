"""Quantities, and what counts as a part of what is on the server."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.resources.compare import adds, is_part
from controllers.resources.quantity import equal, parse


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (3, "3"),
        ("1Gi", str(1024**3)),
        ("1.5Ki", "1536"),
        ("2e3", "2000"),
        ("1E", str(10**18)),
        (".5", "0.5"),
        ("100k", "100000"),
    ],
)
def test_quantities(text: object, amount: str) -> None:
    assert parse(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "abc", "1Zi", None, True, 1.5, "1e999"])
def test_what_is_no_quantity(text: object) -> None:
    assert parse(text) is None


def test_one_amount_however_written() -> None:
    assert equal("1000m", 1)
    assert equal("1Gi", "1024Mi")
    assert not equal("1G", "1Gi")
    assert not equal("x", "x")


values = st.recursive(
    st.integers(1, 9) | st.text("ab", min_size=1, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcd", min_size=1, max_size=2), inner, max_size=3)
    ),
)


@given(values)
def test_everything_is_a_part_of_itself(value: object) -> None:
    assert is_part(value, value)


@given(st.dictionaries(st.sampled_from("abc"), values), st.dictionaries(st.sampled_from("xyz"), values))
def test_more_on_the_server_is_no_change(wanted: dict[str, object], more: dict[str, object]) -> None:
    assert is_part(wanted, wanted | more)


def test_where_one_key_too_many_counts() -> None:
    assert is_part({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}})
    assert not is_part({"selector": {"a": "1"}}, {"selector": {"a": "1", "b": "2"}})
    assert not is_part({"matchLabels": {"a": "1"}}, {"matchLabels": {"a": "1", "b": "2"}})


@given(values)
def test_nothing_adds_to_itself(value: object) -> None:
    assert not adds(value, value)


@pytest.mark.parametrize(
    ("wanted", "live", "more"),
    [
        ({"a": 1}, {"a": 1, "dnsPolicy": "ClusterFirst", "resources": {}, "tty": False}, False),
        ({"a": 1}, {"a": 1, "dnsPolicy": "Default"}, True),
        ({"serviceAccountName": "x"}, {"serviceAccountName": "x", "serviceAccount": "x"}, False),
        ({"a": 1}, {"a": 1, "hostNetwork": True}, True),
        ({"env": [{"name": "a"}]}, {"env": [{"name": "b"}, {"name": "a"}]}, True),
        ({"env": [{"name": "a"}, {"name": "b"}]}, {"env": [{"name": "b"}, {"name": "a"}]}, False),
        ({"env": [{"name": "a", "x": {}}]}, {"env": [{"name": "a", "x": {"y": 1}}]}, True),
        ({"mounts": [{"name": "a"}]}, {"mounts": [{"name": "a"}, {"name": "a", "path": "/x"}]}, True),
        ({"drop": ["ALL"]}, {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, True),
    ],
)
def test_what_adds(wanted: object, live: object, more: bool) -> None:
    assert adds(wanted, live) is more


def test_lists() -> None:
    assert is_part([{"name": "a", "x": 1}], [{"name": "b"}, {"name": "a", "x": 1, "y": 2}])
    assert not is_part([{"name": "a"}], [{"name": "b"}])
    assert not is_part([1, 2], [2, 1])
    assert not is_part([1], [1, 2])
    assert is_part([], None)
    assert is_part({}, None)
    assert not is_part([1], "1")
    assert not is_part({"a": 1}, "x")


def test_quantities_are_compared_as_amounts_where_they_stand() -> None:
    assert is_part({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}})
    assert not is_part({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "2"}})
    assert not is_part({"value": "1000m"}, {"value": "1"})


def test_the_server_drops_empty_values() -> None:
    assert is_part({"readOnly": False, "args": "", "number": 0}, {})
    assert not is_part({"readOnly": True}, {})
    assert not is_part({"a": 1}, {"a": True})
