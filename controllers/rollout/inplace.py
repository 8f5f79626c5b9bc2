"""An update in the running pods: who is released next, and when the new state is the one that new pods get.

Pure. A *release* is one content of models.yaml, named by a hash of its models. The ConfigMap of the pod set
holds the *base*, which a new pod starts with, and every release that a pod may be told to take; a pod is told
by an annotation, and tells through its progress what it took.

Guarantees:
- one pod at a time is under way, so that the others keep their speed;
- a pod that could not take a release stops the update where it is, every pod goes on serving what it has, and
  the next release (the old one, too) is tried on all;
- a pod that has not done it after the deadline counts as one that could not, until it says otherwise;
- the base changes only when every pod that is wanted serves the release.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..reasons import Reason

#: Seconds after which a pod that knows nothing of what it was told is told again: its kubelet may have read
#: the annotation before the ConfigMap, and would by itself look only a minute later.
PATIENCE = 5.0


class State(StrEnum):
    """Of a pod towards the target. Waiting: not told yet; Taking: told, not done."""

    WAITING = "Waiting"
    TAKING = "Taking"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """told: the release in its annotation, "" for the base. taken, state, reason, message: what it reports of
    the newest release it knows; taken is "" while it has not answered. waited: seconds since it was told the
    last time; since: seconds since the first time that it was told this release.
    """

    name: str
    ready: bool
    told: str = ""
    taken: str = ""
    state: str = ""
    reason: str = ""
    message: str = ""
    waited: float = 0.0
    since: float = 0.0

    def towards(self, target: str, base: str) -> State:
        """A pod that nobody asked serves the base, if it was told nothing else: nothing is under way then,
        and such pods are not asked.
        """
        if not self.taken and target == base and self.told in ("", target):
            return State.DONE
        if self.taken == target:
            if self.state == "Done":
                return State.DONE
            if self.state == "Failed":
                return State.FAILED
            return State.TAKING
        return State.TAKING if self.told == target else State.WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The decision. tell: pods to be told of the target now; again: those that did not hear it. promote: the
    target becomes the base.

    states: by pod name. problem: (pod, reason, message) of the first pod that could not take it; late: those
    that are past the deadline.
    """

    target: str
    base: str
    tell: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    promote: bool = False
    states: tuple[tuple[str, State], ...] = ()
    problem: tuple[str, str, str] | None = None
    late: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """A pod is under way."""
        return any(state is State.TAKING for _, state in self.states)

    @property
    def done(self) -> int:
        return sum(1 for _, state in self.states if state is State.DONE)

    @property
    def settled(self) -> bool:
        """Nothing is under way and nothing is wanted."""
        return self.target == self.base and all(state is State.DONE for _, state in self.states)


def release(
    *, target: str, base: str, pods: Iterable[Pod], wanted: int, offered: bool, deadline: float = 600.0
) -> Release:
    """What comes next. offered: the ConfigMap has the target; before that nobody is told. deadline: seconds
    that a pod has to take it.
    """
    ordered: Sequence[Pod] = sorted(pods, key=lambda pod: pod.name)
    states = {pod.name: pod.towards(target, base) for pod in ordered}
    late = [pod for pod in ordered if _late(pod, target, states[pod.name], deadline)]
    states |= {pod.name: State.FAILED for pod in late}
    failed = next((pod for pod in ordered if states[pod.name] is State.FAILED), None)
    problem = (failed.name, failed.reason, failed.message) if failed is not None else None
    if failed is not None and failed in late:
        problem = (failed.name, Reason.ProgressDeadlineExceeded, overdue(deadline))
    done = sum(1 for pod in ordered if states[pod.name] is State.DONE and pod.ready)
    promote = target != base and offered and done == len(ordered) >= max(1, wanted)
    return Release(
        target=target,
        base=base,
        tell=_next(ordered, states) if offered and failed is None else (),
        again=tuple(pod.name for pod in ordered if _deaf(pod, target)) if offered else (),
        promote=promote,
        states=tuple(states.items()),
        problem=problem,
        late=tuple(pod.name for pod in late),
    )


def overdue(deadline: float) -> str:
    """What is said of a pod that is late."""
    return f"it was told {deadline:.0f} s ago and has neither taken it nor said why not"


def _late(pod: Pod, target: str, state: State, deadline: float) -> bool:
    return state is State.TAKING and pod.told == target and pod.since >= deadline


def _deaf(pod: Pod, target: str) -> bool:
    return pod.told == target != pod.taken != "" and pod.waited >= PATIENCE


def _next(ordered: Sequence[Pod], states: dict[str, State]) -> tuple[str, ...]:
    """The pods to tell: one, or all when none of them serves anyway."""
    if any(state is State.TAKING and pod.ready for pod, state in zip(ordered, states.values(), strict=True)):
        return ()
    waiting = [pod for pod in ordered if states[pod.name] is State.WAITING]
    if not any(pod.ready for pod in ordered):
        return tuple(pod.name for pod in waiting)
    return tuple(pod.name for pod in waiting if pod.ready)[:1]
