"""Whether a server-side apply would change anything. Pure.

The cache keeps no managedFields (they are a third of every object), so the set of fields that was applied
last is remembered as a hash in an annotation of the applied object. Unchanged means: the hash is the one we
would write, and all of it is still there. A dropped field changes the hash; a hand edit breaks the subset.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from .kinds import GROUP

ANNOTATION_APPLIED: Final = f"{GROUP}/applied"


def stamped(desired: Mapping[str, object]) -> dict[str, object]:
    """A copy of `desired` that carries its own hash."""
    body = copy.deepcopy(dict(desired))
    metadata = body.setdefault("metadata", {})
    assert isinstance(metadata, dict)
    annotations = metadata.setdefault("annotations", {})
    annotations.pop(ANNOTATION_APPLIED, None)
    annotations[ANNOTATION_APPLIED] = digest(body)
    return body


def needs_apply(desired: Mapping[str, object], live: Mapping[str, object] | None) -> bool:
    """Whether `desired` (as `stamped` returns it) has to be applied over `live`."""
    return live is None or not subset(desired, live)


def digest(body: Mapping[str, object]) -> str:
    """16 hex digits of the canonical JSON of `body`."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def subset(desired: object, live: object) -> bool:
    """Whether everything that `desired` says is said by `live`.

    Maps may hold more in `live` (defaults, other managers' fields); so may the items of a list, but a list
    has the same length and order. An absent map or list equals an empty one: the API server drops empty ones.
    """
    if isinstance(desired, Mapping):
        if live is None:
            return not desired
        return isinstance(live, Mapping) and all(
            subset(value, live.get(key)) for key, value in desired.items()
        )
    if isinstance(desired, Sequence) and not isinstance(desired, str | bytes):
        if live is None:
            return not desired
        if not isinstance(live, Sequence) or isinstance(live, str | bytes) or len(live) != len(desired):
            return False
        return all(subset(one, other) for one, other in zip(desired, live, strict=True))
    return desired == live
