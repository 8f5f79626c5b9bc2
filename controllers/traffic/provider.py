"""What a traffic provider can be asked. Nothing here knows of Envoy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import controller_runtime as ctrl

from .route import Home
from .split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The split is in force everywhere. effective: the candidate's real share in percent (a provider that
    counts pods cannot give every share). routers: how many confirmed it.
    """

    change: int
    effective: float
    routers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Not in force everywhere yet; `reason` names whom it waits for."""

    change: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It will not come into force as it is. The split before it stays in force."""

    change: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """Nobody is there to say: no router is ready, or the API of the provider does not answer."""

    change: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """It is another split. reason: for one that was in force: what somebody else made of it. waits: for one
    that did not arrive yet: what for. lost: there is nothing left that could be written.
    """

    change: int
    reason: str
    waits: str = ""
    lost: bool = False


Verification = Verified | Pending | Refused | Unreachable | Drifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What the Service <name> sends to: the pods of `selector`, on these ports (numbers or names)."""

    selector: Mapping[str, str]
    http: int | str
    grpc: int | str


class Provider(Protocol):
    """Splits requests. Methods may be called at any time, from any worker, again and again.

    Neither blocks for longer than its own deadline; `apply` returns before the split is in force.
    """

    async def apply(self, split: Split) -> None:
        """Have `split` come into force. One with a lower change than was seen is ignored; the same is
        nothing new.
        """
        ...

    async def verify(self, split: Split) -> Verification:
        """Whether exactly this change is in force, now. Cheap: no call to a server for providers that run
        their own routers.
        """
        ...

    async def remove(self, service: ctrl.Key, uid: str) -> None:
        """Forget the service: its path is direct again, and has been for long enough."""
        ...

    def backend(self, split: Split) -> Backend | None:
        """What Service <name> must select while the path is routed; None where it stays direct."""
        ...

    def port(self, service: ctrl.Key, uid: str, known: int) -> int:
        """The first of the service's listener ports: `known` (from the status, 0 for none) if it is free
        for it, else a free one. 0 where the provider needs none. Raises LookupError when none is left.
        """
        ...


@runtime_checkable
class RouteProvider(Provider, Protocol):
    """A provider that splits by a route of the cluster's own: Service <name> stays as it is.

    Errors of the API server are not raised: verifications tell them.
    """

    async def problem(self, home: Home) -> str:
        """Why no run can begin on this route, in one line: field, value, remedy; "" if one can."""
        ...

    async def go_home(self, home: Home) -> None:
        """Have the route lead to the service, whatever its revisions are: at rest, and as a run ends."""
        ...

    async def at_home(self, home: Home) -> Verification:
        """Whether it does. Drifted, lost: the cluster does not know such routes (any more)."""
        ...

    async def retire(self, home: Home) -> None:
        """Delete a route of ours that nobody wants any more. Raises what the API server says."""
        ...

    async def retired(self, home: Home) -> bool:
        """Whether there is none of ours. False where nobody can say."""
        ...
