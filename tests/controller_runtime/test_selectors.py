"""Label selectors match what the server matches."""

from __future__ import annotations

import pytest

from controller_runtime._selectors import Selector, compile_selector, selector_text

LABELS = {"app": "web", "tier": "front", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=x", True),
        ("app!=web", False),
        ("app in (db, web)", True),
        ("app in (db,cache)", False),
        ("app notin (db)", True),
        ("missing notin (db)", True),
        ("app notin (web,db)", False),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("! app", False),
        ("empty=", True),
        ("app=web,tier in (front,back),!gone", True),
        ("app=web,tier in (back)", False),
        ({"app": "web"}, True),
        ({"app": "web", "tier": "back"}, False),
    ],
)
def test_match(selector: Selector, expected: bool) -> None:
    matches = compile_selector(selector)
    assert matches is not None
    assert matches(LABELS) is expected


@pytest.mark.parametrize("selector", [None, "", {}, " , "])
def test_everything(selector: Selector) -> None:
    assert compile_selector(selector) is None


@pytest.mark.parametrize("selector", ["a in b", "a=b=c", "=x", "a in (b", "a > 3"])
def test_nonsense_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        compile_selector(selector)


def test_text() -> None:
    assert selector_text({"b": "2", "a": "1"}) == "a=1,b=2"
    assert selector_text("a in (b)") == "a in (b)"
    assert selector_text(None) == ""
