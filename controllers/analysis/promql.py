"""The queries that a canary is judged by. Pure: text in, text out.

All of one look are asked with the same `time=`; the offset then puts every window at the same place. Counts
are sums over the pods of one revision and one model of `increase()` over a closed window.

Guarantees:
- an absent series is no data, never 0, but for errors (a model that never failed has no such series);
- no value of a resource ends a string: backslash, quote and newline are escaped, other control characters
  refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .answer import LABEL

#: Milliseconds of a second: limits and results are in milliseconds, series in seconds.
_MILLISECONDS: Final = 1000

#: Windows have at least so many scrapes, or `increase()` extrapolates from next to nothing.
SCRAPES: Final = 4

#: What stands between the questions of a batch.
BETWEEN: Final = "\nor\n"

#: No name of a resource is longer.
MAX_LABEL: Final = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A closed window: `seconds` long, ended `offset` seconds before the time of the query."""

    seconds: int
    offset: int = 0

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.offset < 0:
            raise ValueError(
                f"a window needs seconds >= 1 and offset >= 0, got {self.seconds} and {self.offset}"
            )

    @property
    def selector(self) -> str:
        return f"[{self.seconds}s]" + (f" offset {self.offset}s" if self.offset else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model of one revision of one service."""

    namespace: str
    service: str
    revision: str
    model: str

    @property
    def matchers(self) -> str:
        return (
            f"paddle_namespace={quoted(self.namespace)},paddle_service={quoted(self.service)},"
            f"revision={quoted(self.revision)},model={quoted(self.model)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """The queries of one side. slow is "" for a model without an SLA.

    samples, errors, slow: requests in the window. qps: per second. p50, p95, p99: milliseconds. pods: how
    many were scraped at least twice in the window. scrapes: how often the one was that was scraped most.
    """

    samples: str
    errors: str
    slow: str
    qps: str
    p50: str
    p95: str
    p99: str
    pods: str
    scrapes: str


def queries(side: Side, span: Span, *, sla_milliseconds: int = 0) -> Queries:
    """All queries of one side. sla_milliseconds: 0 for a model without one."""
    return Queries(
        samples=samples(side, span),
        errors=errors(side, span),
        slow=slow(side, span, sla_milliseconds=sla_milliseconds) if sla_milliseconds else "",
        qps=qps(side, span),
        p50=quantile(side, span, 0.5),
        p95=quantile(side, span, 0.95),
        p99=quantile(side, span, 0.99),
        pods=pods(side, span),
        scrapes=scrapes(side, span),
    )


def samples(side: Side, span: Span) -> str:
    return f"sum(increase(inference_request_total{{{side.matchers}}}{span.selector}))"


def errors(side: Side, span: Span) -> str:
    """Requests answered with 5xx. A caller's own mistakes (4xx) are no sign of a bad revision."""
    return (
        f'sum(increase(inference_request_total{{{side.matchers},status_code=~"5.."}}{span.selector}))'
        " or vector(0)"
    )


def slow(side: Side, span: Span, *, sla_milliseconds: int) -> str:
    """Requests slower than the SLA: all minus those within it. The runtime has a bucket edge right there."""
    if sla_milliseconds < 1:
        raise ValueError(f"the SLA must be at least 1 millisecond, got {sla_milliseconds}")
    edge = bucket(sla_milliseconds)
    return (
        f"sum(increase(inference_latency_seconds_count{{{side.matchers}}}{span.selector}))"
        f' - sum(increase(inference_latency_seconds_bucket{{{side.matchers},le="{edge}"}}{span.selector}))'
    )


def qps(side: Side, span: Span) -> str:
    return f"sum(rate(inference_request_total{{{side.matchers}}}{span.selector}))"


def quantile(side: Side, span: Span, q: float) -> str:
    """For eyes and for conditions, in milliseconds; no verdict is a test of it."""
    if not 0 < q < 1:
        raise ValueError(f"a quantile lies between 0 and 1, got {q}")
    rates = f"rate(inference_latency_seconds_bucket{{{side.matchers}}}{span.selector})"
    return f"histogram_quantile({q:g}, sum by (le) ({rates})) * {_MILLISECONDS}"


def pods(side: Side, span: Span) -> str:
    """Pods that Prometheus saw: of those it did not see, nobody knows how they do."""
    return f"count(count_over_time(model_load_success{{{side.matchers}}}{span.selector}) >= 2) or vector(0)"


def scrapes(side: Side, span: Span) -> str:
    """From it follows what `increase()` has stretched; asking is surer than a flag to keep true."""
    return f"max(count_over_time(model_load_success{{{side.matchers}}}{span.selector}))"


def batch(questions: Mapping[str, str]) -> str:
    """All of them as one query: each sample of an answer carries its name as the label `question`.

    One exchange a look instead of one a number. A question that has no series gives no sample, and one that
    has several gives several, as if it were asked alone; one that is wrong spoils all.
    """
    return BETWEEN.join(
        f'label_replace(({text}), "{LABEL}", {quoted(name)}, "", "")' for name, text in questions.items()
    )


def bucket(milliseconds: int) -> str:
    """The `le` of a limit, as runtime and Prometheus write it: 200 -> "0.2", 1000 -> "1.0"."""
    whole, rest = divmod(milliseconds, _MILLISECONDS)
    return f"{whole}.{f'{rest:03d}'.rstrip('0') or '0'}"


def quoted(value: str) -> str:
    """`value` as a string of PromQL. ValueError for what no name of a resource can be."""
    if not 0 < len(value) <= MAX_LABEL:
        raise ValueError(f"a label value must have 1 to {MAX_LABEL} characters, got {len(value)}")
    if any((ord(c) < 32 and c != "\n") or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise ValueError(f"a label value must not have control characters, got {value!r:.80}")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
