"""From what a body calls itself to where it lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from ._kinds import BUILT_IN
from ._objects import Kind, split_api_version
from .errors import NotFound


class Mapper:
    """Finds the Kind for an (apiVersion, kind): built in, told by `learn`, or asked of the server once.

    A kind the server does not know raises NotFound and is asked for again next time, so a CRD installed later
    is found.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[bytes]]) -> None:
        """`fetch` GETs a path."""
        self._fetch = fetch
        self._known = {(kind.api_version, kind.kind): kind for kind in BUILT_IN}

    def learn(self, kind: Kind) -> None:
        """Remember a kind that somebody spelled out."""
        self._known.setdefault((kind.api_version, kind.kind), kind)

    def known(self, api_version: str, kind: str) -> Kind | None:
        """Without asking the server."""
        return self._known.get((api_version, kind))

    async def kind_for(self, api_version: str, kind: str) -> Kind:
        """Raises NotFound naming the kind when the server has no such resource."""
        found = self._known.get((api_version, kind))
        if found is None:
            await self._discover(api_version)
            found = self._known.get((api_version, kind))
        if found is None:
            raise NotFound(404, "NotFound", f"no resource for kind {kind!r} in {api_version}; apply its CRD")
        return found

    async def _discover(self, api_version: str) -> None:
        group, version = split_api_version(api_version)
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            listed = orjson.loads(await self._fetch(path))
        except NotFound:
            return
        for resource in listed.get("resources") or ():
            if "/" not in resource["name"]:
                self.learn(
                    Kind(
                        resource.get("group") or group,
                        resource.get("version") or version,
                        resource["kind"],
                        resource["name"],
                        bool(resource.get("namespaced")),
                    )
                )
