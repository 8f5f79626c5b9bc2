"""The decision about updates in running pods, driven through histories of pods that come, fail and go."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.rollout.inplace import PATIENCE, Pod, Release, State, release

RELEASES = ("r1", "r2", "r3")


@dataclass
class World:
    """Pods with what they were told and what they serve; the base that new ones start with."""

    base: str = "r1"
    target: str = "r1"
    wanted: int = 3
    broken: frozenset[str] = frozenset()
    serves: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    taken: dict[str, tuple[str, str]] = field(default_factory=dict)
    count: int = 0

    def come(self) -> None:
        self.count += 1
        name = f"p{self.count:03}"
        self.serves[name], self.told[name], self.taken[name] = self.base, "", (self.base, "Done")

    def go(self, name: str) -> None:
        for kept in (self.serves, self.told, self.taken):
            kept.pop(name)

    def work(self, name: str) -> None:
        """The pod does what it was told, or fails at it and keeps what it has."""
        wanted = self.told[name] or self.base
        if wanted in self.broken:
            self.taken[name] = (wanted, "Failed")
        else:
            self.serves[name], self.taken[name] = wanted, (wanted, "Done")

    def decide(self, blind: frozenset[str] = frozenset()) -> Release:
        pods = [
            Pod(
                name=name,
                ready=True,
                told=self.told[name],
                taken="" if name in blind else self.taken[name][0],
                state="" if name in blind else self.taken[name][1],
                reason="CorruptModel" if self.taken[name][1] == "Failed" else "",
            )
            for name in self.serves
        ]
        return release(target=self.target, base=self.base, pods=pods, wanted=self.wanted, offered=True)

    def step(self, blind: frozenset[str] = frozenset()) -> Release:
        found = self.decide(blind)
        for name in found.tell:
            self.told[name] = self.target
        if found.promote:
            assert all(self.serves[name] == self.target for name in self.serves)
            assert len(self.serves) >= self.wanted
            self.base = self.target
        return found

    def under_way(self) -> list[str]:
        """Told of something that they have not come to an end with."""
        return [name for name, told in self.told.items() if told and self.taken[name][0] != told]


ACTIONS = st.one_of(
    st.tuples(st.just("target"), st.sampled_from(RELEASES)),
    st.tuples(st.just("step"), st.frozensets(st.sampled_from(["p001", "p002", "p003"]))),
    st.tuples(st.just("work"), st.integers(0, 5)),
    st.tuples(st.just("come"), st.none()),
    st.tuples(st.just("go"), st.integers(0, 5)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.frozensets(st.sampled_from(RELEASES[1:])))
def test_one_at_a_time_and_the_base_is_what_all_serve(
    actions: list[tuple[str, object]], broken: frozenset[str]
) -> None:
    world = World(broken=broken)
    for _ in range(3):
        world.come()
    for action, value in actions:
        names = sorted(world.serves)
        if action == "target":
            world.target = str(value)
        elif action == "step":
            assert isinstance(value, frozenset)
            taking = [name for name in world.under_way() if world.told[name] == world.target]
            found = world.step(value)
            assert not (taking and found.tell)
            assert len(found.tell) <= 1
        elif action == "work" and names:
            world.work(names[int(str(value)) % len(names)])
        elif action == "come" and len(names) < 5:
            world.come()
        elif action == "go" and len(names) > 1:
            world.go(names[int(str(value)) % len(names)])
        # A pod is never told anything but a target, and a base never is a release that cannot serve.
        assert world.base not in world.broken
    # Left alone it comes to its end: everywhere, or at the first pod that cannot.
    while len(world.serves) < world.wanted:
        world.come()
    for _ in range(40):
        world.step()
        for name in world.under_way():
            world.work(name)
    found = world.decide()
    if world.target in world.broken:
        assert found.problem is not None or world.target == world.base
        assert not found.tell
    else:
        assert found.settled
        assert set(world.serves.values()) == {world.target} == {world.base}


def pods(*told: str, **more: object) -> list[Pod]:
    return [Pod(name=f"p{i}", ready=True, told=word, **more) for i, word in enumerate(told)]  # type: ignore[arg-type]


def test_nobody_is_told_before_the_content_is_offered() -> None:
    found = release(target="r2", base="r1", pods=pods("", ""), wanted=2, offered=False)
    assert (found.tell, found.promote, found.settled) == ((), False, False)
    assert release(target="r2", base="r1", pods=pods("", ""), wanted=2, offered=True).tell == ("p0",)


def test_a_failure_stops_it_and_the_old_release_takes_it_back() -> None:
    one = Pod(name="a", ready=True, told="r2", taken="r2", state="Done")
    two = Pod(name="b", ready=True, told="r2", taken="r2", state="Failed", reason="InsufficientMemory")
    three = Pod(name="c", ready=True)
    found = release(target="r2", base="r1", pods=[one, two, three], wanted=3, offered=True)
    assert (found.tell, found.promote, found.done) == ((), False, 1)
    assert found.problem == ("b", "InsufficientMemory", "")
    back = release(target="r1", base="r1", pods=[one, two, three], wanted=3, offered=True)
    assert back.tell == ("a",)
    assert dict(back.states)["c"] is State.DONE


def test_pods_that_do_not_serve_are_all_told() -> None:
    broken = [Pod(name=name, ready=False) for name in "ab"]
    assert release(target="r2", base="r1", pods=broken, wanted=2, offered=True).tell == ("a", "b")
    mixed = [Pod(name="a", ready=False), Pod(name="b", ready=True)]
    assert release(target="r2", base="r1", pods=mixed, wanted=2, offered=True).tell == ("b",)


def test_a_pod_that_did_not_hear_is_told_again_and_one_that_works_is_not() -> None:
    def again(**more: object) -> tuple[str, ...]:
        pod = Pod(name="a", ready=True, **{"told": "r2", "taken": "r1", "state": "Done", **more})  # type: ignore[arg-type]
        return release(target="r2", base="r1", pods=[pod], wanted=1, offered=True).again

    assert again(waited=PATIENCE) == ("a",)
    assert again(waited=PATIENCE - 1) == ()
    assert again(waited=PATIENCE, taken="r2", state="Pending") == ()
    assert again(waited=PATIENCE, taken="") == ()  # nobody knows
    assert again(waited=PATIENCE, told="") == ()


def test_a_pod_that_hangs_stops_it_at_the_deadline_and_goes_on_when_it_wakes() -> None:
    def found(**more: object) -> Release:
        hangs = Pod(name="a", ready=True, told="r2", **more)  # type: ignore[arg-type]
        waits = Pod(name="b", ready=True, taken="r1", state="Done")
        return release(target="r2", base="r1", pods=[hangs, waits], wanted=2, offered=True, deadline=60.0)

    for said in ({}, {"taken": "r1", "state": "Done"}, {"taken": "r2", "state": "Pending"}):
        assert found(**said, since=59.0).problem is None
        late = found(**said, since=60.0)
        assert late.states == (("a", State.FAILED), ("b", State.WAITING))
        assert late.problem is not None
        assert late.problem[:2] == ("a", "ProgressDeadlineExceeded")
        assert (late.tell, late.late, late.promote) == ((), ("a",), False)
    # One that could not says why itself, and one that is done late is done.
    failed = found(taken="r2", state="Failed", reason="CorruptModel", since=99.0)
    assert (failed.problem, failed.late) == (("a", "CorruptModel", ""), ())
    done = found(taken="r2", state="Done", since=99.0)
    assert (done.problem, done.tell) == (None, ("b",))


def test_too_few_pods_do_not_make_a_base() -> None:
    done = [Pod(name="a", ready=True, told="r2", taken="r2", state="Done")]
    assert not release(target="r2", base="r1", pods=done, wanted=2, offered=True).promote
    assert release(target="r2", base="r1", pods=done, wanted=1, offered=True).promote
    assert not release(target="r2", base="r1", pods=[], wanted=0, offered=True).promote


def test_what_a_pod_says_counts_and_not_what_it_was_told() -> None:
    def state(told: str = "", taken: str = "", state: str = "") -> State:
        return Pod(name="a", ready=True, told=told, taken=taken, state=state).towards("r2", "r1")

    assert state() is State.WAITING
    assert state(told="r2") is State.TAKING
    assert state(told="r2", taken="r1", state="Done") is State.TAKING
    assert state(told="r2", taken="r2", state="Pending") is State.TAKING
    assert state(told="r2", taken="r2", state="Done") is State.DONE
    assert state(told="r2", taken="r2", state="Failed") is State.FAILED
    # Of the base it is believed unasked, unless it was told something else.
    assert Pod(name="a", ready=True).towards("r1", "r1") is State.DONE
    assert Pod(name="a", ready=True, told="r1").towards("r1", "r1") is State.DONE
    assert Pod(name="a", ready=True, told="r2").towards("r1", "r1") is State.WAITING
