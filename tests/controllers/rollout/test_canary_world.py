"""The canary in a world that breaks: late and refusing routes, crashes between any two effects, stale caches,
clock jumps, late writers, commands at any time. What must hold, holds in every history.
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controllers.analysis.tally import Verdict
from controllers.rollout.canary import (
    Canary,
    Command,
    Decision,
    Effect,
    Endpoints,
    Ensure,
    Facts,
    Found,
    Means,
    Pause,
    Phase,
    Plan,
    Pods,
    Remove,
    Report,
    Route,
    Scale,
    Select,
    SetWeight,
    Stamp,
    StartAnalysis,
    Step,
    Verb,
    Way,
    counts,
    decide,
    from_wire,
    to_wire,
)
from controllers.rollout.canary.rows import ROWS

from .provider import Provider

REPLICAS = 4
REVISIONS = ("a", "b", "c")
PLANS = (
    Plan(steps=(Step(5), Step(50)), replicas=REPLICAS),
    Plan(steps=(Step(10), Step(20, pause=60), Step(100)), replicas=REPLICAS, on_deadline="Rollback"),
    Plan(steps=(Step(5),), replicas=REPLICAS, stable_for=0, on_no_data="Rollback"),
)
#: Ways to a higher step that are neither a skip.
STEPS = {"passed", "step over", "promote"}
LEAPS = {"promote-full", "steps edited"}


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.plan = PLANS[0]
        self.wanted = "a"
        self.stored: dict[str, object] = {}
        self.pods: dict[str, Pods] = {"a": Pods(spec=REPLICAS, ready=REPLICAS)}
        self.provider = Provider()
        self.verdicts: dict[tuple[int, int, int], Verdict] = {}
        self.order: list[tuple[int, int, int]] = []
        self.command: Command | None = None
        self.weights: dict[tuple[int, int, int], int] = {}
        self.tokens = 0
        self.metrics = True
        self.hold = ""
        self.seen: list[tuple[dict[str, Pods], Report]] = []
        self.writes: list[SetWeight] = []
        self.last: Decision | None = None
        self.means: Means = "Standing"
        # Where the Service's selector, its EndpointSlices and the slowest client lead.
        self.selected = self.endpoints = Endpoints.Pods
        self.lagging: dict[Endpoints, float] = {}
        self.elapsed, self.jumped = 0.0, False
        self.versions = dict.fromkeys(REVISIONS, 0)
        self.scales: list[tuple[Scale, int]] = []

    @initialize(
        passes=st.integers(0, 30),
        plan=st.sampled_from(PLANS),
        known=st.booleans(),
        means=st.sampled_from(["Standing", "Switched", "Switched", "Pods"]),
    )
    def a_run_is_on_its_way(self, passes: int, plan: Plan, known: bool, means: Means) -> None:
        """known: a service that has a stable revision already, and never had a route with weights."""
        self.means, self.plan = means, replace(plan, means=means)
        if known:
            self.stored = to_wire(Canary(stable="a"))
        for _ in range(passes):
            self.all_is_well()
            self.wanted = "b"

    # what happens outside

    @rule()
    def all_is_well(self) -> None:
        """A pass as it should be."""
        self.pods_become_ready()
        self.endpoints_follow()
        self.provider.work()
        if self.order:
            self.verdicts.setdefault(self.order[-1], Verdict.Passed)
        self.time_passes(20)
        self.reconcile(0, None)

    @rule(passes=st.integers(2, 8))
    def all_is_well_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            self.all_is_well()

    @rule(seconds=st.sampled_from([1, 20, 61, 400, 700, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.elapsed += seconds
        for name, pods in self.pods.items():
            if pods.ready == 0:
                self.pods[name] = replace(pods, unready_for=pods.unready_for + seconds)

    @rule(seconds=st.sampled_from([-90_000, -3_600, -30, 3_600, 90_000]))
    def clock_jumps(self, seconds: int) -> None:
        self.now += seconds
        self.jumped = self.jumped or seconds > 0

    @rule()
    def endpoints_follow(self) -> None:
        """The EndpointSlices are what the selector says; the slowest client follows within 14 s."""
        if self.endpoints is not self.selected:
            self.lagging[self.endpoints] = self.elapsed + 14
            self.endpoints = self.selected
            self.lagging.pop(self.endpoints, None)

    def reached(self, end: Endpoints) -> bool:
        """Whether a client may still come this way."""
        return self.endpoints is end or self.elapsed < self.lagging.get(end, -1.0)

    @rule(revision=st.sampled_from(REVISIONS))
    def spec_changes(self, revision: str) -> None:
        self.wanted = revision

    @rule(plan=st.sampled_from(PLANS))
    def plan_changes(self, plan: Plan) -> None:
        self.plan = replace(plan, means=self.means)

    @rule()
    def pods_become_ready(self) -> None:
        for name, pods in self.pods.items():
            if not pods.broken:
                self.pods[name] = replace(pods, ready=pods.spec, unready_for=0)

    @rule(revision=st.sampled_from(REVISIONS), ready=st.integers(0, 3), broken=st.booleans())
    def pods_die(self, revision: str, ready: int, broken: bool) -> None:
        pods = self.pods.get(revision)
        if pods is not None:
            ready = min(ready, pods.ready)
            why = "CrashLoop" if broken and not ready else ""
            self.pods[revision] = replace(pods, ready=ready, broken=why)

    @rule(
        mode=st.sampled_from(
            [Route.Verified, Route.Verified, Route.Pending, Route.Refused, Route.Unreachable]
        )
    )
    def provider_is(self, mode: Route) -> None:
        self.provider.mode = mode

    @rule()
    def provider_works(self) -> None:
        self.provider.work()

    @rule(weight=st.integers(0, 100))
    def somebody_edits_the_route(self, weight: int) -> None:
        force = self.provider.force
        if force and len(force) == 2 and self.provider.force == self.provider.weights:
            one, other = force
            self.provider.force = {one: 100 - weight, other: weight}
            self.provider.drifted = True

    @precondition(lambda self: self.order)
    @rule(verdict=st.sampled_from([Verdict.Passed, Verdict.Passed, *Verdict]))
    def analysis_ends(self, verdict: Verdict) -> None:
        self.verdicts[self.order[-1]] = verdict

    @rule(metrics=st.booleans(), hold=st.sampled_from(["", "", "hook approve says no"]))
    def outside_is(self, metrics: bool, hold: str) -> None:
        self.metrics, self.hold = metrics, hold

    @rule(verb=st.sampled_from(Verb), late=st.sampled_from([False, False, True]))
    def person_asks(self, verb: Verb, late: bool) -> None:
        self.tokens += 1
        self.command = Command(verb, max(0, self.state.run - late), f"t{self.tokens}")

    @precondition(lambda self: self.writes)
    @rule(index=st.integers(0, 1000))
    def late_writer(self, index: int) -> None:
        self.provider.write(self.writes[index % len(self.writes)])

    @precondition(lambda self: self.scales)
    @rule(index=st.integers(0, 1000))
    def late_scale(self, index: int) -> None:
        """By a leader that was frozen: with the version of the Deployment that it had seen."""
        effect, version = self.scales[index % len(self.scales)]
        if version == self.versions[effect.revision]:
            self.act(effect)

    # the operator

    @property
    def state(self) -> Canary:
        return from_wire(self.stored)

    def facts(self, stale: int) -> Facts:
        self.seen.append((dict(self.pods), self.provider.report()))
        pods, report = self.seen[max(0, len(self.seen) - 1 - stale)]
        if self.means == "Pods":
            report = self.counted(pods)
        key = self.order[max(0, len(self.order) - 1 - stale)] if self.order else None
        found = None
        if key is not None and key in self.verdicts:
            found = Found(run=key[0], step=key[1], attempt=key[2], verdict=self.verdicts[key])
        return Facts(
            now=self.now,
            wanted=self.wanted,
            pods=pods,
            report=report,
            found=found,
            command=self.command,
            metrics=self.metrics,
            hold=self.hold,
            endpoints=self.endpoints if self.endpoints is self.selected else Endpoints.Mixed,
            removed=self.provider.removed == self.state.traffic.change > 0,
        )

    def counted(self, pods: dict[str, Pods]) -> Report:
        """Where pods are the weight, the provider only counts them."""
        traffic = self.state.traffic
        share = traffic.share(self.state.candidate)
        sizes = dict(zip((self.state.stable, self.state.candidate), counts(REPLICAS, share), strict=True))
        right = all(pods.get(name, Pods()).ready == size for name, size in sizes.items() if name)
        return Report(change=traffic.change, route=Route.Verified if right else Route.Pending)

    @rule(stale=st.sampled_from([0, 0, 0, 1, 3]), crash=st.sampled_from([None, None, None, 0, 1, 2, 3]))
    def reconcile(self, stale: int, crash: int | None) -> None:
        """crash: how many of (the write, then each effect) were done."""
        before, facts = self.state, self.facts(stale)
        decision = decide("svc", before, self.plan, facts)
        self.check(before, decision, facts)
        if crash == 0:
            return
        if decision.changed:
            self.stored = to_wire(decision.state)
            assert self.state == decision.state
        self.last = decision
        scales = [effect for effect in decision.effects if isinstance(effect, Scale)]
        self.scales += [(effect, self.versions[effect.revision]) for effect in scales]
        for effect in decision.effects[: None if crash is None else crash - 1]:
            self.act(effect)

    def act(self, effect: Effect) -> None:
        match effect:
            case SetWeight() if self.means == "Pods":
                pass  # the sizes are the weight
            case SetWeight():
                self.writes.append(effect)
                self.provider.write(effect)
            case Ensure():
                self.pods.setdefault(effect.revision, Pods())
            case Scale():
                pods = self.pods.get(effect.revision, Pods())
                if effect.change < pods.change:
                    return
                if effect.replicas < pods.spec and self.means != "Pods":
                    assert self.state.traffic.most(effect.revision) == 0, effect
                    assert self.provider.drifted or not (self.provider.force or {}).get(effect.revision)
                    assert effect.replicas or effect.revision not in (
                        self.state.candidate,
                        self.state.retiring,
                    )
                self.versions[effect.revision] += 1
                ready = min(pods.ready, effect.replicas)
                self.pods[effect.revision] = replace(pods, spec=effect.replicas, ready=ready)
                self.seen.clear()  # a pass never sees a Deployment older than the operator's own write
            case Stamp():
                assert effect.change == self.state.traffic.change
                pods = self.pods[effect.revision]
                self.versions[effect.revision] += 1
                self.pods[effect.revision] = replace(pods, change=max(pods.change, effect.change))
                self.seen.clear()
            case Select():
                self.selected = Endpoints.Routers if effect.routers else Endpoints.Pods
            case Remove():
                assert not self.reached(Endpoints.Routers) or self.jumped
                self.provider.remove(effect.change)
            case StartAnalysis():
                key = (effect.run, effect.step, effect.attempt)
                assert effect.name == f"svc-{effect.candidate}-{effect.run}-{effect.step}-{effect.attempt}"
                if key not in self.order:
                    self.order.append(key)
                    self.weights[key] = effect.weight
                assert self.weights[key] == effect.weight  # a name never means two steps

    def check(self, before: Canary, decision: Decision, facts: Facts) -> None:
        after, events = decision.state, {transition.event for transition in decision.transitions}
        assert len(decision.transitions) < 16, events
        for moved in decision.transitions:  # the table's last column is what really happens
            assert any(
                moved.event == row.event
                and moved.before in row.phases
                and moved.after in (row.to or (moved.before,))
                for row in ROWS
            ), moved
        if after.phase is not Phase.Idle:
            assert decision.waits_for
        # no weight to a revision without ready endpoints; the first ask only says what is so already
        for name, weight in after.traffic.weights if self.means != "Pods" else ():
            if weight > before.traffic.share(name) and before.traffic.weights:
                assert facts.pods[name].ready > 0, (name, events)
                assert name != after.candidate or facts.pods[name].ready >= self.plan.pods(weight)
        # one change in flight, unless it takes weight away from the candidate
        if (
            before.traffic.in_flight
            and after.traffic.change > before.traffic.change
            and not events & {"verified", "drifted"}
        ):
            assert after.traffic.share(before.candidate) < before.traffic.share(before.candidate)
        # no step skipped, nothing passed without a verdict
        if (after.run, after.candidate) == (before.run, before.candidate) and after.step > before.step:
            assert events & LEAPS or (after.step == before.step + 1 and events & STEPS), events
        if events & {"passed", "stable"} and not ("stable" in events and self.plan.stable_for <= 0):
            assert self.verdicts.get((before.run, before.step, before.attempt)) is Verdict.Passed
        if after.stable != before.stable and before.stable:
            assert before.traffic.most(before.stable) == 0 or "verified" in events
            assert after.stable == before.candidate
            assert events & {"stable", "promote, promote-full"}

    @invariant()
    def nothing_with_traffic_is_scaled_away(self) -> None:
        if not self.provider.drifted:
            for name, weight in (self.provider.force or {}).items():
                assert not weight or self.pods[name].spec > 0, name

    @invariant()
    def clients_meet_stable_whichever_way_they_go(self) -> None:
        if self.means != "Switched" or self.jumped:
            return
        if self.reached(Endpoints.Pods) and self.state.stable:
            others = {n: p for n, p in self.pods.items() if p.ready and n != self.state.stable}
            assert not others, others
        if self.reached(Endpoints.Routers):
            assert self.provider.force, "routers without a route"

    @invariant()
    def pods_that_are_the_weight_are_enough(self) -> None:
        if self.means == "Pods" and self.state.stable:
            assert sum(pods.spec for pods in self.pods.values()) >= REPLICAS

    def teardown(self) -> None:
        """Once the world is well again and persons answer, the run ends where the spec wants it."""
        self.provider.mode, self.metrics, self.hold, self.command = Route.Verified, True, "", None
        for _ in range(120):
            self.pods = {n: replace(p, ready=p.spec, unready_for=0, broken="") for n, p in self.pods.items()}
            self.now += 200
            self.elapsed += 200
            for key in self.order:
                self.verdicts.setdefault(key, Verdict.Passed)
                if self.verdicts[key] is Verdict.Running:
                    self.verdicts[key] = Verdict.Passed
            state = self.state
            if state.phase is Phase.Paused and state.pause in (Pause.User, Pause.Inconclusive):
                self.tokens += 1
                self.command = Command(Verb.Resume, state.run, f"t{self.tokens}")
            self.endpoints_follow()
            self.provider.work()
            self.reconcile(0, None)
        state = self.state
        assert state.path.way is Way.Direct, (state.path, self.last and self.last.waits_for)
        assert state.phase is Phase.Idle, (state, self.last and self.last.waits_for)
        assert self.wanted == state.stable or self.wanted in state.rejected
        assert self.pods[state.stable].spec == REPLICAS
        assert [name for name, pods in self.pods.items() if pods.spec and name != state.stable] == []


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
