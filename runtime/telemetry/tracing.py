"""Traces of requests and of loading, sent as OTLP over gRPC.

This module is imported only where traces are wanted. A request that is not sampled touches nothing of
OpenTelemetry; a sampled one notes times on its way (Mark), and its spans are made when it has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from random import random
from time import time_ns
from typing import TypeAlias, cast

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from runtime.telemetry.context import ROOT, Parent, decide
from runtime.telemetry.mark import Mark

Attributes: TypeAlias = Mapping[str, str | int | float]
# Seconds: of one export, between exports, and for the last one.
_EXPORT = 5
_EVERY = 1
_CLOSE = 5


class Tracing:
    """Samples, marks and exports. `ratio` is the share traced of the requests whose caller did not decide;
    `resource` describes this server. `close` blocks until what was made is sent, or 5 s.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        ratio: float,
        resource: Mapping[str, str],
        draw: Callable[[], float] = random,
    ) -> None:
        self._ratio = ratio
        self._draw = draw
        exporter = OTLPSpanExporter(
            endpoint=endpoint or None, insecure=_plain(endpoint) if endpoint else None, timeout=_EXPORT
        )
        described = {name: value for name, value in resource.items() if value}
        # Resource.create also reads OTEL_RESOURCE_ATTRIBUTES.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(described), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY * 1000))
        self._tracer = self._provider.get_tracer("paddle-runtime")

    def begin(self, traceparent: str | None, name: str, waited: float = 0.0) -> Mark | None:
        """The mark of a request that is to be traced, whose body has just been read; its first byte came
        `waited` seconds ago.
        """
        parent = decide(traceparent, self._ratio, self._draw)
        if parent is None:
            return None
        read = time_ns()
        arrived = read - int(waited * 1e9)
        span = self._tracer.start_span(name, _under(parent), SpanKind.SERVER, start_time=arrived)
        return Mark(span, arrived, read)

    def end(self, mark: Mark, attributes: Attributes, fault: str) -> None:
        """The request was answered. `fault` is what went wrong on our side, or ""."""
        now = time_ns()
        root = cast(Span, mark.span)
        context = set_span_in_context(root)
        for name, start, end in _stages(mark, now):
            span = self._tracer.start_span(name, context, start_time=start)
            if name == "infer":
                span.set_attributes(
                    {
                        "batch.rows": mark.rows,
                        "batch.requests": mark.requests,
                        "copy_in_ns": mark.times[0],
                        "run_ns": mark.times[1],
                        "copy_out_ns": mark.times[2],
                    }
                )
                for peer in mark.peers:
                    if peer is not mark:
                        span.add_link(cast(Span, peer.span).get_span_context())
            span.end(end)
        root.set_attributes(attributes)
        if fault:
            root.set_status(Status(StatusCode.ERROR, fault))
        root.end(now)
        mark.peers = ()

    @staticmethod
    def id(mark: Mark) -> str:
        """The trace's id, as logs write it."""
        return f"{cast(Span, mark.span).get_span_context().trace_id:032x}"

    def loaded(self, attributes: Attributes, *, load: float, warm_up: float) -> None:
        """A worker has just loaded a model in `load` seconds and warmed it up in `warm_up`."""
        now = time_ns()
        warm = now - int(warm_up * 1e9)
        start = warm - int(load * 1e9)
        root = self._tracer.start_span("load", _under(ROOT), start_time=start, attributes=dict(attributes))
        child = self._tracer.start_span("warm-up", set_span_in_context(root), start_time=warm)
        child.end(now)
        root.end(now)

    def close(self) -> None:
        # A collector that does not answer is tried again and again, so its thread may have to be left behind.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_CLOSE)


def _plain(endpoint: str) -> bool:
    return not endpoint.startswith("https://")


def _under(parent: Parent) -> Context:
    if parent is ROOT:
        return Context()
    context = SpanContext(
        parent.trace, parent.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


def _stages(mark: Mark, now: int) -> Iterator[tuple[str, int, int]]:
    """What the request went through, up to where it got; the last one ends now."""
    points = (
        ("receive", mark.arrived),
        ("preprocess", mark.read),
        ("queue", mark.queued),
        ("infer", mark.sent),
        ("postprocess", mark.done),
    )
    passed = [(name, start) for name, start in points if start]
    for index, (name, start) in enumerate(passed):
        end = passed[index + 1][1] if index + 1 < len(passed) else now
        yield name, start, max(start, end)
