"""Several namespaces of one kind behind the face of one informer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ._informer import SharedInformer, version_number
from ._informer_api import Handler, Registration
from ._objects import Key, Kind, Object, Objects
from ._selectors import Selector


class MultiInformer:
    """One informer per namespace, so that a Role in each is all the permission it takes."""

    def __init__(self, parts: Sequence[SharedInformer]) -> None:
        self._parts = parts
        self._by_namespace = {part.namespace: part for part in parts}

    @property
    def kind(self) -> Kind:
        return self._parts[0].kind

    @property
    def synced(self) -> bool:
        return all(part.synced for part in self._parts)

    @property
    def last_resource_version(self) -> str:
        return min((part.last_resource_version for part in self._parts), key=version_number)

    @property
    def last_error(self) -> str:
        return "; ".join(part.last_error for part in self._parts if part.last_error)

    def add_handler(self, handler: Handler) -> Registration:
        return _Registrations([part.add_handler(handler) for part in self._parts])

    async def wait_synced(self, timeout: float) -> None:
        await asyncio.gather(*(part.wait_synced(timeout) for part in self._parts))

    def get(self, key: Key) -> Object | None:
        part = self._by_namespace.get(key.namespace)
        return None if part is None else part.get(key)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(part.run())

    def list(
        self,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        index: tuple[str, str] | None = None,
    ) -> Objects:
        if namespace is not None:
            part = self._by_namespace.get(namespace)
            return [] if part is None else part.list(namespace=namespace, labels=labels, index=index)
        return [obj for part in self._parts for obj in part.list(labels=labels, index=index)]


class _Registrations:
    """One handler's places in all of them."""

    def __init__(self, parts: Sequence[Registration]) -> None:
        self._parts = parts

    def has_synced(self) -> bool:
        return all(part.has_synced() for part in self._parts)

    async def wait_synced(self, timeout: float) -> None:
        await asyncio.gather(*(part.wait_synced(timeout) for part in self._parts))

    def remove(self) -> None:
        for part in self._parts:
            part.remove()
