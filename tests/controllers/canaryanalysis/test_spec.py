"""How an analysis is made for a step, and how it is read back; its status on the wire."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.analysis.condition import Values
from controllers.analysis.eprocess import Evidence
from controllers.analysis.tally import Tally, Verdict
from controllers.analysis.verdict import Ledger, Metric, Outcome
from controllers.canaryanalysis.look import ModelValues
from controllers.canaryanalysis.progress import Closed, Progress
from controllers.canaryanalysis.spec import MetricSpec, Model, build, decode
from controllers.canaryanalysis.status import from_wire, to_wire
from controllers.resources.meta import Owner
from controllers.rollout.canary import StartAnalysis

EFFECT = StartAnalysis(
    name="ocr-bbbbbbbb-2-1-3",
    run=2,
    step=1,
    attempt=3,
    candidate="bbbbbbbb",
    baseline="aaaaaaaa",
    weight=20,
    ledger=Ledger({"m/errors": Evidence(windows=3, candidate=10, baseline=90)}),
)
OWNER = Owner("prod", "ocr", "uid-1")


def test_what_is_built_is_what_is_read() -> None:
    analysis = {
        "interval": 30,
        "requiredPasses": 2,
        "prometheus": "eu",
        "successCondition": "a",
        "failureCondition": "b",
        "metrics": [{"name": "latencyP95", "max": 0, "critical": True}],
        "onNoData": "Hold",
    }
    models = [Model("m", sla=200), Model("n", new=True)]
    body = build(EFFECT, OWNER, window_start=1000.2, analysis=analysis, models=models)
    metadata, raw = body["metadata"], body["spec"]
    assert isinstance(metadata, dict)
    assert isinstance(raw, dict)
    assert metadata["name"] == EFFECT.name
    assert metadata["ownerReferences"][0]["uid"] == "uid-1"
    assert metadata["ownerReferences"][0]["controller"] is True
    assert "serving.paddlepaddle.org/role" not in metadata["labels"]
    assert "onNoData" not in raw
    spec = decode(raw)
    assert spec.name == EFFECT.name
    assert spec.fence == (2, 3, 1)
    assert spec.window_start == 1001  # nothing from before it had settled
    assert (spec.interval, spec.passes, spec.prometheus) == (30, 2, "eu")
    assert (spec.success, spec.failure) == ("a", "b")
    assert spec.models == tuple(models)
    assert spec.metrics == (MetricSpec(name="latencyP95", max=0.0, critical=True),)
    assert spec.ledger == EFFECT.ledger


def test_the_short_form_has_good_defaults() -> None:
    raw = build(EFFECT, OWNER, window_start=1000, analysis={}, models=[Model("m")])["spec"]
    assert isinstance(raw, dict)
    spec = decode(raw)
    assert (spec.interval, spec.passes, spec.prometheus, spec.metrics) == (60, 3, "default", ())
    assert spec.minimum == 0


def test_a_soak_says_how_long_it_goes_on() -> None:
    body = build(EFFECT, OWNER, window_start=1000, analysis={}, models=[Model("m")], minimum=300)
    raw = body["spec"]
    assert isinstance(raw, dict)
    assert decode(raw).minimum == 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": []}, "nothing to judge"),
        ({"windowStart": "now"}, "'now' is no time"),
        ({"evidence": {"m/errors": {"logs": [1]}}}, "start a new attempt"),
    ],
)
def test_what_cannot_be_read(change: dict[str, object], words: str) -> None:
    raw = build(EFFECT, OWNER, window_start=1000, analysis={}, models=[Model("m")])["spec"]
    assert isinstance(raw, dict)
    with pytest.raises(ValueError, match=words):
        decode(raw | change)


seconds = st.integers(1, 4_000_000_000).map(float)
numbers = st.none() | st.integers(0, 10_000).map(float)
values = st.builds(
    Values, p50=numbers, p95=numbers, p99=numbers, error_rate=numbers, slow_rate=numbers, qps=numbers,
    samples=numbers,
)  # fmt: skip
words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
progresses = st.builds(
    Progress,
    verdict=st.sampled_from(Verdict),
    reason=words,
    message=words,
    started=seconds,
    finished=seconds | st.just(0.0),
    start=seconds,
    looks=st.integers(0, 4),
    next_look=seconds | st.just(0.0),
    last_look=seconds | st.just(0.0),
    failing=seconds | st.just(0.0),
    errors=st.integers(0, 99),
    available=st.sampled_from([None, True]),
    tally=st.builds(Tally, windows=st.integers(0, 60), passes=st.integers(0, 9), failed=st.booleans()),
    ledger=st.builds(
        Ledger, st.dictionaries(words, st.builds(Evidence, windows=st.integers(0, 9)), max_size=2)
    ),
    closed=st.lists(
        st.builds(
            Closed, start=seconds, end=seconds, outcome=st.sampled_from(Outcome), reason=words, message=words
        ),
        max_size=2,
    ).map(tuple),
    models=st.lists(
        st.builds(
            ModelValues,
            model=words,
            candidate=values,
            baseline=st.none() | values.filter(lambda value: value != Values()),
        ),
        max_size=2,
    ).map(tuple),
    metrics=st.lists(
        st.builds(Metric, name=words, model=words, value=numbers, baseline=numbers), max_size=2
    ).map(tuple),
)


@given(progresses)
@settings(max_examples=100)
def test_a_restart_forgets_nothing(progress: Progress) -> None:
    wire = to_wire(progress, generation=1, before={}, now=1000.0)
    read = from_wire(wire)
    assert read is not None
    if not progress.running:  # the window is closed for good
        progress = replace(progress, start=0.0, looks=0)
    assert read == progress
    assert to_wire(read, generation=1, before=wire, now=2000.0) == wire  # and nothing is written for nothing


def test_a_status_of_somebody_else_is_no_progress() -> None:
    assert from_wire({}) is None
    with pytest.raises(ValueError, match="tally cannot be read"):
        from_wire({"verdict": "Running"})
    with pytest.raises(ValueError, match="Great"):
        from_wire({"verdict": "Great"})
