"""The replica planner against a simulated cluster: pods that start, break, crash and leave at random."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.resources.desired import Strategy
from controllers.rollout.planner import Budget, Size, budget, plan


def size(name: str, spec: int, ready: int, live: int | None = None, leaving: int = 0) -> Size:
    return Size(revision=name, spec=spec, ready=ready, live=spec if live is None else live, leaving=leaving)


def rolling(surge: int | str = 1, unavailable: int | str = 0) -> Strategy:
    return Strategy(max_surge=surge, max_unavailable=unavailable)


@pytest.mark.parametrize(
    ("surge", "unavailable", "desired", "expected"),
    [
        (1, 0, 3, Budget(1, 0)),
        ("25%", "25%", 3, Budget(1, 0)),
        ("50%", "50%", 3, Budget(2, 1)),
        ("100%", 0, 4, Budget(4, 0)),
        (0, 0, 3, Budget(0, 1)),
        (0, "10%", 3, Budget(0, 1)),
        (0, 9, 3, Budget(0, 3)),
        ("nonsense", 1, 3, Budget(0, 1)),
        ("2", "1", 3, Budget(2, 1)),
    ],
)
def test_budget(surge: int | str, unavailable: int | str, desired: int, expected: Budget) -> None:
    assert budget(rolling(surge, unavailable), desired) == expected


def test_the_first_rollout_starts_all_pods_at_once() -> None:
    assert plan(target="a", stable="", desired=3, strategy=rolling(), sizes=[]) == {"a": 3}


def test_one_by_one_with_a_surge_of_one() -> None:
    old = size("a", 3, 3)
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=[old]) == {"a": 3, "b": 1}
    waiting = [old, size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=waiting) == {"a": 3, "b": 1}
    ready = [old, size("b", 1, 1)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=ready) == {"a": 2, "b": 1}
    # The pod that leaves holds its place until it is gone.
    leaving = [size("a", 2, 2, leaving=1), size("b", 1, 1)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=leaving) == {"a": 2, "b": 1}
    gone = [size("a", 2, 2), size("b", 1, 1)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=gone) == {"a": 2, "b": 2}


def test_without_a_surge_a_pod_leaves_first() -> None:
    scarce = rolling(0, 1)
    assert plan(target="b", stable="a", desired=2, strategy=scarce, sizes=[size("a", 2, 2)]) == {
        "a": 1,
        "b": 0,
    }
    gone = [size("a", 1, 1)]
    assert plan(target="b", stable="a", desired=2, strategy=scarce, sizes=gone) == {"a": 1, "b": 1}


def test_a_broken_revision_never_reduces_the_stable_one() -> None:
    stuck = [size("a", 3, 3), size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=stuck)["a"] == 3
    shaken = [size("a", 3, 1), size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=shaken)["a"] == 3


def test_a_broken_revision_makes_room_for_the_next() -> None:
    sizes = [size("a", 3, 3), size("b", 1, 0)]
    assert plan(target="c", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {
        "a": 3,
        "b": 0,
        "c": 0,
    }
    sizes = [size("a", 3, 3), size("b", 0, 0)]
    assert plan(target="c", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {
        "a": 3,
        "b": 0,
        "c": 1,
    }


def test_ready_pods_of_an_unwanted_revision_stay_while_they_are_needed() -> None:
    sizes = [size("a", 3, 1), size("b", 2, 2)]
    assert plan(target="c", stable="a", desired=3, strategy=rolling(2), sizes=sizes) == {
        "a": 1,
        "b": 2,
        "c": 0,
    }


def test_unready_pods_of_an_unwanted_revision_go_at_once() -> None:
    sizes = [size("a", 2, 2), size("b", 1, 0)]
    assert plan(target="c", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {
        "a": 2,
        "b": 0,
        "c": 1,
    }


def test_back_in_the_middle_of_a_rollout() -> None:
    sizes = [size("a", 2, 2), size("b", 2, 2)]
    assert plan(target="a", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {"a": 2, "b": 1}
    sizes = [size("a", 2, 2), size("b", 1, 1)]
    assert plan(target="a", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {"a": 3, "b": 1}
    sizes = [size("a", 3, 3), size("b", 1, 1)]
    assert plan(target="a", stable="a", desired=3, strategy=rolling(), sizes=sizes) == {"a": 3, "b": 0}


def test_growing_while_the_new_revision_is_broken_grows_the_stable_one() -> None:
    sizes = [size("a", 3, 3), size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=6, strategy=rolling(), sizes=sizes) == {"a": 5, "b": 1}


def test_shrinking_takes_the_unready_first() -> None:
    sizes = [size("a", 4, 4), size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=2, strategy=rolling(), sizes=sizes) == {"a": 2, "b": 1}


def test_zero_is_zero() -> None:
    sizes = [size("a", 3, 3), size("b", 1, 0)]
    assert plan(target="b", stable="a", desired=0, strategy=rolling(), sizes=sizes) == {"a": 0, "b": 0}


def test_a_held_revision_replaces_nothing() -> None:
    sizes = [size("a", 3, 3), size("b", 1, 1)]
    held = plan(target="b", stable="a", desired=3, strategy=rolling(), sizes=sizes, hold=True)
    assert held == {"a": 3, "b": 1}
    alone = plan(target="b", stable="", desired=3, strategy=rolling(), sizes=[size("b", 3, 3)], hold=True)
    assert alone == {"b": 3}


def test_recreate_waits_until_every_old_pod_is_gone() -> None:
    recreate = Strategy(type="Recreate")
    steps = [
        ([size("a", 2, 2)], {"a": 0, "b": 0}),
        ([size("a", 0, 0, leaving=1)], {"a": 0, "b": 0}),
        ([size("a", 0, 0)], {"a": 0, "b": 2}),
    ]
    for sizes, expected in steps:
        assert plan(target="b", stable="a", desired=2, strategy=recreate, sizes=sizes) == expected


# -- the simulation ------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """Pods by revision; True is ready. A scale-down takes unready ones first, and they linger for a while."""

    spec: dict[str, int] = field(default_factory=dict)
    pods: dict[str, list[bool]] = field(default_factory=dict)
    leaving: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def sizes(self) -> list[Size]:
        return [
            Size(
                revision=name,
                spec=self.spec[name],
                live=len(self.pods[name]),
                leaving=self.leaving[name],
                ready=sum(self.pods[name]),
            )
            for name in sorted(self.spec)
        ]

    def scale(self, wanted: Mapping[str, int]) -> None:
        for name, number in wanted.items():
            self.spec[name] = number
            self.pods.setdefault(name, [])
            self.leaving.setdefault(name, 0)

    def kubelet(self, random: Random) -> None:
        for name in self.spec:
            if random.random() < 0.8:
                self.sync(name)
            self.happen(name, random.choice(["ready", "ready", "crash", "gone", "nothing"]))

    def sync(self, name: str) -> None:
        """What the Deployment's controller does, now or later."""
        pods = sorted(self.pods[name], reverse=True)
        self.leaving[name] += max(0, len(pods) - self.spec[name])
        self.pods[name] = pods[: self.spec[name]] + [False] * (self.spec[name] - len(pods))

    def happen(self, name: str, event: str) -> None:
        pods = self.pods[name]
        if event == "ready" and name not in self.broken and False in pods:
            pods[pods.index(False)] = True
        elif event == "crash" and True in pods:
            pods[pods.index(True)] = False
        elif event == "gone":
            self.leaving[name] = 0

    def calm(self) -> None:
        """A turn in which all goes well."""
        for name in self.spec:
            self.sync(name)
            self.happen(name, "gone")
            self.happen(name, "ready")

    @property
    def total(self) -> int:
        return sum(max(len(pods), self.spec[name]) + self.leaving[name] for name, pods in self.pods.items())

    @property
    def sure(self) -> int:
        """Pods that stay ready once every Deployment has its size."""
        return sum(min(sum(pods), self.spec[name]) for name, pods in self.pods.items())


