"""The exact text of every query."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.promql import Side, Span, bucket, pods, quantile, queries, quoted, slow

SIDE = Side(namespace="default", service="resnet50", revision="ab12cd34", model="m")
M = 'paddle_namespace="default",paddle_service="resnet50",revision="ab12cd34",model="m"'


@pytest.mark.parametrize(
    ("span", "w"), [(Span(seconds=60), "[60s]"), (Span(seconds=300, offset=15), "[300s] offset 15s")]
)
def test_every_query(span: Span, w: str) -> None:
    found = queries(SIDE, span, sla_milliseconds=200)
    assert found.samples == f"sum(increase(inference_request_total{{{M}}}{w}))"
    assert found.errors == (
        f'sum(increase(inference_request_total{{{M},status_code=~"5.."}}{w})) or vector(0)'
    )
    assert found.slow == (
        f"sum(increase(inference_latency_seconds_count{{{M}}}{w}))"
        f' - sum(increase(inference_latency_seconds_bucket{{{M},le="0.2"}}{w}))'
    )
    assert found.qps == f"sum(rate(inference_request_total{{{M}}}{w}))"
    for name, q in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99")):
        assert getattr(found, name) == (
            f"histogram_quantile({q}, sum by (le) (rate(inference_latency_seconds_bucket{{{M}}}{w}))) * 1000"
        )
    assert found.pods == f"count(count_over_time(model_load_success{{{M}}}{w}) >= 2) or vector(0)"


def test_without_an_sla_nothing_is_slow() -> None:
    assert queries(SIDE, Span(seconds=60)).slow == ""


@pytest.mark.parametrize(
    ("milliseconds", "edge"),
    [(1, "0.001"), (25, "0.025"), (200, "0.2"), (1000, "1.0"), (1500, "1.5"), (60_000, "60.0")],
)
def test_bucket_edges(milliseconds: int, edge: str) -> None:
    assert bucket(milliseconds) == edge


@given(st.integers(1, 600_000))
@settings(max_examples=200)
def test_bucket_edges_are_those_that_the_runtime_exports(milliseconds: int) -> None:
    assert bucket(milliseconds) == repr(milliseconds / 1000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '"plain"'),
        ('a"} or vector(1) #', '"a\\"} or vector(1) #"'),
        ("back\\slash", '"back\\\\slash"'),
        ("two\nlines", '"two\\nlines"'),
        ("Größe", '"Größe"'),
    ],
)
def test_label_values_are_escaped(value: str, text: str) -> None:
    assert quoted(value) == text


@pytest.mark.parametrize("value", ["", "x" * 254, "nul\0", "tab\t", "del\x7f", "\ud800"])
def test_label_values_that_cannot_be_a_name_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="label value"):
        quoted(value)


@given(st.text(alphabet=st.sampled_from('ab"\\\n}{,='), min_size=1, max_size=20))
@settings(max_examples=200)
def test_no_value_ends_its_string(value: str) -> None:
    inner = quoted(value)[1:-1]
    assert "\n" not in inner
    restored, escape = [], False
    for character in inner:
        if escape:
            restored.append({"n": "\n"}.get(character, character))
            escape = False
        elif character == "\\":
            escape = True
        else:
            assert character != '"'
            restored.append(character)
    assert not escape
    assert "".join(restored) == value


def test_arguments_out_of_range_are_refused() -> None:
    for seconds, offset in ((0, 0), (60, -1)):
        with pytest.raises(ValueError, match="seconds >= 1"):
            Span(seconds=seconds, offset=offset)
    with pytest.raises(ValueError, match="1 millisecond"):
        slow(SIDE, Span(seconds=60), sla_milliseconds=0)
    with pytest.raises(ValueError, match="quantile"):
        quantile(SIDE, Span(seconds=60), 1.0)
    with pytest.raises(ValueError, match="label value"):
        pods(Side(namespace="", service="s", revision="r", model="m"), Span(seconds=60))
