"""One collection on the API server, over HTTP: the source of a reflector."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlencode

from ._objects import Kind
from ._selectors import Selector, selector_text
from ._transport import Stream, Transport

_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class HTTPListWatch:
    """Lists and watches `kind` in one namespace ("" = all), narrowed by label and field selectors.

    With `metadata_only` the server sends nothing but metadata. A page or the head of a watch may take
    `timeout` seconds.
    """

    def __init__(
        self,
        transport: Transport,
        kind: Kind,
        *,
        namespace: str = "",
        labels: Selector = None,
        fields: str = "",
        metadata_only: bool = False,
        timeout: float = 60.0,
    ) -> None:
        self._transport = transport
        self._path = kind.path(namespace)
        self._timeout = timeout
        self._list_accept = _METADATA_LIST if metadata_only else "application/json"
        self._watch_accept = _METADATA if metadata_only else "application/json"
        self._selectors: dict[str, str] = {}
        if text := selector_text(labels):
            self._selectors["labelSelector"] = text
        if fields:
            self._selectors["fieldSelector"] = fields

    async def list(self, parameters: Mapping[str, str]) -> bytes:
        return await self._transport.request(
            "GET",
            self._path,
            query=urlencode({**parameters, **self._selectors}),
            accept=self._list_accept,
            timeout=self._timeout,
        )

    def watch(self, parameters: Mapping[str, str]) -> AbstractAsyncContextManager[Stream]:
        return self._transport.stream(
            self._path,
            query=urlencode({**parameters, **self._selectors}),
            accept=self._watch_accept,
            timeout=self._timeout,
        )
