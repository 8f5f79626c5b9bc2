"""What a controller sees of a cache: handlers, registrations and informers, as Protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ._objects import Key, Kind, Object, Objects


class Handler(Protocol):
    """Hears of changes, in order, in the event loop. Methods must return quickly and may not await.

    Objects are shared with other handlers and decode themselves only when their content is read; names,
    labels, uid, generation, resource_version and owner references cost nothing. A handler that raises is
    logged, counted and does not stop the others. A deletion followed by a creation while the watch was down
    arrives as an update whose objects differ in uid.
    """

    def on_add(self, obj: Object, in_initial_list: bool) -> None:
        """`obj` is new to this handler; `in_initial_list` for what was there when the handler was added."""
        ...

    def on_update(self, old: Object, new: Object) -> None:
        """`new` replaces `old`; after a relist or a resync they may be equal."""
        ...

    def on_delete(self, obj: Object, state_unknown: bool) -> None:
        """`obj` is gone. With `state_unknown` the deletion itself was missed and `obj` is the last known
        state.
        """
        ...


class Registration(Protocol):
    """One handler's place in an informer."""

    def has_synced(self) -> bool:
        """This handler has been given the whole first list (not just: the informer has it)."""
        ...

    async def wait_synced(self, timeout: float) -> None:
        """Return once `has_synced`; raises TimeoutError after `timeout` seconds."""
        ...

    def remove(self) -> None:
        """Stop delivery at once, undelivered events included. Idempotent."""
        ...


class Informer(Protocol):
    """A synchronised local copy of one kind (or of its metadata), fed by list and watch."""

    @property
    def kind(self) -> Kind: ...

    @property
    def synced(self) -> bool:
        """The first list is in the store."""
        ...

    @property
    def last_resource_version(self) -> str:
        """How far the copy has come; "" before the first list. Of several namespaces, the furthest behind."""
        ...

    @property
    def last_error(self) -> str:
        """Why the latest list or watch failed, one line; "" while all is well."""
        ...

    def add_handler(self, handler: Handler) -> Registration:
        """Deliver the present objects as adds, then every change. May be called before or after `run`."""
        ...

    async def wait_synced(self, timeout: float) -> None:
        """Return once `synced`; raises CacheSyncTimeout, naming kind and last error, after `timeout`
        seconds.
        """
        ...

    def get(self, key: Key) -> Object | None:
        """A private copy, or None. Reads what is there, synced or not."""
        ...

    def list(
        self,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | str | None = None,
        index: tuple[str, str] | None = None,
    ) -> Objects:
        """Private copies of what matches all conditions. Raises NotCached for an index it does not keep."""
        ...

    async def run(self) -> None:
        """List and watch until cancelled; owned by the cache. Never returns by itself."""
        ...
