"""How many replicas each revision has next. Pure.

Several Deployments, one per revision, share one budget: `desired` replicas, up to `max_surge` more, at most
`max_unavailable` not ready. `plan` looks at what is there and gives the next size of each; it is called again
whenever something changes, and keeps no memory.

Guarantees, for RollingUpdate and as long as `desired` stays the same:
- the sizes never add up to more than desired + surge (pods that still leave are counted);
- a scale-down never takes a ready pod while fewer than desired - unavailable would be left, nor the stable
  revision's pods (ready or not) before as many of other revisions are ready;
- a revision that never became stable and is not wanted any more gives up its pods that are not ready at once;
- if the new revision's pods become ready, the plan ends with it at `desired` and all others at 0.

With Recreate no pod of the new revision exists before every other pod is gone.

On GPUs a surge may have no place to go: with maxSurge 0 and maxUnavailable 1 a pod leaves first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..resources.desired import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A revision as observed.

    spec: replicas asked for. live: pods that exist and stay. leaving: pods that end. ready: those of `live`
    that are.
    """

    revision: str
    spec: int
    live: int
    ready: int
    leaving: int = 0

    @property
    def sure(self) -> int:
        """Pods that stay ready whatever a scale-down under way still takes (unready ones go first)."""
        return min(self.spec, self.ready)

    def held(self, spec: int) -> int:
        """Places of the budget that the revision takes when it is scaled to `spec`: a pod holds its place
        until it is gone.
        """
        return max(spec, self.live) + self.leaving


@dataclass(frozen=True, slots=True)
class Budget:
    surge: int
    unavailable: int


def budget(strategy: Strategy, desired: int) -> Budget:
    """Surge (rounded up) and unavailable (rounded down) as counts; never both 0, or nothing could ever
    move.
    """
    surge = _count(strategy.max_surge, desired, up=True)
    unavailable = min(_count(strategy.max_unavailable, desired, up=False), desired)
    return Budget(surge, unavailable) if surge or unavailable else Budget(0, 1)


def _count(value: int | str, desired: int, *, up: bool) -> int:
    if isinstance(value, int):
        return max(0, value)
    digits = value.strip().removesuffix("%")
    if not digits.isdigit():
        return 0
    share = int(digits) * desired
    if not value.strip().endswith("%"):
        return int(digits)
    return math.ceil(share / 100) if up else share // 100


def plan(
    *,
    target: str,
    stable: str,
    desired: int,
    strategy: Strategy,
    sizes: Sequence[Size],
    hold: bool = False,
) -> Mapping[str, int]:
    """The next size of every revision in `sizes` and of `target` (which may not exist yet).

    stable: the revision that was promoted last, or "". hold: keep what `target` already has but let it
    replace nothing more (its latency does not hold its promise).
    """
    by_name = {size.revision: size for size in sizes}
    new = by_name.get(target) or Size(revision=target, spec=0, live=0, ready=0)
    others = [size for size in sizes if size.revision != target]
    if desired <= 0:
        return {target: 0} | {size.revision: 0 for size in others}
    if strategy.type == "Recreate":
        gone = all(size.held(size.spec) == 0 for size in others)
        return {target: desired if gone else min(new.spec, desired)} | {size.revision: 0 for size in others}
    return _rolling(new, others, stable, desired, budget(strategy, desired), hold)


def _rolling(
    new: Size, others: list[Size], stable: str, desired: int, allowed: Budget, hold: bool
) -> Mapping[str, int]:
    result = {size.revision: size.spec for size in others}
    replaced = 0 if hold else min(new.sure, desired)
    _drop_unready(result, others, stable)
    _drop_replaced(
        result, others, stable, new.sure, max(0, desired - allowed.unavailable - replaced), allowed, desired
    )
    grown = _regrow(result, others, new, stable, desired, allowed)

    room = desired + allowed.surge - sum(size.held(result[size.revision]) for size in others) - new.leaving
    wanted = min(desired, max(new.spec, room))
    if hold and others and sum(result.values()):
        wanted = min(wanted, max(new.spec, max(1, allowed.surge)))
    if grown:
        wanted = min(wanted, new.spec)
    excess = wanted + sum(result.values()) - (desired + allowed.surge)
    if excess > 0:
        # `desired` shrank below what is there: what is not ready goes first, and the stable revision stays.
        wanted = max(min(new.sure, wanted), wanted - excess)
    result[new.revision] = wanted
    return result


def _drop_unready(result: dict[str, int], others: list[Size], stable: str) -> None:
    for size in others:
        if size.revision != stable:
            result[size.revision] = min(size.spec, size.sure)


def _drop_replaced(
    result: dict[str, int],
    others: list[Size],
    stable: str,
    new_ready: int,
    keep: int,
    allowed: Budget,
    desired: int,
) -> None:
    """Shrink the other revisions to `keep` together, the stable one last, as far as readiness allows."""
    ready = {size.revision: min(size.ready, result[size.revision]) for size in others}
    least = desired - allowed.unavailable
    spare = max(0, new_ready + sum(ready.values()) - least)
    surplus = max(0, sum(result.values()) - keep)
    for size in sorted(others, key=lambda item: (item.revision == stable, item.revision)):
        name = size.revision
        unready = result[name] - ready[name]
        take = min(surplus, unready + min(spare, ready[name]))
        result[name] -= take
        surplus -= take
        spare -= max(0, take - unready)


def _regrow(
    result: dict[str, int], others: list[Size], new: Size, stable: str, desired: int, allowed: Budget
) -> bool:
    """`desired` grew while the new revision is not proven: the stable one takes up the growth."""
    if stable not in result or new.sure >= new.spec:
        return False
    missing = desired - new.spec - sum(result.values())
    taken = new.held(new.spec) + sum(size.held(result[size.revision]) for size in others)
    room = desired + allowed.surge - taken
    growth = min(missing, room)
    if growth <= 0:
        return False
    result[stable] += growth
    return True
