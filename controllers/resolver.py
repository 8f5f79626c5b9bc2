"""Asks object stores what an artefact is, off the reconcilers' workers.

A slow or dead endpoint must never hold a worker: `Resolver.ask` answers at once from what is known and starts
the question when it is due; the model's key is enqueued when the answer is there. Answers live in memory
only. A restart asks again, which is cheap, and what was resolved is pinned in the model's status anyway.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

import controller_runtime as ctrl
from artifacts import ArtifactError, Manifest

from .reasons import Reason

_log = structlog.get_logger(__name__)

RETRY_FIRST = 2.0
RETRY_CAP = 60.0


@dataclass(frozen=True, slots=True)
class Pending:
    """Asked, not answered yet; `since` on the resolver's clock."""

    since: float


@dataclass(frozen=True, slots=True)
class Resolved:
    manifest: Manifest
    at: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """The store, the Secret or the policy said no; asked again after `retry_in` seconds."""

    reason: Reason
    message: str
    at: float
    retry_in: float


Outcome = Pending | Resolved | Rejected
Question = Callable[[], Awaitable[Manifest]]


@dataclass(slots=True)
class _Entry:
    fingerprint: str
    outcome: Outcome
    not_before: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = None


class Resolver:
    """At most `concurrency` questions at once, one per model; the newest fingerprint of a model wins.

    A question is cut after `timeout` seconds (reason Timeout). Failures are asked again with exponential
    back-off (2 s to 60 s) when the reconciler comes by; a success is asked again after `refresh` seconds.
    """

    def __init__(
        self,
        *,
        channel: ctrl.Channel,
        timeout: float,
        concurrency: int,
        now: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._channel = channel
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._now = now
        self._jitter = jitter
        self._entries: dict[str, _Entry] = {}

    def ask(
        self,
        key: ctrl.Key,
        uid: str,
        fingerprint: str,
        question: Question,
        *,
        refresh: float,
        delay: float = 0.0,
    ) -> tuple[Outcome, float]:
        """What is known about `fingerprint`, and in how many seconds to come back for more.

        `delay` puts the first question off by up to that many seconds (spread, so that an operator that
        starts with thousands of pinned models does not ask for all of them at once).
        """
        entry = self._entries.get(uid)
        if entry is None or entry.fingerprint != fingerprint:
            self.forget(uid)
            start = self._now() + delay * (0.5 + 0.5 * self._jitter()) if delay else 0.0
            entry = self._entries[uid] = _Entry(fingerprint, Pending(self._now()), start)
        if entry.task is not None:
            return entry.outcome, self._timeout
        due = self._due(entry, refresh)
        if due <= 0:
            self._start(key, entry, question)
            return entry.outcome, self._timeout
        return entry.outcome, due

    def forget(self, uid: str) -> None:
        """Drops what is known of a model that is gone or has changed; a running question is cancelled."""
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    async def run(self) -> None:
        """For as long as this process leads; questions still under way end with it."""
        try:
            await asyncio.Event().wait()
        finally:
            self.close()

    def close(self) -> None:
        for uid in list(self._entries):
            self.forget(uid)

    def _due(self, entry: _Entry, refresh: float) -> float:
        match entry.outcome:
            case Pending():
                return entry.not_before - self._now() if entry.not_before else 0.0
            case Resolved(at=at):
                return at + refresh - self._now()
            case Rejected(at=at, retry_in=retry_in):
                return at + retry_in - self._now()

    def _start(self, key: ctrl.Key, entry: _Entry, question: Question) -> None:
        entry.task = asyncio.create_task(self._answer(key, entry, question))

    async def _answer(self, key: ctrl.Key, entry: _Entry, question: Question) -> None:
        try:
            async with self._slots:
                entry.outcome = await self._put(entry, question)
        finally:
            entry.task = None
        self._channel.enqueue(key)

    async def _put(self, entry: _Entry, question: Question) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                manifest = await question()
        except ArtifactError as error:
            return self._rejected(
                entry, Reason.parse(error.reason, Reason.EndpointUnreachable), error.message
            )
        except TimeoutError:
            message = f"the object store gave no answer within {self._timeout:g} s"
            return self._rejected(entry, Reason.EndpointUnreachable, message)
        except Exception as error:
            # One model's surprise must not leave it waiting for ever without a word.
            _log.exception("resolve failed", fingerprint=entry.fingerprint)
            return self._rejected(entry, Reason.EndpointUnreachable, f"{type(error).__name__}: {error}")
        entry.failures = 0
        return Resolved(manifest, self._now())

    def _rejected(self, entry: _Entry, reason: Reason, message: str) -> Rejected:
        entry.failures += 1
        ceiling = min(RETRY_CAP, RETRY_FIRST * 2 ** min(entry.failures - 1, 10))
        return Rejected(reason, message, self._now(), ceiling * (0.75 + 0.25 * self._jitter()))