strategies = st.builds(
    rolling,
    surge=st.integers(0, 3) | st.sampled_from(["10%", "50%", "100%"]),
    unavailable=st.integers(0, 2) | st.sampled_from(["0%", "34%", "100%"]),
)
randoms = st.randoms(use_true_random=False)


@given(random=randoms, strategy=strategies, desired=st.integers(1, 6))
def test_any_history_keeps_the_budget_and_ends_well(random: Random, strategy: Strategy, desired: int) -> None:
    cluster, target, stable = Cluster(), "a", ""
    allowed = budget(strategy, desired)
    least = desired - allowed.unavailable

    def step() -> Mapping[str, int]:
        return plan(target=target, stable=stable, desired=desired, strategy=strategy, sizes=cluster.sizes())

    for _ in range(random.randint(5, 40)):
        if random.random() < 0.15:
            target = random.choice("abcd")
        if random.random() < 0.1:
            cluster.broken ^= {random.choice("bcd")}
        total, sure = cluster.total, cluster.sure
        size_of_stable = cluster.spec.get(stable, 0)
        proven = sum(
            min(sum(pods), cluster.spec[name]) for name, pods in cluster.pods.items() if name != stable
        )
        sizes = step()
        cluster.scale(sizes)

        assert cluster.total <= max(desired + allowed.surge, total), "more pods than desired + surge"
        assert cluster.sure >= min(sure, least), "a scale-down took a ready pod that was needed"
        if stable and stable != target:
            assert sizes[stable] >= min(size_of_stable, least - proven), "stable gave way to nothing"

        cluster.kubelet(random)
        others = sum(number for name, number in cluster.spec.items() if name != target)
        if not others and sum(cluster.pods[target]) >= desired:
            stable = target

    cluster.broken.clear()
    for _ in range(60):
        cluster.scale(step())
        cluster.calm()
    assert cluster.spec == {name: desired if name == target else 0 for name in cluster.spec}
    assert sum(cluster.pods[target]) == desired


