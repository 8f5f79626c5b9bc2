"""The flag --prometheus."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.analysis.server import Server, parse, parse_all


def test_what_a_flag_may_say() -> None:
    assert parse("http://prometheus:9090/") == Server(name="default", url="http://prometheus:9090")
    assert parse("eu=https://[::1]:9/prefix, tokenFile=/t ,caFile=/c") == Server(
        name="eu", url="https://[::1]:9/prefix", token_file="/t", ca_file="/c"
    )
    assert [server.name for server in parse_all(["http://a", "b=http://c"])] == ["default", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be http"),
        ("ftp://a", "must be http"),
        ("http://", "must be http"),
        ("http://a:0", "must be http"),
        ("http://a:x", "cannot be read"),
        ("Eu=http://a", "no name of a server"),
        ("http://user:word@a", "no user"),
        ("http://a?x=1", "no user, query"),
        ("http://a#x", "no user, query"),
        ("http://a,tokenFile=/t", "need https"),
        ("http://a,caFile=/t", "need https"),
        ("https://a,token=/t", "use tokenFile=PATH"),
        ("https://a,tokenFile=", "use tokenFile=PATH"),
    ],
)
def test_what_it_may_not(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="given twice"):
        parse_all(["http://a", "default=http://b"])


@given(st.text(max_size=60))
def test_any_text_is_a_server_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse(text).url.startswith(("http://", "https://"))
