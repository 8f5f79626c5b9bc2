"""Local copies of the kinds an operator reads, one informer each, configured before they start."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from ._clock import SYSTEM_CLOCK, Clock
from ._informer import SharedInformer
from ._informer_api import Informer
from ._informers import MultiInformer
from ._kinds import BUILT_IN
from ._listwatch import HTTPListWatch
from ._metrics_api import Metrics, NoMetrics
from ._objects import Key, Kind, Object, Objects
from ._reflector_api import ReflectorOptions
from ._selectors import Matcher, Selector, compile_selector
from ._store import IndexFunction
from ._transport import Transport
from ._wire import Transform
from .errors import CacheSyncTimeout, NotCached

_log = structlog.get_logger("controller_runtime.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """One informer: how many objects, their bytes at rest, whether it is synced, its last error or ""."""

    kind: Kind
    metadata_only: bool
    objects: int
    size: int
    synced: bool
    stale: bool
    last_error: str


@dataclass(slots=True)
class _Watched:
    informer: SharedInformer | MultiInformer
    parts: tuple[SharedInformer, ...]
    labels: Matcher | None
    options: tuple[object, ...]
    fields: bool


class Cache:
    """Holds an informer per kind and shape, runs them, and answers reads from them.

    Say what to keep with `watch` before anything reads it. Reads never fall through to the server: what a
    selector leaves out does not exist here. Every informer runs in the TaskGroup of `run`, so one that ends,
    which a correct one never does, ends `run` with its error instead of leaving a silent, ageing copy.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        namespaces: Sequence[str] | None = None,
        metrics: Metrics | None = None,
        options: ReflectorOptions | None = None,
        resync: float = 36_000.0,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        """`namespaces`: the only ones to look at, for namespaced kinds; None for all. `resync` in seconds."""
        self._transport = transport
        self._namespaces = tuple(namespaces) if namespaces else None
        self._metrics = metrics or NoMetrics()
        self._options = options
        self._resync = resync
        self._clock = clock
        self._random = random
        self._watched: dict[tuple[Kind, bool], _Watched] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(
        self,
        kind: Kind,
        *,
        labels: Selector = None,
        fields: str | None = None,
        namespaces: Sequence[str] | None = None,
        metadata_only: bool = False,
        indexes: Mapping[str, IndexFunction] | None = None,
        transform: Transform | None = None,
    ) -> Informer:
        """Keep a copy of `kind`. Starts at once when the cache is running.

        `labels` and `fields` are evaluated by the server; `metadata_only` keeps (and transfers) nothing but
        metadata, beside a full copy if there is one; `transform` shrinks objects before they are stored.
        Built-in kinds belong to others too: they need a selector, namespaces or metadata_only; `labels=""`
        says that every object is wanted. Asking again with the same options, or with none, adds the indexes;
        with others raises ValueError.
        """
        options = (labels, fields, tuple(namespaces) if namespaces else None, transform)
        known = self._watched.get((kind, metadata_only))
        if known is not None:
            if any(value is not None for value in options) and options != known.options:
                raise ValueError(f"{kind}: is watched with other options already; give them in one place")
            for name, function in (indexes or {}).items():
                for part in known.parts:
                    part.store.add_index(name, function)
            return known.informer
        if kind in BUILT_IN and labels is None and not fields and not namespaces and not metadata_only:
            raise ValueError(
                f"{kind}: watching all of a built-in kind; pass labels=, fields=, namespaces= or "
                'metadata_only=True to narrow it, or labels="" to keep every object'
            )
        scopes: Sequence[str] = namespaces or self._namespaces or ("",)
        if not kind.namespaced:
            scopes = ("",)
        metrics = self._metrics.watch(kind)
        parts = tuple(
            SharedInformer(
                kind,
                HTTPListWatch(
                    self._transport,
                    kind,
                    namespace=scope,
                    labels=labels,
                    fields=fields or "",
                    metadata_only=metadata_only,
                ),
                metrics=metrics,
                namespace=scope,
                indexes=indexes,
                transform=transform,
                options=self._options,
                resync=self._resync,
                clock=self._clock,
                random=self._random,
            )
            for scope in scopes
        )
        informer = parts[0] if len(parts) == 1 else MultiInformer(parts)
        entry = _Watched(informer, parts, compile_selector(labels), options, bool(fields))
        self._watched[kind, metadata_only] = entry
        if self._group is not None:
            self._start(self._group, entry)
        return informer

    def informer(self, kind: Kind, *, metadata_only: bool = False) -> Informer:
        """The informer of `kind`, made with default options if `watch` was not called for it."""
        known = self._watched.get((kind, metadata_only))
        return known.informer if known else self.watch(kind, metadata_only=metadata_only)

    def holds(self, kind: Kind, *, metadata_only: bool = False) -> bool:
        """`kind` is kept here in this shape, so reads of it are local."""
        return (kind, metadata_only) in self._watched

    async def get(
        self, kind: Kind, key: Key, *, metadata_only: bool = False, timeout: float = 30.0
    ) -> Object | None:
        """A private copy, or None. Waits for the first list; raises NotCached or CacheSyncTimeout."""
        informer = self._entry(kind, metadata_only).informer
        if not informer.synced:
            await informer.wait_synced(timeout)
        return informer.get(key)

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        index: tuple[str, str] | None = None,
        metadata_only: bool = False,
        timeout: float = 30.0,
    ) -> Objects:
        """Private copies of all that match. Waits and raises as `get`, NotCached also for an unknown
        index.
        """
        informer = self._entry(kind, metadata_only).informer
        if not informer.synced:
            await informer.wait_synced(timeout)
        return informer.list(namespace=namespace, labels=labels, index=index)

    async def run(self, stop: asyncio.Event) -> None:
        """Run every informer, those added later too, until `stop` is set. Raises if one fails."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for entry in self._watched.values():
                    self._start(group, entry)
                await stop.wait()
                self._group = None
                for task in self._tasks:
                    task.cancel()
        finally:
            self._group = None
            self._tasks.clear()

    async def wait_synced(self, timeout: float) -> None:
        """Return when every informer is synced; raises CacheSyncTimeout naming those that are not, and
        why.
        """
        try:
            await asyncio.gather(*(part.wait_synced(timeout) for part in self._parts()))
        except CacheSyncTimeout:
            late = []
            for part in self._parts():
                if not part.synced:
                    late.append(part.sync_failure())
            raise CacheSyncTimeout(f"not synced after {timeout:g} s: {'; '.join(late)}") from None

    def stale(self) -> Sequence[str]:
        """The resources whose watch is dead for longer than a watch can be silent; for a readiness check."""
        return [part.where() for part in self._parts() if part.stale]

    def statistics(self) -> Sequence[CacheStatistics]:
        """One entry per kind and shape, largest first."""
        found = [
            CacheStatistics(
                kind=kind,
                metadata_only=metadata_only,
                objects=sum(len(part.store) for part in entry.parts),
                size=sum(part.store.size for part in entry.parts),
                synced=entry.informer.synced,
                stale=any(part.stale for part in entry.parts),
                last_error=entry.informer.last_error,
            )
            for (kind, metadata_only), entry in self._watched.items()
        ]
        return sorted(found, key=lambda statistics: -statistics.size)

    def covering(self, kind: Kind, key: Key, labels: Mapping[str, str] | None) -> Sequence[SharedInformer]:
        """The informers that will hear of a write to this object.

        Those that hold it already, and those whose namespace and labels include it. With unknown `labels`
        (None), or where a field selector decides, only the former: nothing would come for the others.
        """
        found: list[SharedInformer] = []
        for metadata_only in (False, True):
            entry = self._watched.get((kind, metadata_only))
            if entry is None:
                continue
            included = labels is not None and not entry.fields
            if included and entry.labels is not None:
                included = entry.labels(labels or {})
            found.extend(
                part
                for part in entry.parts
                if part.namespace in ("", key.namespace) and (included or key in part.store)
            )
        return found

    def _parts(self) -> Iterable[SharedInformer]:
        return [part for entry in self._watched.values() for part in entry.parts]

    def _entry(self, kind: Kind, metadata_only: bool) -> _Watched:
        known = self._watched.get((kind, metadata_only))
        if known is None:
            shape = " (metadata only)" if metadata_only else ""
            raise NotCached(f"{kind}{shape}: not in the cache; call cache.watch() before reading it")
        return known

    def _start(self, group: asyncio.TaskGroup, entry: _Watched) -> None:
        for part in entry.parts:
            task = group.create_task(self._run_one(part), name=f"informer {part.where()}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_one(self, part: SharedInformer) -> None:
        await part.run()
        raise RuntimeError(f"informer {part.where()} ended")  # run() never returns
