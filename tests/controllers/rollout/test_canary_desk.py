"""A service on a desk: its canary, and a hand on everything around it. What the package is made of."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from controllers.analysis.eprocess import Evidence
from controllers.analysis.tally import Verdict
from controllers.analysis.verdict import Ledger
from controllers.rollout import canary
from controllers.rollout.canary import (
    Canary,
    Command,
    Decision,
    Facts,
    Found,
    Phase,
    Plan,
    Pods,
    Report,
    Route,
    Step,
    Verb,
    decide,
    markdown,
)
from controllers.rollout.canary.rows import ROWS

PLAN = Plan(steps=(Step(5), Step(50, pause=60)), replicas=4)


@dataclass
class Desk:
    """A service `svc` with revision `old` in place and `new` wanted, and a hand on everything around it."""

    state: Canary = field(default_factory=lambda: Canary(stable="old"))
    plan: Plan = PLAN
    facts: Facts = field(
        default_factory=lambda: Facts(
            now=1_000_000.0,
            wanted="new",
            pods={"old": Pods(spec=4, ready=4), "new": Pods(spec=4, ready=4)},
        )
    )
    route: Route = Route.Verified

    def look(self, seconds: float = 0, **facts: object) -> Decision:
        """A pass, `seconds` later, with these facts."""
        self.facts = replace(self.facts, now=self.facts.now + seconds, **facts)  # type: ignore[arg-type]
        report = Report(change=self.state.traffic.change, route=self.route, message="as told")
        decision = decide("svc", self.state, self.plan, replace(self.facts, report=report))
        assert canary.from_wire(canary.to_wire(decision.state)) == decision.state
        self.state = decision.state
        return decision

    def verdict(self, verdict: Verdict, seconds: float = 0, **facts: object) -> Decision:
        state = self.state
        ledger = Ledger({"m/errors": Evidence(windows=state.step + 1)})
        found = Found(
            run=state.run,
            step=state.step,
            attempt=state.attempt,
            verdict=verdict,
            reason="numbers",
            ledger=ledger,
        )
        return self.look(seconds, found=found, **facts)

    def go(self) -> Decision:
        """A good pass, 20 s later."""
        judged = self.state.phase in (Phase.Analysing, Phase.Soaking)
        return self.verdict(Verdict.Passed, 20) if judged else self.look(20, found=None)

    def command(self, verb: Verb, *, run: int | None = None) -> Decision:
        token = f"t{self.facts.now}{verb}"
        return self.look(1, command=Command(verb, self.state.run if run is None else run, token))

    def until(self, phase: Phase, *, passes: int = 40) -> "Desk":
        """A good run up to `phase`."""
        for _ in range(passes):
            if self.state.phase is phase:
                return self
            self.go()
        raise AssertionError(self.state)


def at(phase: Phase, **changes: object) -> Desk:
    desk = Desk(**changes)  # type: ignore[arg-type]
    return desk.until(phase)


def events(decision: Decision) -> list[str]:
    return [transition.event for transition in decision.transitions]


def test_steps_that_cannot_be_followed_are_refused() -> None:
    for steps in ((), (Step(0),), (Step(101),)):
        with pytest.raises(ValueError, match="1 to 100"):
            Plan(steps=steps)


def test_the_package_exports_what_it_says() -> None:
    assert canary.__all__ == sorted(canary.__all__)
    assert all(hasattr(canary, name) for name in canary.__all__)


def test_every_phase_has_a_way_out() -> None:
    for phase in Phase:
        assert any(phase in row.phases and row.to for row in ROWS), phase


def test_the_documentation_shows_the_same_table() -> None:
    text = (Path(__file__).parents[3] / "docs/canary.md").read_text()
    shown = text.split("<!-- table:begin -->")[1].split("<!-- table:end -->")[0]
    assert shown.strip() == markdown()
