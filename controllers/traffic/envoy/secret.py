"""The authorities in their Secret, in the operator's own namespace: read when needed, never watched."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import controller_runtime as ctrl

from ...kinds import FIELD_MANAGER, LABEL_MANAGED_BY
from ...resources.wire import mapping
from .authority import Authority, from_data, generate, kept, renewal_due, to_data

SECRET_NAME: Final = "paddle-operator-ads"
_ATTEMPTS: Final = 3


class Authorities:
    """At most one operator makes a new authority: the write is conditional, and who loses reads again."""

    def __init__(self, client: ctrl.Client, namespace: str) -> None:
        self._client = client
        self._key = ctrl.Key(namespace, SECRET_NAME)

    async def current(self, now: float) -> tuple[Authority, ...]:
        """Those that hold, the oldest first; there is always one. Raises the client's errors."""
        for _ in range(_ATTEMPTS):
            there = await self._client.get_live(ctrl.SECRET, self._key)
            found = kept(from_data(_decoded(there)), now)
            if not renewal_due(found, now):
                return found
            wanted = kept((*found, generate(now)), now)
            try:
                await self._write(there, wanted)
            except (ctrl.AlreadyExists, ctrl.Conflict):
                continue
            return wanted
        raise ctrl.Conflict(409, "Conflict", f"Secret {self._key} changes under our hands", {})

    async def _write(self, there: ctrl.Object | None, wanted: tuple[Authority, ...]) -> None:
        data = {name: base64.b64encode(text.encode()).decode() for name, text in to_data(wanted).items()}
        metadata: ctrl.JSON = {
            "name": self._key.name,
            "namespace": self._key.namespace,
            "labels": {LABEL_MANAGED_BY: FIELD_MANAGER},
        }
        body: ctrl.JSON = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}
        if there is None:
            await self._client.create(body | {"data": data})
        else:
            metadata["resourceVersion"] = there.resource_version
            await self._client.update(body | {"data": data})


def _decoded(secret: ctrl.Object | None) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in mapping(secret.raw.get("data") if secret is not None else None).items():
        try:
            found[name] = base64.b64decode(str(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found
