"""Whose turn it is, when more models could run than there are slots. Pure: the clock is a number.

Start-time fair queueing over slot-seconds, with three exceptions that are bounded: who would be late goes
first, who has waited too long goes before all, and while a large run's slots gather, small ones that end
before may pass (backfilling, as batch systems do it).
"""

from __future__ import annotations

from dataclasses import dataclass

# Slot-seconds that a share may be ahead of the others because its requests were urgent, or keep as a claim
# from a time when it did not use its part.
_CREDIT = 1.0
# A share has waited too long after so many times what its part of the slots would have it wait, but not
# before the first and not later than the second number of seconds.
_PATIENCE = 4.0
_SHORTEST_WAIT = 1.0
LONGEST_WAIT = 10.0


@dataclass(slots=True, eq=False)
class Share:
    """One model's standing. `passed` is its virtual time: slot-seconds taken over `weight`.

    While it waits (`since` is set), `due` is when its most urgent request should be answered; `cost` is what
    its next or last run takes, at a guess, in seconds.
    """

    weight: float
    need: int
    number: int
    passed: float = 0.0
    slot_seconds: float = 0.0
    runs: int = 0
    begun: int = 0
    since: float | None = None
    due: float = 0.0
    cost: float = 0.0


@dataclass(slots=True, eq=False)
class Run:
    """A worker that is busy, with the slots it holds."""

    share: Share
    slots: int
    began: float
    cost: float


class Scheduler:
    """Guarantees: runs never hold more than `slots`; when nothing runs, whoever waits may begin; a free slot
    stays free only for the one that is next and needs more than are free; over time, shares that always want
    to run get slot-seconds in proportion to their weights, as far as they can use them; and a share that
    waits begins after at most LONGEST_WAIT seconds and one run of each share that has waited longer.

    A run that needs more than all slots takes them all. When `slots` is lowered, what runs goes on.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.used = 0
        self.waiting: list[Share] = []
        self._running: list[Run] = []
        self._shares: list[Share] = []
        self._virtual = 0.0  # the highest of the lowest `passed` of those that waited
        self._joined = 0

    def join(self, weight: float, need: int) -> Share:
        self._joined += 1
        share = Share(weight, need, self._joined, passed=self._virtual)
        self._shares.append(share)
        return share

    def leave(self, share: Share, now: float) -> None:
        """It waits no more, and what it runs holds nothing any more."""
        self.withdraw(share)
        for run in [run for run in self._running if run.share is share]:
            self.end(run, now)
        if share in self._shares:
            self._shares.remove(share)

    def fits(self, share: Share) -> bool:
        """Nobody waits and it needs no more slots than are free: the short way past everything else."""
        return not self.waiting and self.used + share.need <= self.slots

    def admits(self, share: Share, now: float, *, due: float, cost: float) -> bool:
        """Whether it may begin now; else it waits from here on."""
        if share.since is None:
            self._forfeit(share)
            share.since = now
            self.waiting.append(share)
        share.due, share.cost = due, cost
        return self.next(now) is share

    def withdraw(self, share: Share) -> None:
        """It has nothing to run now."""
        if share.since is not None:
            share.since = None
            self.waiting.remove(share)

    def begin(self, share: Share, now: float, cost: float) -> Run:
        """For whom `fits` or `admits` said yes, and for whom the same slots were held until just now."""
        if not self.waiting or (share.since is not None and len(self.waiting) == 1):
            self._virtual = max(self._virtual, share.passed)
        self._forfeit(share)
        self.withdraw(share)
        share.cost = cost
        run = Run(share, max(0, min(share.need, self.slots - self.used)), now, cost)
        self.used += run.slots
        share.passed += cost * run.slots / share.weight
        share.runs += 1
        share.begun += 1
        self._running.append(run)
        return run

    def follow(self, run: Run, now: float, cost: float) -> None:
        """The worker has ended a run and goes on with another in the same slots."""
        self._settle(run, now)
        run.began, run.cost = now, cost
        run.share.passed += cost * run.slots / run.share.weight

    def end(self, run: Run, now: float) -> None:
        """Idempotent."""
        if run not in self._running:
            return
        self._running.remove(run)
        self._settle(run, now)
        run.share.runs -= 1
        self.used -= run.slots

    def next(self, now: float) -> Share | None:
        """Who is to begin now, of those that wait."""
        waiting = self.waiting
        if not waiting:
            return None
        least = min(share.passed for share in waiting)
        self._virtual = max(self._virtual, least)
        ranked = sorted(waiting, key=lambda share: self._rank(share, now, least))
        head = ranked[0]
        free = self.slots - self.used
        if min(head.need, self.slots) <= free:
            return head
        if len(ranked) == 1 or free <= 0 or self._overdue(head, now):
            return None
        when, spare = self._gathered(head, now)
        for share in ranked[1:]:
            if share.need <= free and (share.need <= spare or now + share.cost <= when):
                return share
        return None

    def _rank(self, share: Share, now: float, least: float) -> tuple[int, float, float, int]:
        assert share.since is not None
        if self._overdue(share, now):
            return (0, share.since, 0.0, share.number)
        slack = share.due - now
        if slack < 2 * share.cost and share.passed <= least + _CREDIT / share.weight:
            return (1, slack, share.since, share.number)
        return (2, share.passed, share.since, share.number)

    def _overdue(self, share: Share, now: float) -> bool:
        """It has waited too long."""
        assert share.since is not None
        waited = now - share.since
        if waited < _SHORTEST_WAIT:
            return False
        active = sum(other.weight for other in self._shares if other.runs or other.since is not None)
        fair = share.cost * share.need * active / (share.weight * self.slots)
        return waited >= min(LONGEST_WAIT, _PATIENCE * fair)

    def _forfeit(self, share: Share) -> None:
        """What it did not use is lost, but for what others may be ahead by rights: a run, and the credit."""
        if share.passed >= self._virtual:
            return
        ahead = max(
            (_CREDIT + other.cost * other.need) / other.weight
            for other in self._shares
            if other is share or other.runs or other.since is not None
        )
        share.passed = max(share.passed, self._virtual - ahead)

    def _gathered(self, head: Share, now: float) -> tuple[float, int]:
        """When the slots that `head` needs will be free, at a guess, and how many more then."""
        need = min(head.need, self.slots)
        free = self.slots - self.used
        for end, slots in sorted((_expected(run, now), run.slots) for run in self._running):
            free += slots
            if free >= need:
                return end, free - need
        return now, 0

    def _settle(self, run: Run, now: float) -> None:
        """What it took instead of what was guessed."""
        took = now - run.began
        run.share.passed += (took - run.cost) * run.slots / run.share.weight
        run.share.slot_seconds += took * run.slots


def _expected(run: Run, now: float) -> float:
    """When it ends; a late one may end any moment, and a very late one is taken to need as long again."""
    took = now - run.began
    return now + took if took > 2 * run.cost else max(now, run.began + run.cost)
