"""Responses in pieces of any size, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller_runtime._http1 import BadResponse, ResponseParser

BODY = b'{"kind":"Status"}\n{"a":1}\n'


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-One: a\r\nx-one:  b \r\n\r\n%b" % (len(body), body)


def chunked(pieces: list[bytes]) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return head + chunks + b"0\r\nTrailer: x\r\n\r\n"


def feed(parser: ResponseParser, data: bytes, cuts: list[int]) -> bytes:
    body = b""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        assert not parser.complete
        body += b"".join(parser.feed(data[start:end]))
    return body


@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_a_sized_body_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    parser = ResponseParser()
    assert feed(parser, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized(body), cuts) == body
    assert parser.complete
    assert parser.keep_alive
    assert not parser.surplus
    assert parser.status == 200
    assert parser.headers["x-one"] == ["a", "b"]
    assert parser.header("x-one") == "a"
    assert parser.header("x-two") is None


@given(
    pieces=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
)
def test_chunks_in_any_pieces(pieces: list[bytes], cuts: list[int]) -> None:
    parser = ResponseParser()
    assert feed(parser, chunked(pieces), cuts) == b"".join(pieces)
    assert parser.complete
    assert parser.keep_alive
    assert not parser.surplus


@given(data=st.binary(max_size=200), at=st.integers(0, 100), chunks=st.booleans())
def test_noise_is_refused_or_read_and_nothing_else(data: bytes, at: int, chunks: bool) -> None:
    good = chunked([BODY]) if chunks else sized(BODY)
    for noise in (data, good[:at] + data, good[:at] + data + good[at:]):
        try:
            ResponseParser().feed(noise)
        except BadResponse:
            pass


def test_events_are_given_as_they_come() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n8\r\n{") == [b"{"]
    assert parser.status == 200
    assert parser.feed(b'"a":1}\n') == [b'"a":1}\n']
    assert parser.feed(b"\r") == []
    assert parser.feed(b"\n1\r\nx\r\n0\r\n") == [b"x"]
    assert not parser.complete
    assert parser.feed(b"\r\n") == []
    assert parser.complete


@pytest.mark.parametrize("ending", [b"Connection: Close\r\n\r\n", b"\r\n"])
def test_until_the_connection_closes(ending: bytes) -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n" + ending + b"abc") == [b"abc"]
    assert parser.until_close
    assert not parser.keep_alive
    assert not parser.complete
    parser.end()
    assert parser.complete


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200", sized(BODY)[:-1], chunked([BODY])[:-1], chunked([BODY])[:70]]
)
def test_a_cut_answer_is_no_answer(cut: bytes) -> None:
    parser = ResponseParser()
    parser.feed(cut)
    with pytest.raises(BadResponse, match="before its answer was complete"):
        parser.end()


@pytest.mark.parametrize(("head", "bodyless"), [(b"204 No Content", False), (b"200 OK", True)])
def test_no_body(head: bytes, bodyless: bool) -> None:
    parser = ResponseParser(bodyless=bodyless)
    assert parser.feed(b"HTTP/1.1 " + head + b"\r\nContent-Length: 5\r\n\r\n") == []
    assert parser.complete


def test_what_comes_after_the_end_is_noticed() -> None:
    for answer in (sized(b"ab"), sized(b""), chunked([b"ab"])):
        parser = ResponseParser()
        parser.feed(answer + b"H")
        assert parser.complete
        assert parser.surplus
    parser = ResponseParser()
    parser.feed(sized(b"a"))
    assert not parser.surplus
    parser.feed(b"x")
    assert parser.surplus


def test_old_servers_do_not_keep_connections() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert parser.complete
    assert not parser.keep_alive


@pytest.mark.parametrize(
    "bad",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
    ],
)
def test_what_is_no_answer_is_refused(bad: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseParser().feed(bad)
