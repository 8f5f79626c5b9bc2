"""The whole contract between the library and its user: one coroutine, one result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ._objects import Request


@dataclass(frozen=True, slots=True)
class Result:
    """What to do with a key that was reconciled without an error.

    `Result()`: nothing until an event. `requeue_after` (seconds, > 0): look again then; the failure counter
    is forgotten. `priority`: the priority of that next look; None keeps the one the key has.
    """

    requeue_after: float | None = None
    priority: int | None = None


class Reconciler(Protocol):
    """Brings one object in line with its spec. Called again after any change; may be cancelled at any
    await.
    """

    async def reconcile(self, request: Request) -> Result:
        """Return when the object is in line or nothing more can be done now; raise to be retried later."""
        ...