@given(random=randoms, strategy=strategies | st.just(Strategy(type="Recreate")))
def test_it_ends_well_whatever_happens_to_the_size(random: Random, strategy: Strategy) -> None:
    cluster, target, stable, desired = Cluster(), "a", "", 1

    def step() -> Mapping[str, int]:
        return plan(target=target, stable=stable, desired=desired, strategy=strategy, sizes=cluster.sizes())

    for _ in range(random.randint(3, 30)):
        if random.random() < 0.3:
            desired = random.randint(0, 6)
        if random.random() < 0.2:
            target = random.choice("abc")
        cluster.scale(step())
        cluster.kubelet(random)
        others = sum(number for name, number in cluster.spec.items() if name != target)
        if sum(cluster.pods[target]) >= desired > others == 0:
            stable = target
    for _ in range(60):
        cluster.scale(step())
        cluster.calm()
    assert cluster.spec == {name: desired if name == target else 0 for name in cluster.spec}


@given(random=randoms, desired=st.integers(1, 5))
def test_recreate_never_runs_two_revisions(random: Random, desired: int) -> None:
    cluster, target, strategy = Cluster(), "a", Strategy(type="Recreate")
    for _ in range(random.randint(5, 40)):
        if random.random() < 0.2:
            target = random.choice("abc")
        cluster.scale(
            plan(target=target, stable="a", desired=desired, strategy=strategy, sizes=cluster.sizes())
        )
        cluster.kubelet(random)
        # Pods that end may belong to any revision; pods that stay, and those to come, to one.
        assert sum(1 for name in cluster.spec if cluster.spec[name]) <= 1
        if cluster.spec.get(target):
            others = [name for name in cluster.spec if name != target]
            assert not any(cluster.pods[name] or cluster.leaving[name] for name in others)
