"""What the commands print: one line a step, with the seconds since the command began."""

from __future__ import annotations

import time


class ClusterError(Exception):
    """Something a person must act on; its text is one line naming the cause and the remedy."""


class Console:
    """Prints steps with elapsed time. ``quiet`` keeps it silent, for callers that only want the effect."""

    __slots__ = ("_quiet", "_started")

    def __init__(self, *, quiet: bool = False) -> None:
        self._started = time.monotonic()
        self._quiet = quiet

    @property
    def elapsed(self) -> float:
        """Seconds since this console was made."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print one line behind the elapsed time."""
        if not self._quiet:
            print(f"{self.elapsed:7.1f} s  {text}", flush=True)
