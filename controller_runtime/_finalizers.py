"""Holding up a deletion until what the object stands for is cleaned up."""

from __future__ import annotations

from ._client import Client
from ._objects import JSON, Object
from .errors import Invalid, NotFound

_ATTEMPTS = 5


async def add_finalizer(client: Client, obj: Object, name: str) -> bool:
    """Add `name` to the object's finalizers. True if a write was needed and made.

    Do this, and return, before the first effect outside of the cluster. False when it is there already, or
    when the object is being deleted: the server refuses new finalizers then, and nothing needs cleaning up
    yet. Raises Conflict when the object changed since it was read; the next event brings the key back.
    """
    if name in obj.finalizers or obj.deleting:
        return False
    patch: JSON = {
        "metadata": {"resourceVersion": obj.resource_version, "finalizers": [*obj.finalizers, name]}
    }
    if obj.uid:
        patch["metadata"]["uid"] = obj.uid
    await client.patch(obj.kind, obj.key, patch)
    return True


async def remove_finalizer(client: Client, obj: Object, name: str) -> bool:
    """Take `name`, and only that, off the finalizers. True if a write was made, False if it was gone already.

    A JSON patch first tests that the entry is what it is taken for, and that the object is the same one, so a
    finalizer that another controller adds or removes meanwhile is never lost.
    """

    current: Object | None = obj
    for attempt in range(_ATTEMPTS):
        if current is None or current.uid != obj.uid or name not in current.finalizers:
            return False
        at = current.finalizers.index(name)
        patch: list[JSON] = [
            {"op": "test", "path": "/metadata/uid", "value": obj.uid},
            {"op": "test", "path": f"/metadata/finalizers/{at}", "value": name},
            {"op": "remove", "path": f"/metadata/finalizers/{at}"},
        ]
        try:
            await client.patch(obj.kind, obj.key, patch, type="json")
            return True
        except NotFound:
            return False
        except Invalid:
            if attempt == _ATTEMPTS - 1:
                raise
            current = await client.get_live(obj.kind, obj.key)
    return False
