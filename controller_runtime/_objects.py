"""Thin views over what the API server sends: keys, kinds and objects. Nothing here validates or awaits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

JSON: TypeAlias = dict[str, Any]
"""A decoded JSON object. Values are whatever the wire holds; readers check what they depend on."""


class Key(NamedTuple):
    """Names one object of a known kind. `namespace` is "" for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Request = Key
"""What a reconciler is handed: the key of the object to bring in line, never the object."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type: what a body calls itself (`api_version`, `kind`) and where it lives (`plural`)."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    _prefix: str = field(init=False, repr=False, compare=False, default="")
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.group, self.version, self.kind, self.plural)))
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        object.__setattr__(self, "_prefix", root)

    def __hash__(self) -> int:
        return self._hash  # it is looked up on every read and write

    @property
    def api_version(self) -> str:
        """As bodies spell it: "v1" for the core group, else "group/version"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC and `kubectl` spell it: "pods", "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of one object, or of the collection when `name` is "" (all namespaces when both are).

        Raises ValueError for a kind without a plural (one read off a body) and for a name without its
        namespace, because that path would silently address something else.
        """
        if not self.plural:
            raise ValueError(f"{self.kind}: its plural is not known; use a Kind with plural= set")
        if self.namespaced and namespace:
            path = f"{self._prefix}/namespaces/{_segment(namespace)}/{self.plural}"
        elif self.namespaced and name:
            raise ValueError(f"{self.kind} {name!r}: kind is namespaced, give the key a namespace")
        else:
            path = f"{self._prefix}/{self.plural}"
        if name:
            path = f"{path}/{_segment(name)}"
        return f"{path}/{subresource}" if subresource else path

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@lru_cache(maxsize=4096)
def _segment(text: str) -> str:
    return quote(text, safe="")


def split_api_version(api_version: str) -> tuple[str, str]:
    """("group", "version") of an `apiVersion`; the core group is ""."""
    group, _, version = api_version.rpartition("/")
    return group, version


class Object:
    """A view of one Kubernetes object; it never validates and never talks to the server.

    Properties read `raw` each time, so a change of `raw` shows. Missing or null parts read as "", 0, {} or
    []. What `Client` and `Cache` return is the caller's own copy. What handlers, predicates and map functions
    are handed is shared with others: read it, do not change it.
    """

    __slots__ = ("_kind", "_raw")

    def __init__(self, raw: JSON, kind: Kind | None = None) -> None:
        self._raw: JSON | None = raw
        self._kind = kind

    @property
    def raw(self) -> JSON:
        """The wire dictionary itself, not a copy."""
        assert self._raw is not None
        return self._raw

    @property
    def metadata(self) -> JSON:
        return self.raw.get("metadata") or {}

    @property
    def kind(self) -> Kind:
        """The kind it was read as; else what the body says, without a plural (such a Kind has no path)."""
        if self._kind is None:
            group, version = split_api_version(self.raw.get("apiVersion") or "")
            namespaced = bool(self.metadata.get("namespace"))
            self._kind = Kind(group, version, self.raw.get("kind") or "", "", namespaced)
        return self._kind

    @property
    def api_version(self) -> str:
        return self.kind.api_version

    @property
    def name(self) -> str:
        return self.metadata.get("name") or ""

    @property
    def namespace(self) -> str:
        return self.metadata.get("namespace") or ""

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    @property
    def uid(self) -> str:
        return self.metadata.get("uid") or ""

    @property
    def resource_version(self) -> str:
        return self.metadata.get("resourceVersion") or ""

    @property
    def generation(self) -> int:
        """metadata.generation; 0 for kinds that have none (ConfigMap, Secret, ...)."""
        return self.metadata.get("generation") or 0

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def finalizers(self) -> list[str]:
        return self.metadata.get("finalizers") or []

    @property
    def deleting(self) -> bool:
        """A deletion was asked for and finalizers or a grace period hold it up."""
        return bool(self.metadata.get("deletionTimestamp"))

    @property
    def owner_references(self) -> list[JSON]:
        return self.metadata.get("ownerReferences") or []

    @property
    def controller_uid(self) -> str:
        """UID of the owner whose reference says `controller: true`, or ""."""
        for reference in self.owner_references:
            if reference.get("controller"):
                return reference.get("uid") or ""
        return ""

    @property
    def spec(self) -> JSON:
        return self.raw.get("spec") or {}

    @property
    def status(self) -> JSON:
        return self.raw.get("status") or {}

    def __repr__(self) -> str:
        return f"<{self.kind.kind or 'Object'} {self.key} resourceVersion={self.resource_version or '?'}>"


Objects: TypeAlias = list[Object]
"""What a list returns; the name exists because classes with a method `list` cannot say `list[Object]`."""


def owner_reference(owner: Object, *, controller: bool = True, block: bool = True) -> JSON:
    """The entry for a child's metadata.ownerReferences.

    `controller=True` makes `owner` the one controller of the child; `block=True` holds a foreground deletion
    of the owner until the child is gone (needs `update` on the owner's finalizers where the server enforces
    it). Raises ValueError when `owner` has no uid, that is, was not read from the server.
    """
    if not owner.uid:
        raise ValueError(f"owner {owner.kind.kind} {owner.key} has no uid; read it from the server first")
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": controller,
        "blockOwnerDeletion": block,
    }
