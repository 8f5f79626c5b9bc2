"""Create or update without a write when nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import orjson

from ._client import Client
from ._objects import JSON, Key, Kind, Object

Outcome = Literal["created", "updated", "unchanged"]


async def create_or_update(
    client: Client, kind: Kind, key: Key, mutate: Callable[[JSON], None]
) -> tuple[Object, Outcome]:
    """Bring one object to the state that `mutate` makes of it, by create or update; no write when it has it.

    `mutate` changes the dictionary it is given: the present object, or for a new one a bare apiVersion, kind
    and metadata. It must not change name or namespace (ValueError). Raises AlreadyExists or Conflict when
    somebody else was faster. Server-side apply (`Client.apply`) is the better way for what one manager owns.
    """
    current = await client.get(kind, key)
    if current is None:
        raw: JSON = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": key.name}}
        if key.namespace:
            raw["metadata"]["namespace"] = key.namespace
        _mutate(mutate, raw, key)
        return await client.create(Object(raw, kind)), "created"
    raw = current.raw
    before = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
    _mutate(mutate, raw, key)
    if orjson.dumps(raw, option=orjson.OPT_SORT_KEYS) == before:
        return current, "unchanged"
    return await client.update(Object(raw, kind)), "updated"


def _mutate(mutate: Callable[[JSON], None], raw: JSON, key: Key) -> None:
    mutate(raw)
    if Object(raw).key != key:
        raise ValueError(f"mutate made {Object(raw).key} of {key}; name and namespace must stay")
