"""The phase machine: every fact from every phase, by the thousand."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from controllers.phases import TABLE, Action, Event, Facts, Phase, classify, markdown, parse, walk

facts = st.builds(
    Facts,
    changed=st.booleans(),
    refused=st.booleans(),
    resolved=st.booleans(),
    serving_wanted=st.booleans(),
    serving=st.booleans(),
    broken=st.booleans(),
    overdue=st.booleans(),
)
phases = st.sampled_from(list(Phase))


def test_the_table_is_total() -> None:
    assert set(TABLE) == {(phase, event) for phase in Phase for event in Event}


@given(phases, phases, facts)
def test_where_it_ends_depends_on_the_facts_alone(one: Phase, other: Phase, facts: Facts) -> None:
    assert walk(one, facts)[0] is walk(other, facts)[0]


@given(phases, facts)
def test_a_second_pass_changes_nothing(phase: Phase, facts: Facts) -> None:
    end, _ = walk(phase, facts)
    settled = Facts(**{**{f: getattr(facts, f) for f in facts.__slots__}, "changed": False})
    assert walk(end, settled) == (end, ())


@given(phases, facts)
def test_transitions_form_a_chain_through_the_table(phase: Phase, facts: Facts) -> None:
    end, transitions = walk(phase, facts)
    at = phase
    for transition in transitions:
        assert transition.before is at
        assert TABLE[at, transition.event] == (transition.action, transition.after)
        at = transition.after
    assert at is end
    assert len(transitions) <= 4


@given(facts)
def test_a_changed_spec_leaves_ready_and_failed_through_initialized(facts: Facts) -> None:
    changed = Facts(**{**{f: getattr(facts, f) for f in facts.__slots__}, "changed": True})
    for phase in (Phase.Ready, Phase.Failed, Phase.Deploying):
        _, transitions = walk(phase, changed)
        assert transitions[0].event is Event.SpecChanged
        assert transitions[0].after is Phase.Initialized


def test_the_way_of_a_new_model() -> None:
    serving = Facts(resolved=True, serving=True)
    end, transitions = walk(Phase.New, serving)
    assert end is Phase.Ready
    assert [t.after for t in transitions] == [Phase.Initialized, Phase.Deploying, Phase.Ready]
    assert [t.action for t in transitions] == [Action.Resolve, Action.Deploy, Action.Report]


def test_failed_heals_when_the_cause_goes() -> None:
    assert walk(Phase.Failed, Facts(resolved=True, serving=True))[0] is Phase.Ready
    assert walk(Phase.Failed, Facts(resolved=True))[0] is Phase.Deploying
    assert walk(Phase.Failed, Facts(resolved=False, overdue=True))[0] is Phase.Failed


def test_refusals_come_before_progress() -> None:
    assert classify(Facts(refused=True, resolved=True, serving=True)) is Event.Refused
    assert classify(Facts(resolved=True, broken=True, overdue=True)) is Event.Broken


def test_parse_forgives_words_of_another_version() -> None:
    assert parse(None) is Phase.New
    assert parse("Ready") is Phase.Ready
    assert parse("Upgrading") is Phase.New


def test_the_documentation_shows_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
    shown = text.split("<!-- phases:begin -->")[1].split("<!-- phases:end -->")[0]
    assert shown.strip() == markdown()
