"""Where the models of one process take turns: the scheduler with a clock, and whom to call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from runtime.scheduler import Run, Scheduler, Share


class Turns:
    """One for all models of a process, in the loop's thread.

    `slots` may be in use at once, over all models; 0 means `cpus`, but never fewer than one model could use
    alone, so that a model without company never waits for slots. The clock is the loop's own, but finer than
    the milliseconds that uvloop tells.
    """

    def __init__(self, *, slots: int = 0, cpus: int = 1) -> None:
        self._fixed = slots
        self._cpus = max(1, cpus)
        self.scheduler = Scheduler(slots or self._cpus)
        self._turns: dict[Share, Turn] = {}
        self._settling = False

    @property
    def budget(self) -> int:
        return self._fixed or self._cpus

    def join(self, *, weight: float, kick: Callable[[], None]) -> Turn:
        """A model's place; `kick` is called when it may begin what it asked for."""
        turn = Turn(self, self.scheduler.join(max(1.0, weight), 1), kick)
        self._turns[turn.share] = turn
        return turn

    def fit(self) -> None:
        """The needs have changed."""
        if not self._fixed:
            largest = (turn.share.need * turn.workers for turn in self._turns.values())
            self.scheduler.slots = max([self._cpus, *largest])
        self.soon()

    def gone(self, turn: Turn) -> None:
        self._turns.pop(turn.share, None)
        self.fit()

    def soon(self) -> None:
        """Once in this turn of the loop, after those who are at it: whoever may begin is told."""
        if self.scheduler.waiting and not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        while (share := self.scheduler.next(monotonic())) is not None:
            begun = share.begun
            self._turns[share].kick()
            if share.begun == begun:
                self.scheduler.withdraw(share)  # what it waited with is gone


class Turn:
    """One generation's place among the models of its process. `workers` are how many it has."""

    __slots__ = ("_turns", "kick", "share", "workers")

    def __init__(self, turns: Turns, share: Share, kick: Callable[[], None]) -> None:
        self._turns = turns
        self.share = share
        self.kick = kick
        self.workers = 1

    def resize(self, *, need: int, workers: int) -> None:
        """A run takes `need` slots."""
        self.share.need = max(1, need)
        self.workers = workers
        self._turns.fit()

    @property
    def slots(self) -> int:
        """What a run takes."""
        return min(self.share.need, self._turns.scheduler.slots)

    @property
    def free(self) -> bool:
        """It may begin without asking."""
        return self._turns.scheduler.fits(self.share)

    @property
    def spare(self) -> int:
        """How many more runs the slots would do for now, not counting what only a model alone may use."""
        turns = self._turns
        return (turns.budget - turns.scheduler.used) // self.share.need

    @property
    def contended(self) -> bool:
        """Some model waits."""
        return bool(self._turns.scheduler.waiting)

    def asks(self, *, due: float, cost: float) -> bool:
        """Whether it may begin now a run of `cost` seconds that is due at `due`; else it is kicked when."""
        mine = self._turns.scheduler.admits(self.share, monotonic(), due=due, cost=cost)
        if not mine:
            self._turns.soon()
        return mine

    def begin(self, cost: float) -> Run:
        return self._turns.scheduler.begin(self.share, monotonic(), cost)

    def follow(self, run: Run, cost: float) -> None:
        """The worker goes on with its next batch in the same slots."""
        self._turns.scheduler.follow(run, monotonic(), cost)

    def end(self, run: Run) -> None:
        self._turns.scheduler.end(run, monotonic())
        self._turns.soon()

    def rest(self) -> None:
        """It has nothing to begin."""
        if self.share.since is not None:
            self._turns.scheduler.withdraw(self.share)
            self._turns.soon()

    def leave(self) -> None:
        """The generation has ended."""
        self._turns.scheduler.leave(self.share, monotonic())
        self._turns.gone(self)
