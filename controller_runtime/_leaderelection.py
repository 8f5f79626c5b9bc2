"""One leader at a time, by a Lease, and a fence for the writes of one that may no longer lead.

The protocol is that of client-go's leader election; the fence and the cancel at the same instant are ours,
because an event loop, unlike a Go process, can be blocked past its own deadline.
"""

from __future__ import annotations

import random
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ._clock import SYSTEM_CLOCK, Clock, deadline, rfc3339
from ._kinds import LEASE
from ._objects import JSON, Key, Kind, Object
from .errors import AlreadyExists, ApiError, Conflict, ControllerRuntimeError, NotLeader, TransportError

_log = structlog.get_logger("controller_runtime.leaderelection")

_RELEASE_TRIES = 5


class LeaderLost(ControllerRuntimeError):
    """The lease could not be renewed in time, or another holder has it. The process must exit."""


class LeaseApi(Protocol):
    """The three live calls an elector makes; `Client` has them. It must be a client, and a connection, of
    the elector's own, so that nothing else can hold a renewal up, and without a fence.
    """

    async def get_live(self, kind: Kind, key: Key) -> Object | None: ...
    async def create(self, raw: Object | JSON) -> Object: ...
    async def update(self, raw: Object | JSON) -> Object: ...


def default_identity() -> str:
    """hostname_uuid: a new one for every start, so a restarted process never takes itself for the holder."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElection:
    """Options. Durations are seconds; `lease_duration` > `renew_deadline` > 1.2 * `retry_period`.

    `lease_duration`: how long others wait after they last saw a change before they take over.
    `renew_deadline`: how long after its last renewal a leader stops by itself.
    `retry_period`: between renewals; a follower looks every half of it, times 1 to 1 + `jitter`, so that a
    released lease is taken within 1.1 periods (Go looks half as often).
    `release`: give the lease up on a clean stop, so that the next leader need not wait.
    """

    name: str
    namespace: str = ""
    identity: str = field(default_factory=default_identity)
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    jitter: float = 1.2
    release: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError('name="": give the Lease a name')
        if not self.identity:
            raise ValueError('identity="": give each process its own')
        if not self.lease_duration > self.renew_deadline > 1.2 * self.retry_period > 0:
            raise ValueError(
                f"lease_duration={self.lease_duration:g}, renew_deadline={self.renew_deadline:g}, "
                f"retry_period={self.retry_period:g}: need lease > renew > 1.2 * retry > 0"
            )
        if self.lease_duration < 1:
            raise ValueError(f"lease_duration={self.lease_duration:g}: the server counts whole seconds")


class Elector:
    """Campaigns for the lease and keeps it.

    Use: `await acquire()`, then `await renew()` beside the led work; it returns only by raising LeaderLost.
    After *all* led work has stopped, `await release()`.

    Guarantees:
    - `leads()` is true only within `renew_deadline` of the moment the last successful renewal was *sent*, on
      the monotonic clock. No other elector that honours the lease can lead in that time, also if this event
      loop was blocked, the wall clock stepped or the reply was slow.
    - Another holder's time stamps are never compared with our clock: its lease counts from when we saw it
      change.
    - Each call is cut off after max(1 s, renew_deadline / 2), so a hanging one leaves time for another.
    """

    def __init__(
        self,
        api: LeaseApi,
        options: LeaderElection,
        *,
        clock: Clock = SYSTEM_CLOCK,
        uniform: Callable[[float, float], float] = random.uniform,
        on_change: Callable[[bool], None] | None = None,
        on_slow_path: Callable[[], None] | None = None,
    ) -> None:
        self.options = options
        self.key = Key(options.namespace, options.name)
        self._api = api
        self._clock = clock
        self._uniform = uniform
        self._on_change = on_change
        self._on_slow_path = on_slow_path
        self._call_timeout = max(1.0, options.renew_deadline / 2)
        self._observed: JSON | None = None  # the Lease as last seen
        self._observed_at = 0.0
        self._renewed_at: float | None = None
        self._held = False
        self._may_hold = False  # a write that claims the lease went out and was not refused

    def leads(self) -> bool:
        """The fence: whether a write may go out now."""
        return (
            self._held
            and self._renewed_at is not None
            and self._clock.monotonic() < self._renewed_at + self.options.renew_deadline
        )

    def check(self) -> None:
        """The fence as a client asks it: raises NotLeader when no write may go out."""
        if not self.leads():
            raise NotLeader(
                f"lease {self.key} is not held by {self.options.identity}, or not renewed in time"
            )

    def since_renewal(self) -> float | None:
        """Seconds since the last successful renewal was sent; None while not holding the lease."""
        if not self._held or self._renewed_at is None:
            return None
        return self._clock.monotonic() - self._renewed_at

    @property
    def holder(self) -> str:
        """The identity last seen in the lease; "" for none."""
        return _spec(self._observed).get("holderIdentity") or ""

    @property
    def lease(self) -> Object | None:
        """The Lease as last seen."""
        return None if self._observed is None else Object(self._observed, LEASE)

    async def acquire(self) -> None:
        """Return once this process holds the lease; tries for ever, and survives every failing call."""
        seen = ""
        while not await self._attempt():
            if self.holder != seen:
                seen = self.holder
                _log.info("waiting for the lease", lease=str(self.key), holder=seen)
            pause = self.options.retry_period / 2
            await self._clock.sleep(self._uniform(pause, pause * (1.0 + self.options.jitter)))
        self._set_held(True)
        _log.info("became leader", lease=str(self.key), identity=self.options.identity)

    async def renew(self) -> None:
        """Keep the lease; raises LeaderLost when that fails for `renew_deadline`, or another took it."""
        options = self.options
        try:
            while True:
                await self._clock.sleep(min(options.retry_period, self._left()))
                try:
                    async with deadline(self._clock, self._left()):
                        renewed = await self._attempt()
                except TimeoutError:
                    renewed = False
                if not renewed and self.holder and self.holder != options.identity:
                    raise LeaderLost(f"lease {self.key}: {self.holder} holds it now")
        except LeaderLost as lost:
            self._set_held(False)
            self._may_hold = False
            _log.error("lost the lease", reason=str(lost), identity=options.identity)
            raise

    def _left(self) -> float:
        """Seconds until the renew deadline; raises LeaderLost when there are none."""
        if self._renewed_at is not None and self.leads():
            return self._renewed_at + self.options.renew_deadline - self._clock.monotonic()
        raise LeaderLost(f"lease {self.key}: not renewed for {self.options.renew_deadline:g} s")

    async def release(self) -> None:
        """Give the lease up, if it is still ours. Only after everything that relies on it has stopped.

        A renewal that was cancelled may have landed, so a conflict is read again and retried. Failing is
        logged and not raised: the lease then runs out by itself.
        """
        lease = self._observed if self._held else None
        may_hold, self._may_hold = self._may_hold, False
        self._set_held(False)
        self._renewed_at = None
        if not may_hold or not self.options.release:
            return
        for _ in range(_RELEASE_TRIES):
            try:
                async with deadline(self._clock, self._call_timeout):
                    if lease is None:
                        live = await self._api.get_live(LEASE, self.key)
                        if live is None:
                            return
                        lease = live.raw
                    spec = _spec(lease)
                    if spec.get("holderIdentity") != self.options.identity:
                        return
                    now = rfc3339(self._clock.wall(), micro=True)
                    emptied = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now}
                    await self._api.update({**lease, "spec": {**spec, **emptied, "acquireTime": now}})
                _log.info("released the lease", lease=str(self.key))
                return
            except Conflict:
                lease = None
            except (ApiError, TransportError, OSError, TimeoutError) as error:
                _log.warning("cannot release the lease", lease=str(self.key), error=_one_line(error))
                return

    async def _attempt(self) -> bool:
        """One try to take or keep the lease. Never raises but for cancellation."""
        sent = self._clock.monotonic()
        try:
            if self._held and self._observed is not None:
                try:
                    async with deadline(self._clock, self._call_timeout):
                        self._see((await self._api.update(self._renewed(self._observed))).raw)
                    self._renewed_at = sent
                    return True
                except (ApiError, TransportError, OSError, TimeoutError) as error:
                    _log.info(
                        "lease renewal needs a second look", lease=str(self.key), error=_one_line(error)
                    )
                    if self._on_slow_path is not None:
                        self._on_slow_path()
            async with deadline(self._clock, self._call_timeout):
                return await self._read_and_take()
        except (AlreadyExists, Conflict):
            self._may_hold = self._held
            return False  # another was faster
        except (ApiError, TransportError, OSError, TimeoutError) as error:
            _log.warning("lease cannot be read or written", lease=str(self.key), error=_one_line(error))
        except Exception:
            # Whatever it is (a body that is no Lease, a bug), the campaign must go on.
            _log.exception("lease attempt failed", lease=str(self.key))
        return False

    async def _read_and_take(self) -> bool:
        live = await self._api.get_live(LEASE, self.key)
        sent = self._clock.monotonic()
        if live is None:
            metadata = {"name": self.key.name, "namespace": self.key.namespace}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
            body["spec"] = self._claim(transitions=0)
            self._may_hold = True
            self._see((await self._api.create(body)).raw)
            self._renewed_at = sent
            return True
        if _version(self._observed) != live.resource_version:
            self._see(live.raw)
        spec = _spec(live.raw)
        holder = spec.get("holderIdentity") or ""
        if holder == self.options.identity:
            body = self._renewed(live.raw)
        elif holder and sent < self._observed_at + float(spec.get("leaseDurationSeconds") or 0):
            return False
        else:
            claim = self._claim(transitions=int(spec.get("leaseTransitions") or 0) + 1)
            body = {**live.raw, "spec": {**spec, **claim}}
        self._may_hold = True
        self._see((await self._api.update(body)).raw)
        self._renewed_at = sent
        return True

    def _claim(self, *, transitions: int) -> JSON:
        stamp = rfc3339(self._clock.wall(), micro=True)
        return {
            "holderIdentity": self.options.identity,
            "leaseDurationSeconds": int(self.options.lease_duration),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions,
        }

    def _renewed(self, lease: JSON) -> JSON:
        claim = self._claim(transitions=0)
        del claim["acquireTime"], claim["leaseTransitions"]
        return {**lease, "spec": {**_spec(lease), **claim}}

    def _see(self, lease: JSON) -> None:
        self._observed = lease
        self._observed_at = self._clock.monotonic()

    def _set_held(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            if self._on_change is not None:
                self._on_change(held)


def _spec(lease: JSON | None) -> JSON:
    return (lease or {}).get("spec") or {}


def _version(lease: JSON | None) -> str:
    return ((lease or {}).get("metadata") or {}).get("resourceVersion") or ""


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
