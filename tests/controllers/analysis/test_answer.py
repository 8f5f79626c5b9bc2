"""Replies of a server: one finite number of one series, or the reason why not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.analysis.answer import Answer, PrometheusError, Refused, Unavailable, read, read_batch


def vector(*values: str) -> dict[str, object]:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (vector("1.5"), Answer(1.5)),
        (vector("0"), Answer(0.0)),
        (vector(), Answer(None, "no series")),
        (vector("1", "2"), Answer(None, "2 series instead of one")),
        (vector("NaN"), Answer(None, "the value is NaN")),
        (vector("+Inf"), Answer(None, "the value is +Inf")),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}, Answer(3.0)),
        (vector("1") | {"infos": ["PromQL info: metric might not be a counter"]}, Answer(1.0)),
    ],
)
def test_values(body: object, expected: Answer) -> None:
    assert read(200, body) == expected


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"status": "error", "errorType": "bad_data", "error": "parse\nerror"}, Refused, "parse error"),
        (
            422,
            {"status": "error", "errorType": "execution", "error": "too many samples"},
            Refused,
            "too many",
        ),
        (422, None, Refused, "422"),
        (
            503,
            {"status": "error", "errorType": "timeout", "error": "query timed out"},
            Unavailable,
            "timed out",
        ),
        (500, None, Unavailable, "HTTP 500"),
        (401, None, Unavailable, "HTTP 401"),
        (200, None, Unavailable, "HTTP 200"),
        (200, {"status": "error", "error": "x"}, Unavailable, "x"),
        (200, vector("1") | {"warnings": ["store is down"]}, Unavailable, "incomplete: store is down"),
        (200, {"status": "success"}, Unavailable, "not that of a Prometheus"),
        (200, vector("many"), Unavailable, "no number"),
        (
            200,
            {"status": "success", "data": {"resultType": "vector", "result": [7]}},
            Unavailable,
            "not that",
        ),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, Refused, "a matrix"),
    ],
)
def test_errors(status: int, body: object, kind: type[PrometheusError], words: str) -> None:
    with pytest.raises(kind, match=words):
        read(status, body)


def named(*samples: tuple[str, str]) -> dict[str, object]:
    result = [{"metric": {"question": name}, "value": [1.0, value]} for name, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_each_question_of_a_batch_is_one_finite_number_or_none() -> None:
    body = named(("a", "1"), ("twice", "1"), ("twice", "2"), ("nan", "NaN"))
    assert read_batch(200, body, ["a", "twice", "nan", "gone"]) == {
        "a": Answer(1.0),
        "twice": Answer(None, "2 series instead of one"),
        "nan": Answer(None, "the value is NaN"),
        "gone": Answer(None, "no series"),
    }


@pytest.mark.parametrize("body", [named(("stranger", "1")), vector("1"), {"status": "success", "data": {}}])
def test_a_batch_that_answers_something_else_is_no_answer(body: object) -> None:
    with pytest.raises(Unavailable, match="not that of a Prometheus"):
        read_batch(200, body, ["a"])


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "data", "resultType", "result", "value", "warnings", "error"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.integers(100, 599), json)
def test_no_reply_raises_anything_else_nor_gives_a_wrong_kind_of_number(status: int, body: object) -> None:
    with contextlib.suppress(PrometheusError):
        answer = read(status, body)
        assert answer.value is None or abs(answer.value) < float("inf")
    with contextlib.suppress(PrometheusError):
        answers = read_batch(status, body, ["value", "data"])
        assert set(answers) == {"value", "data"}
