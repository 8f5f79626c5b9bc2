"""How many workers a model should have. Pure: it is asked at regular looks, and the clock is a number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_WORKERS = 64
# Looks at which requests waited for busy workers, less those at which none did, before there is one more.
_LOOKS = 4


class Mode(StrEnum):
    """fixed: as many as were asked for. unlimited: one more whenever requests wait for busy workers, as long
    as there is memory. adaptive: one more only when they wait for long and there are CPUs for it too.
    """

    FIXED = "fixed"
    UNLIMITED = "unlimited"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is seen of a model. `busy` of its `workers` run something, `waiting` requests have no worker yet,
    `coming` workers are not ready or on their way out; `spare` more could run on the CPUs now.
    """

    workers: int
    busy: int
    waiting: int
    coming: int
    spare: int


class Scaler:
    """Guarantees: never fewer than `least` workers nor more than MOST_WORKERS; one step at a time, and none
    while the last one is under way; after a step down no step up without new need, and a step down only when
    one worker fewer would have been enough at every look for `patience` seconds.
    """

    def __init__(self, mode: Mode, *, least: int, patience: float) -> None:
        self._mode = mode
        self._least = least
        self._patience = patience
        self._score = 0
        self._needed = 0.0  # when all workers were last needed
        self._rests_until = 0.0

    def step(self, now: float, look: Look) -> int:
        """+1, 0 or -1. The caller may find no memory for a step up, and says so with `refused`."""
        if self._mode is Mode.FIXED:
            return 0
        presses = look.waiting > 0 and look.busy >= look.workers - look.coming
        self._score = min(_LOOKS, self._score + 1) if presses else max(0, self._score - 1)
        if look.busy >= look.workers or presses or not self._needed:
            self._needed = now
        if look.coming:
            self._needed = now
            return 0
        if presses and self._may_grow(now, look):
            self._score = 0
            return 1
        if look.workers > self._least and now - self._needed >= self._patience:
            self._needed = now
            self._score = 0
            return -1
        return 0

    def refused(self, now: float, rest: float) -> None:
        """There was no room for another worker, or it failed: none before `rest` seconds are over."""
        self._rests_until = now + rest

    def _may_grow(self, now: float, look: Look) -> bool:
        if look.workers >= MOST_WORKERS or now < self._rests_until:
            return False
        return self._mode is Mode.UNLIMITED or (self._score >= _LOOKS and look.spare > 0)
