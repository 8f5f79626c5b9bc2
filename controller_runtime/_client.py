"""Reads from the cache where there is one, writes to the server, every call with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeAlias
from urllib.parse import urlencode

import orjson

from ._cache import Cache
from ._config import Config
from ._consistency import current_log
from ._mapper import Mapper
from ._metrics_api import Metrics
from ._objects import JSON, Key, Kind, Object, Objects
from ._selectors import Selector, selector_text
from ._transport import Transport
from .errors import Conflict, Invalid, NotCached, NotFound

PatchType: TypeAlias = Literal["merge", "json", "strategic"]

_CONTENT_TYPE: Mapping[str, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_APPLY = "application/apply-patch+yaml"  # YAML includes JSON
_PAGE = 500


class Client:
    """Talks to one API server in one event loop.

    - `get` and `list` answer from the cache for the kinds it keeps, waiting for its first list; all others,
    and
      `get_live`/`list_live`, ask the server. What comes back belongs to the caller.
    - Every call takes at most `timeout` seconds, retries that the server asked for included.
    - Every write first calls `fence`, which raises NotLeader when this process may not write any more, and is
      noted so that a reconcile's key is not finished before the cache has seen it.
    - Failures are the exceptions of `controller_runtime.errors`. A reply that never came (TransportError)
    says
      nothing about whether the write happened.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_manager: str,
        cache: Cache | None = None,
        fence: Callable[[], None] | None = None,
        timeout: float = 30.0,
        mapper: Mapper | None = None,
    ) -> None:
        if not field_manager:
            raise ValueError("field_manager is empty; give a name of at most 128 characters")
        self.field_manager = field_manager
        self.cache = cache
        self.mapper = mapper or Mapper(lambda path: transport.request("GET", path))
        self._transport = transport
        self._fence = fence
        self._timeout = timeout
        self._manager = urlencode({"fieldManager": field_manager})

    # -- reads

    async def get(self, kind: Kind, key: Key) -> Object | None:
        """The object, or None if there is none (for a cached kind: none that the cache's selectors let
        in).
        """
        if self.cache is not None and self.cache.holds(kind):
            return await self.cache.get(kind, key, timeout=self._timeout)
        return await self.get_live(kind, key)

    async def get_live(self, kind: Kind, key: Key) -> Object | None:
        """The newest state, agreed by a quorum, or None. What a destructive step must look at."""
        try:
            body = await self._transport.request("GET", kind.path(*key), timeout=self._timeout)
        except NotFound:
            return None
        return Object(orjson.loads(body), kind)

    async def create(self, raw: Object | JSON) -> Object:
        """POST; a body with `generateName` gets its name from the server. Raises AlreadyExists."""
        kind, body = await self._resolve(raw)
        path = kind.path(_namespace(body))
        return await self._write("POST", path, kind, body)

    async def apply(self, raw: Object | JSON, *, force: bool = True) -> Object:
        """Server-side apply: creates or changes the object to hold exactly the fields given.

        A field applied before and left out now is removed. `force` takes fields over from other managers;
        without it that is a Conflict naming them.
        """
        kind, body = await self._resolve(raw)
        metadata = body["metadata"]
        if "managedFields" in metadata:
            body = {**body, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}
        path = kind.path(_namespace(body), metadata["name"])
        return await self._write("PATCH", path, kind, body, content_type=_APPLY, force=force)

    async def apply_status(
        self,
        kind: Kind,
        key: Key,
        status: JSON,
        *,
        resource_version: str | None = None,
        uid: str | None = None,
    ) -> Object:
        """Server-side apply of the whole status, with force.

        `resource_version` or `uid` make it conditional: Conflict when the object has moved on or is another
        one. Raises NotFound when there is no such object.
        """
        metadata: JSON = {"name": key.name}
        if key.namespace:
            metadata["namespace"] = key.namespace
        if resource_version is not None:
            metadata["resourceVersion"] = resource_version
        if uid is not None:
            metadata["uid"] = uid
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status}
        path = kind.path(*key, "status")
        try:
            return await self._write("PATCH", path, kind, body, content_type=_APPLY, force=True)
        except Invalid as error:
            if uid is not None and _names_field(error, "metadata.uid"):  # how built-in kinds say it
                raise Conflict(409, "Conflict", error.message, error.details) from error
            raise

    async def update(self, raw: Object | JSON, *, subresource: str = "") -> Object:
        """PUT the whole object. With its resourceVersion in the body it raises Conflict if the object moved
        on.

        Where the kind has a status subresource, status is ignored unless `subresource="status"`.
        """
        kind, body = await self._resolve(raw)
        path = kind.path(_namespace(body), body["metadata"]["name"], subresource)
        return await self._write("PUT", path, kind, body)

    async def patch(
        self,
        kind: Kind,
        key: Key,
        patch: JSON | Sequence[JSON],
        *,
        type: PatchType = "merge",
        subresource: str = "",
    ) -> Object:
        """Change an object in place. "strategic" exists for built-in kinds only; "json" takes a list."""
        path = kind.path(*key, subresource)
        return await self._write("PATCH", path, kind, patch, content_type=_CONTENT_TYPE[type])

    async def scale(self, kind: Kind, key: Key, replicas: int) -> None:
        """Set the replicas of anything that has a /scale."""
        self._check()
        body = orjson.dumps({"spec": {"replicas": replicas}})
        await self._send("PATCH", kind.path(*key, "scale"), body, _CONTENT_TYPE["merge"], self._manager)

    async def delete(
        self,
        kind: Kind,
        key: Key,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> bool:
        """Ask for deletion. False when the object was gone already.

        `uid` and `resource_version` make it conditional (Conflict otherwise); give the uid of what was looked
        at for everything that cannot be undone. True does not mean gone: finalizers and grace periods hold it
        up.
        """
        self._check()
        options: JSON = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if any(preconditions.values()):
            options["preconditions"] = {name: value for name, value in preconditions.items() if value}
        try:
            answer = await self._send(
                "DELETE", kind.path(*key), orjson.dumps(options), "application/json", ""
            )
        except NotFound:
            return False
        log = current_log()
        if log is not None:
            if answer.get("kind") == "Status":
                log.deleted(kind, key, (answer.get("details") or {}).get("uid") or uid or "")
            else:
                log.wrote(kind, Object(answer, kind))
        return True

    async def create_review(self, raw: Object | JSON) -> Object:
        """POST a TokenReview, SubjectAccessReview or the like: a question, not a write, so never fenced."""
        kind, body = await self._resolve(raw)
        path = kind.path(_namespace(body))
        return Object(await self._send("POST", path, orjson.dumps(body), "application/json", ""), kind)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: JSON | Sequence[JSON] | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,
    ) -> JSON:
        """Anything else, by path; {} for an empty answer. Fenced unless it is a GET."""
        if method != "GET":
            self._check()
        answer = await self._transport.request(
            method,
            path,
            query=urlencode(params or {}),
            body=None if body is None else orjson.dumps(body),
            content_type=content_type,
            timeout=self._timeout if timeout is None else timeout,
        )
        decoded: JSON = orjson.loads(answer) if answer else {}
        return decoded

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- inside

    def _check(self) -> None:
        if self._fence is not None:
            self._fence()

    async def _resolve(self, raw: Object | JSON) -> tuple[Kind, JSON]:
        """The kind and the body with apiVersion and kind filled in."""
        if isinstance(raw, Object):
            body, kind = raw.raw, raw.kind
            if kind.plural:
                self.mapper.learn(kind)
                if "kind" not in body:
                    body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
                return kind, body
        else:
            body = raw
        try:
            api_version, name = body["apiVersion"], body["kind"]
        except KeyError as error:
            raise ValueError(f"object without {error}: give apiVersion and kind") from None
        return self.mapper.known(api_version, name) or await self.mapper.kind_for(api_version, name), body

    async def _write(
        self,
        method: str,
        path: str,
        kind: Kind,
        body: JSON | Sequence[JSON],
        *,
        content_type: str = "application/json",
        force: bool | None = None,
    ) -> Object:
        self._check()
        query = self._manager if force is None else f"{self._manager}&force={'true' if force else 'false'}"
        obj = Object(await self._send(method, path, orjson.dumps(body), content_type, query), kind)
        log = current_log()
        if log is not None:
            log.wrote(kind, obj)
        return obj

    async def _send(self, method: str, path: str, body: bytes, content_type: str, query: str) -> JSON:
        answer = await self._transport.request(
            method, path, query=query, body=body, content_type=content_type, timeout=self._timeout
        )
        decoded: JSON = orjson.loads(answer)
        return decoded

    # Last in the class: inside it, these names hide the built-in `list`.

    async def list_live(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        fields: str | None = None,
    ) -> Objects:
        """The newest state of all that match, page by page; all namespaces unless one is named."""
        path = kind.path(namespace or "")
        selectors = {"labelSelector": selector_text(labels), "fieldSelector": fields or ""}
        parameters = {"limit": str(_PAGE)} | {name: value for name, value in selectors.items() if value}
        found: Objects = []
        while True:
            body = await self._transport.request(
                "GET", path, query=urlencode(parameters), timeout=self._timeout
            )
            page = orjson.loads(body)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
                found.append(Object(item, kind))
            following = page["metadata"].get("continue")
            if not following:
                return found
            parameters["continue"] = following

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        index: tuple[str, str] | None = None,
    ) -> Objects:
        """All that match; from the cache for a cached kind. `index` (name, value) needs one: else
        NotCached.
        """
        if self.cache is not None and self.cache.holds(kind):
            return await self.cache.list(
                kind, namespace=namespace, labels=labels, index=index, timeout=self._timeout
            )
        if index is not None:
            raise NotCached(f"{kind}: index {index[0]!r} needs a cached kind; call cache.watch(indexes=)")
        return await self.list_live(kind, namespace=namespace, labels=labels)


def connect(
    config: Config, *, field_manager: str = "controller-runtime", metrics: Metrics | None = None
) -> Client:
    """A client without a cache, for scripts and tests: `async with ctrl.connect(config) as client:`."""
    return Client(Transport(config, user_agent=field_manager, metrics=metrics), field_manager=field_manager)


def _names_field(error: Invalid, field: str) -> bool:
    causes = error.details.get("causes")
    return isinstance(causes, list) and any(cause.get("field") == field for cause in causes)


def _namespace(body: JSON) -> str:
    return (body.get("metadata") or {}).get("namespace") or ""
