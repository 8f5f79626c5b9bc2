"""The questions of a look, and what their answers say."""

from __future__ import annotations

import pytest

from controllers.analysis.answer import Answer
from controllers.analysis.cel import Cel
from controllers.analysis.condition import compiled
from controllers.analysis.verdict import Ledger, Outcome, Why, judge
from controllers.canaryanalysis.look import Conditions, Window, seen
from controllers.canaryanalysis.spec import MetricSpec, Model, Spec

from .scenes import SPEC, Side, World, asked, spec

WINDOW = Window(seconds=60, ready=2, stable_ready=2)


def judged(world: World, spec: Spec = SPEC, window: Window = WINDOW) -> tuple[Outcome, str]:
    answers = world.answers(asked(spec, window))
    judgement = judge(seen(spec, answers, window, Conditions()).look, Ledger())
    return judgement.outcome, judgement.message


def test_both_sides_of_every_model_are_asked_about_the_same_window() -> None:
    given = asked(spec(models=(Model("a", sla=200), Model("b"))), WINDOW)
    assert len(given) == 2 * 9 + 2 * 8  # b has no SLA
    assert all("[60s]" in query for query in given.values())
    assert 'revision="bbbbbbbb",model="a"' in given["candidate/a/errors"]
    assert 'revision="aaaaaaaa",model="b"' in given["baseline/b/p95"]
    assert 'le="0.2"' in given["candidate/a/slow"]
    assert "candidate/b/slow" not in given


@pytest.mark.parametrize(
    ("spec", "window"),
    [
        (spec(weight=100), WINDOW),
        (SPEC, Window(seconds=60, ready=2, stable_ready=0)),
        (spec(models=(Model("m", sla=200, new=True),)), WINDOW),
    ],
)
def test_without_a_baseline_only_the_candidate_is_asked_and_held_to_absolute_limits(
    spec: Spec, window: Window
) -> None:
    given = asked(spec, window)
    assert {name.split("/")[0] for name in given} == {"candidate"}
    assert judged(World(baseline=None), spec, window) == (Outcome.Pass, "no worse than the baseline")
    outcome, message = judged(World(candidate=Side(errors=0.06)), spec, window)
    assert outcome is Outcome.Undecided
    assert "at most 5.0% passes" in message


def test_counts_are_what_was_seen_and_not_what_was_stretched() -> None:
    answers = World(candidate=Side(qps=10, errors=0.1)).answers(asked(SPEC, WINDOW))
    found = seen(SPEC, answers, WINDOW, Conditions())
    (sample,) = found.look.samples
    # 12 scrapes in 60 s: 11 of 12 parts were seen.
    assert sample.candidate.requests == pytest.approx(600 * 11 / 12)
    assert sample.candidate.errors == pytest.approx(60 * 11 / 12)
    assert found.models[0].candidate.error_rate == pytest.approx(0.1)
    assert found.models[0].candidate.qps == 10


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (World(candidate=Side(scrape=20)), "3 scrapes, 4 are needed"),
        (World(candidate=Side(pods=None)), "0 scrapes, 4 are needed"),
        (World(baseline=None), "no data for the baseline"),
        (World(candidate=Side(qps=0)), "the candidate got no request"),
        (World(candidate=Side(qps=0.5)), "28 requests of the candidate, 50 are needed"),
        (World(baseline=Side(qps=1)), "55 requests of the baseline, 100 are needed"),
    ],
)
def test_what_cannot_pass(world: World, words: str) -> None:
    outcome, message = judged(world)
    assert outcome is Outcome.Undecided
    assert words in message


def test_pods_that_are_ready_and_not_scraped_are_unknown_to_us() -> None:
    window = Window(seconds=60, ready=5, stable_ready=2)
    assert judged(World(), SPEC, window)[1] == "Prometheus saw 2 of 5 ready pods of the candidate"
    assert judged(World(), SPEC, Window(seconds=60, ready=0, stable_ready=2))[0] is Outcome.Undecided


def test_a_little_below_zero_is_zero_and_more_is_no_data() -> None:
    answers = World().answers(asked(SPEC, WINDOW))
    for value, why in ((-0.5, Why.Good), (-5.0, Why.NoData)):
        changed = {**answers, "candidate/m/slow": Answer(value)}
        assert judge(seen(SPEC, changed, WINDOW, Conditions()).look, Ledger()).why is why


def test_conditions_are_held_for_each_model() -> None:
    two = spec(models=(Model("a"), Model("b")))
    answers = World().answers(asked(two, WINDOW))
    answers["candidate/b/p95"] = Answer(300.0)
    conditions = Conditions(success=compiled("status.metrics.latency.p95 < 200", Cel()))
    judgement = judge(seen(two, answers, WINDOW, conditions).look, Ledger())
    assert (judgement.outcome, judgement.message) == (Outcome.Fail, "b: successCondition is false")


def test_built_in_metrics_are_judged_a_model_and_own_ones_once() -> None:
    built = MetricSpec(name="latencyP95", max=40.0, critical=True)
    assert judged(World(), spec(metrics=(built,))) == (
        Outcome.Fail,
        "m: latencyP95 is 50, at most 40 is allowed",
    )
    ratio = MetricSpec(name="latencyP95", max_ratio=1.2)
    assert judged(World(baseline=Side(qps=38, latency=45)), spec(metrics=(ratio,)))[0] is Outcome.Pass
    assert judged(World(baseline=Side(qps=38, latency=40)), spec(metrics=(ratio,)))[0] is Outcome.Undecided
    own = MetricSpec(name="own", query="sum(x)", max=5.0)
    assert judged(World(), spec(metrics=(own,))) == (
        Outcome.Undecided,
        "own is 7, at most 5 is allowed",
    )
    assert judged(World(own=None), spec(metrics=(own,)))[1] == "no data for the metric own: no series"


def test_own_queries_get_what_they_cannot_know() -> None:
    metric = MetricSpec(
        name="own", query='x{ns="$namespace",s="$service",r="$revision"}[$window]', max_ratio=2
    )
    given = asked(spec(metrics=(metric,)), WINDOW, "prod")
    assert given["candidate//own"] == 'x{ns="prod",s="ocr",r="bbbbbbbb"}[60s]'
    assert given["baseline//own"] == 'x{ns="prod",s="ocr",r="aaaaaaaa"}[60s]'
    soak = asked(spec(metrics=(metric,), weight=100), WINDOW, "prod")
    assert "baseline//own" not in soak
