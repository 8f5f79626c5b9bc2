"""Workers that take keys off a queue and have them reconciled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from ._clock import SYSTEM_CLOCK, Clock, deadline
from ._logging import ReconcileScope, current_reconcile
from ._metrics import PrometheusMetrics
from ._objects import Key, Kind, Request
from ._ratelimit import RateLimiter
from ._reconcile import Reconciler, Result
from ._sources import Source
from ._workqueue import DEFAULT_AGEING, Ageing, QueueShutDown, WorkQueue
from .errors import ApiError, Conflict, NotLeader, TerminalError, TransportError

_log = structlog.get_logger("controller_runtime.controller")

PROGRAMMING_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError),
    *(NotImplementedError, RecursionError, TypeError),
)
"""What counts as a panic: errors of the code, where a Go program would have panicked."""


class WriteBarrier(Protocol):
    """Read-your-own-writes: holds a key back until the cache has seen what its last reconcile wrote."""

    def begin(self) -> None:
        """Collect the writes of the current task, and of the tasks it starts, from here on."""
        ...

    def pending(self) -> Awaitable[bool] | None:
        """None when the caches have every write since `begin`; else waits for it, bounded, and says whether
        they have.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """`workers`: reconciles at once (never two of one key). `reconciliation_timeout`: seconds after which a
    reconcile is cancelled and counts as failed; None for no limit. `cache_sync_timeout`: seconds a source
    may take for its first list before the manager gives up. `warm_up`: fill the queue before leading.
    `limiter`, `ageing`: see `WorkQueue`; None means the default limiter, and no ageing.
    """

    workers: int = 1
    reconciliation_timeout: float | None = None
    cache_sync_timeout: float = 120.0
    warm_up: bool = False
    limiter: RateLimiter[Key] | None = None
    ageing: Ageing | None = DEFAULT_AGEING

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: give at least 1")
        if self.reconciliation_timeout is not None and self.reconciliation_timeout <= 0:
            raise ValueError(f"reconciliation_timeout={self.reconciliation_timeout:g}: give seconds above 0")


