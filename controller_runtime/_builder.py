"""Says in a few lines what a controller manages, owns and watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ._clock import Clock
from ._controller import Controller, ControllerOptions, WriteBarrier
from ._handlers import EnqueueForObject, EnqueueForOwner, EnqueueMapped, Mapper
from ._informer_api import Informer
from ._metrics import PrometheusMetrics
from ._objects import Key, Kind, Object
from ._predicates import Predicate, combine
from ._ratelimit import RateLimiter
from ._reconcile import Reconciler
from ._sources import Channel, KindSource, Source
from ._workqueue import DEFAULT_AGEING, Ageing


class Informers(Protocol):
    def informer(self, kind: Kind, *, metadata_only: bool = False) -> Informer:
        """The informer of `kind` in this shape; made, and started with the others, if there is none."""
        ...


class Host(Protocol):
    """What a builder needs of a manager."""

    @property
    def cache(self) -> Informers: ...
    @property
    def metrics(self) -> PrometheusMetrics: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def barrier(self) -> WriteBarrier | None: ...
    def add(self, runnable: Controller, *, leader: bool = True) -> None: ...


class Builder:
    """Collects the parts of one controller; `complete` makes it and hands it to the manager.

    Every method but `complete` returns the builder. Mistakes raise ValueError at once.
    """

    def __init__(self, host: Host, name: str = "") -> None:
        self._host = host
        self._name = name
        self._kind: Kind | None = None
        self._watches: list[tuple[Kind, bool, Mapper, Predicate | None]] = []
        self._owned: list[tuple[Kind, bool, bool, Predicate | None]] = []
        self._sources: list[Source] = []
        self._filter: Predicate | None = None

    def manages(self, kind: Kind, *, when: Predicate | None = None, metadata_only: bool = False) -> Builder:
        """The kind whose keys the reconciler gets. Exactly one, unless `watches` or `source` say it all."""
        if self._kind is not None:
            raise ValueError(f"manages({kind.kind}): the controller manages {self._kind.kind} already")
        self._kind = kind
        self._watches.insert(0, (kind, metadata_only, EnqueueForObject(), when))
        return self

    def owns(
        self,
        kind: Kind,
        *,
        when: Predicate | None = None,
        metadata_only: bool = False,
        any_owner: bool = False,
    ) -> Builder:
        """A kind of children: a change of one reconciles the managed object that controls it.

        `any_owner` also counts owner references without `controller: true`.
        """
        self._owned.append((kind, metadata_only, any_owner, when))
        return self

    def watches(
        self,
        kind: Kind,
        map_fn: Callable[[Object], Iterable[Key]],
        *,
        when: Predicate | None = None,
        metadata_only: bool = False,
    ) -> Builder:
        """A kind that others depend on: `map_fn` names the keys to reconcile for one of its objects."""
        self._watches.append((kind, metadata_only, EnqueueMapped(map_fn), when))
        return self

    def source(
        self,
        source: Channel | Source,
        *,
        map_fn: Callable[[Object], Iterable[Key]] | None = None,
        when: Predicate | None = None,
    ) -> Builder:
        """Keys from outside the API server. `map_fn` and `when` apply to what a Channel publishes."""
        if isinstance(source, Channel):
            mapper = EnqueueMapped(map_fn) if map_fn is not None else None
            self._sources.append(source.source(mapper, combine(self._filter, when)))
        elif map_fn is not None or when is not None:
            raise ValueError("source(): map_fn and when belong to a Channel; other sources map themselves")
        else:
            self._sources.append(source)
        return self

    def filtered(self, predicate: Predicate) -> Builder:
        """A predicate for every kind watched, asked before each one's own. Call it before `source`."""
        self._filter = combine(self._filter, predicate)
        return self

    def complete(
        self,
        reconciler: Reconciler,
        *,
        workers: int = 1,
        reconciliation_timeout: float | None = None,
        cache_sync_timeout: float = 120.0,
        limiter: RateLimiter[Key] | None = None,
        ageing: Ageing | None = DEFAULT_AGEING,
        leader: bool = True,
        warm_up: bool = False,
    ) -> Controller:
        """Make the controller and add it to the manager; see `ControllerOptions` for the options.

        `leader=False` runs it in every replica, leading or not.
        """
        if not self._name and self._kind is None:
            raise ValueError("complete(): give the controller a name, or a kind to manage")
        name = self._name or self._kind_name()
        if self._owned and self._kind is None:
            raise ValueError(f"controller {name}: owns() needs manages(), it is owners that are reconciled")
        if not self._watches and not self._owned and not self._sources:
            raise ValueError(f"controller {name}: nothing to watch; add manages(), watches() or source()")
        watches = list(self._watches)
        for kind, metadata_only, any_owner, when in self._owned:
            assert self._kind is not None
            watches.append(
                (kind, metadata_only, EnqueueForOwner(self._kind, only_controller=not any_owner), when)
            )
        sources: list[Source] = []
        for kind, metadata_only, mapper, when in watches:
            # Asked for now, so that a follower's caches are warm and its readiness means something.
            informer = self._host.cache.informer(kind, metadata_only=metadata_only)
            sources.append(KindSource(informer, mapper, combine(self._filter, when)))
        controller = Controller(
            name,
            reconciler,
            [*sources, *self._sources],
            metrics=self._host.metrics,
            kind=self._kind,
            options=ControllerOptions(
                workers=workers,
                reconciliation_timeout=reconciliation_timeout,
                cache_sync_timeout=cache_sync_timeout,
                warm_up=warm_up,
                limiter=limiter,
                ageing=ageing,
            ),
            barrier=self._host.barrier,
            clock=self._host.clock,
        )
        self._host.add(controller, leader=leader)
        return controller

    def _kind_name(self) -> str:
        assert self._kind is not None
        return self._kind.kind.lower()


def controller(manager: Host, name: str = "") -> Builder:
    """Begin a controller. `name` labels metrics and logs; it defaults to the managed kind in lower case."""
    return Builder(manager, name)
