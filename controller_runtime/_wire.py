"""From response bytes to what the store keeps: a small header, and the object's own bytes.

Decoding a whole object costs more than everything else an event causes, so it is put off until somebody reads
the content. The header holds what routing needs. `metadata.managedFields` is cut out of the bytes: it is
often a third of an object and no controller reads it from a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import orjson

from ._objects import JSON, Kind, Object
from .errors import ControllerRuntimeError

Transform: TypeAlias = Callable[[JSON], JSON]
"""Shrinks or rewrites an object before it is stored; must keep name, namespace, uid and resourceVersion."""

MAX_LINE = 8 * 1024 * 1024
"""Longest watch event accepted, in bytes; etcd itself refuses objects over 1.5 MiB."""

_NOTHING = msgspec.Raw()
_FIELD = b',"managedFields":'


class MalformedObject(ControllerRuntimeError):
    """Not an object with a name and a resourceVersion."""


class OwnerRef(msgspec.Struct, gc=False):
    name: str
    uid: str
    kind: str = ""
    apiVersion: str = ""
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class Header(msgspec.Struct, gc=False):
    """The part of `metadata` that routing and filters look at."""

    name: str
    resourceVersion: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    ownerReferences: list[OwnerRef] | None = None
    deletionTimestamp: str | None = None
    managedFields: msgspec.Raw = _NOTHING


class _Body(msgspec.Struct, gc=False):
    metadata: Header


class _Event(msgspec.Struct, gc=False):
    type: str
    object: _Body


class _LooseEvent(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, gc=False):
    resourceVersion: str = ""
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct, gc=False):
    metadata: _BookmarkMeta


class _ListMeta(msgspec.Struct, gc=False, rename={"continue_": "continue"}):
    resourceVersion: str = ""
    continue_: str = ""


class ListPage(msgspec.Struct, gc=False):
    """One page of a list; items are windows into the page's buffer until `entry_from` copies them out."""

    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class Entry(msgspec.Struct, gc=False, frozen=True):
    """An object at rest: `header`, and `data` = its JSON without managedFields."""

    header: Header
    data: bytes


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_loose = msgspec.json.Decoder(_LooseEvent).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_bookmark = msgspec.json.Decoder(_Bookmark).decode
decode_page = msgspec.json.Decoder(ListPage).decode
_PREFIX = {kind: f'{{"type":"{kind}","object":'.encode() for kind in ("ADDED", "MODIFIED", "DELETED")}


def entry_from(raw: bytes | msgspec.Raw, transform: Transform | None = None) -> Entry:
    """Take one list item out of its page. Raises MalformedObject."""
    try:
        header = _decode_body(raw).metadata
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MalformedObject(str(error)) from error
    return _entry(header, bytes(raw), transform)


def event_from(line: bytes, transform: Transform | None = None) -> tuple[str, Entry]:
    """("ADDED" | "MODIFIED" | "DELETED", entry) of one watch line; other types are for `control_event`.

    Raises MalformedObject.
    """
    try:
        event = _decode_event(line)
        prefix = _PREFIX[event.type]
        if line.startswith(prefix):
            data = line[len(prefix) : line.rindex(b"}")]
        else:
            data = bytes(_decode_loose(line).object)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, ValueError) as error:
        raise MalformedObject(str(error)) from error
    return event.type, _entry(event.object.metadata, data, transform)


def control_event(line: bytes) -> tuple[str, bytes]:
    """(type, object bytes) of a watch line of any type. Raises MalformedObject."""
    try:
        event = _decode_loose(line)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MalformedObject(str(error)) from error
    return event.type, bytes(event.object)


def bookmark_from(data: bytes) -> tuple[str, bool]:
    """(resourceVersion, whether it ends the initial events of a streamed list)."""
    try:
        meta = _decode_bookmark(data).metadata
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MalformedObject(str(error)) from error
    return meta.resourceVersion, (meta.annotations or {}).get("k8s.io/initial-events-end") == "true"


def _entry(header: Header, data: bytes, transform: Transform | None) -> Entry:
    if not header.name or not header.resourceVersion:
        raise MalformedObject(f"object without name or resourceVersion: {data[:120]!r}")
    managed = bytes(header.managedFields)
    if managed:
        header.managedFields = _NOTHING
        data = _without_managed_fields(data, managed)
    if transform is None:
        return Entry(header, data)
    try:
        data = orjson.dumps(transform(orjson.loads(data)))
        return Entry(_decode_body(data).metadata, data)
    except Exception as error:
        raise MalformedObject(f"{header.namespace}/{header.name}: transform failed: {error!r}") from error


def _without_managed_fields(data: bytes, managed: bytes) -> bytes:
    start = data.find(_FIELD)
    value = start + len(_FIELD)
    if start >= 0 and data.startswith(managed, value) and data.find(_FIELD, value) < 0:
        return data[:start] + data[value + len(managed) :]
    raw = orjson.loads(data)  # other spacing or order than the API server's, or the words occur twice
    raw["metadata"].pop("managedFields", None)
    return orjson.dumps(raw)


class StoredObject(Object):
    """An `Object` over an `Entry`: the header answers at once, content is decoded at the first look at it.

    After that first look the decoded `raw` answers everything, so that changes made to it show.
    """

    __slots__ = ("_entry",)

    def __init__(self, entry: Entry, kind: Kind) -> None:
        self._raw = None
        self._kind = kind
        self._entry = entry

    @property
    def raw(self) -> JSON:
        raw = self._raw
        if raw is None:
            raw = self._raw = orjson.loads(self._entry.data)
            kind = self._kind
            if kind is not None and raw.get("kind") != kind.kind:  # lists omit it, metadata is generic
                raw["apiVersion"], raw["kind"] = kind.api_version, kind.kind
        return raw

    @property
    def name(self) -> str:
        return self._entry.header.name if self._raw is None else super().name

    @property
    def namespace(self) -> str:
        return self._entry.header.namespace if self._raw is None else super().namespace

    @property
    def uid(self) -> str:
        return self._entry.header.uid if self._raw is None else super().uid

    @property
    def resource_version(self) -> str:
        return self._entry.header.resourceVersion if self._raw is None else super().resource_version

    @property
    def generation(self) -> int:
        return self._entry.header.generation if self._raw is None else super().generation

    @property
    def labels(self) -> dict[str, str]:
        if self._raw is None:
            return dict(self._entry.header.labels or ())
        return self.metadata.get("labels") or {}

    @property
    def deleting(self) -> bool:
        return self._entry.header.deletionTimestamp is not None if self._raw is None else super().deleting

    @property
    def owner_references(self) -> list[JSON]:
        if self._raw is not None:
            return super().owner_references
        found: list[JSON] = []
        for reference in self._entry.header.ownerReferences or ():
            item: JSON = {
                "apiVersion": reference.apiVersion,
                "kind": reference.kind,
                "name": reference.name,
                "uid": reference.uid,
            }
            if reference.controller is not None:
                item["controller"] = reference.controller
            if reference.blockOwnerDeletion is not None:
                item["blockOwnerDeletion"] = reference.blockOwnerDeletion
            found.append(item)
        return found

    @property
    def controller_uid(self) -> str:
        if self._raw is not None:
            return super().controller_uid
        for reference in self._entry.header.ownerReferences or ():
            if reference.controller:
                return reference.uid
        return ""