class Controller:
    """One reconciler, its queue, its sources and its workers. A manager runs it.

    Guarantees:
    - One key is never in two reconciles at once, and a change during a reconcile leads to another.
    - A reconcile that raises is retried after min(5 ms * 2^failures, 1000 s), at the priority it had; a
      TerminalError waits for the next event. `Result(requeue_after=s)` forgets the failures and looks again
      after s seconds; `Result()` forgets them.
    - Nothing a reconciler raises ends a worker, an `asyncio.CancelledError` of its own making included.
    - No worker starts before the sources have delivered what existed at the start, and no key is taken up
      again before the cache has seen what its last reconcile wrote (for as long as the barrier waits).
    """

    def __init__(
        self,
        name: str,
        reconciler: Reconciler,
        sources: Sequence[Source],
        *,
        metrics: PrometheusMetrics,
        kind: Kind | None = None,
        options: ControllerOptions = ControllerOptions(),
        barrier: WriteBarrier | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.options = options
        self._reconciler = reconciler
        self._sources = tuple(sources)
        self._group = kind.group if kind is not None else ""
        self._kind = kind.kind if kind is not None else ""
        self._barrier = barrier
        self._clock = clock
        self._metrics = metrics.controller(name, workers=options.workers)
        self.queue: WorkQueue[Key] = WorkQueue(
            clock=clock, limiter=options.limiter, metrics=self._metrics.queue, ageing=options.ageing
        )
        self._metrics.queue.watch(self.queue)
        self._begun = 0
        self._settling: set[asyncio.Task[None]] = set()
        self._owner: asyncio.Task[object] | None = None
        self._crashed = False

    async def warm_up(self) -> None:
        """Start the sources and wait until they have delivered what exists; also done by `run`. May be
        called again. Raises when one takes longer than `cache_sync_timeout`.
        """
        while self._begun < len(self._sources):
            self._begun += 1
            self._sources[self._begun - 1].start(self.queue)
        for source in self._sources:
            await source.wait_synced(self.options.cache_sync_timeout)

    async def run(self) -> None:
        """Reconcile until cancelled (reconciles are cancelled too) or drained (they are waited for)."""
        self._owner = asyncio.current_task()
        try:
            await self.warm_up()
            _log.info("controller starts", controller=self.name, workers=self.options.workers)
            async with asyncio.TaskGroup() as group:
                for number in range(self.options.workers):
                    group.create_task(self._work(group), name=f"controller/{self.name}/{number}")
        finally:
            for source in self._sources:
                source.stop()

    def drain(self) -> None:
        """Hand out no more keys; `run` returns when the reconciles that are running have ended."""
        self.queue.shutdown()
        for task in self._settling:
            task.cancel()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        queue, barrier, metrics = self.queue, self._barrier, self._metrics
        monotonic = self._clock.monotonic
        timeout = self.options.reconciliation_timeout
        call: Callable[[Request], Awaitable[Result]] = self._reconciler.reconcile
        if timeout is not None:
            call = self._limited
        while not self._stopping():
            try:
                key, priority = await queue.get()
            except QueueShutDown:
                return
            current_reconcile.set(ReconcileScope(self.name, self._group, self._kind, key))
            if barrier is not None:
                barrier.begin()
            metrics.active.inc()
            began = monotonic()
            try:
                self._succeeded(key, priority, await call(key))
            except Exception as error:
                self._failed(key, priority, error)
            except asyncio.CancelledError as error:
                if self._stopping():
                    raise
                self._survive_cancellation()
                self._failed(key, priority, error)
            except BaseException:
                self._crashed = True
                raise
            finally:
                metrics.seconds.observe(monotonic() - began)
                metrics.active.dec()
            behind = None if barrier is None or queue.is_shut_down else barrier.pending()
            if behind is None:
                queue.done(key)
            else:
                # The worker goes on; only this key waits until the caches have what it wrote.
                task = group.create_task(self._settle(key, behind), name=f"settle/{self.name}")
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)

    async def _settle(self, key: Key, behind: Awaitable[bool]) -> None:
        try:
            if not await behind:
                self._metrics.stale_waits.inc()
        except Exception:
            _log.exception("cannot tell whether the cache has caught up", controller=self.name)
        finally:
            self.queue.done(key)

    async def _limited(self, request: Request) -> Result:
        limit = self.options.reconciliation_timeout
        try:
            async with deadline(self._clock, limit) as scope:
                return await self._reconciler.reconcile(request)
        except TimeoutError:
            if not scope.expired():
                raise  # the reconciler's own, not ours
            self._metrics.timeouts.inc()
            raise TimeoutError(f"cancelled after reconciliation_timeout={limit:g} s") from None

    def _succeeded(self, key: Key, priority: int, result: Result) -> None:
        if not isinstance(result, Result):
            raise TypeError(
                f"{type(self._reconciler).__name__}.reconcile returned {result!r}: return a Result"
            )
        self.queue.forget(key)
        if result.requeue_after is not None and result.requeue_after > 0:
            again = priority if result.priority is None else result.priority
            self.queue.add(key, priority=again, after=result.requeue_after)
            self._metrics.requeue_after.inc()
        else:
            self._metrics.success.inc()

    def _failed(self, key: Key, priority: int, error: BaseException) -> None:
        metrics = self._metrics
        metrics.errors.inc()
        metrics.error.inc()
        if isinstance(error, TerminalError):
            metrics.terminal_errors.inc()
            _log.error("reconcile failed for good", error=str(error), exc_info=error)
            return
        self.queue.add(key, priority=priority, rate_limited=True)
        failures = self.queue.failures(key)
        if isinstance(error, (Conflict, NotLeader)):
            # Someone else wrote first, or leads now: part of normal life, worth a line and not an alarm.
            _log.info("reconcile to be tried again", error=str(error), failures=failures)
        elif isinstance(error, (ApiError, TransportError)):
            _log.error("reconcile failed", error=str(error), failures=failures)
        else:
            if isinstance(error, PROGRAMMING_ERRORS):
                metrics.panics.inc()
            text = str(error) or type(error).__name__
            _log.error("reconcile failed", error=text, failures=failures, exc_info=error)

    def _stopping(self) -> bool:
        return self._crashed or (self._owner is not None and self._owner.cancelling() > 0)

    @staticmethod
    def _survive_cancellation() -> None:
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
