"""docs/analysis.md says what is really asked."""

from dataclasses import fields
from pathlib import Path

from controllers.analysis.builtin import BUILT_IN
from controllers.analysis.promql import Side, Span, queries

PAGE = (Path(__file__).resolve().parents[3] / "docs/analysis.md").read_text()


def test_the_queries_are_those_of_the_page() -> None:
    asked = queries(
        Side(namespace="N", service="S", revision="R", model="M"), Span(seconds=60), sla_milliseconds=200
    )
    rows = [f"| {item.name} | `{getattr(asked, item.name)}` |" for item in fields(asked)]
    table = PAGE.split("<!-- queries:begin -->\n")[1].split("\n<!-- queries:end -->")[0]
    assert table.splitlines()[2:] == rows


def test_the_built_in_metrics_are_those_of_the_page() -> None:
    assert " ".join(BUILT_IN) in PAGE
