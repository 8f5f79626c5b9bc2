"""The identity of a revision: a short hash of everything that a running pod depends on. Pure.

Guarantees:
- equal inputs give an equal hash, whatever the order of keys in the spec;
- replicas, autoscaling, traffic and the update strategy are not in it: changing them restarts nothing;
- a runtime image that the spec leaves out means the one a revision already has, so that an operator upgrade
  (another default image) restarts nothing, and going back to an earlier spec finds the earlier revision;
- a revision is compared under the hash version it was made with: a new version of `_inputs` changes the
  hashes of new revisions only.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..resources.desired import Desired, Model
from ..resources.wire import JSON, canonical, pruned, text

#: The version that new revisions are made with.
HASH_VERSION: Final = 1

#: No vowels and nothing that reads as another letter, so that no hash is a word.
ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """A revision's name and what it was made from. `inputs` is the canonical JSON behind `hash`."""

    hash: str
    image: str
    version: int
    inputs: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an existing revision's Deployment says of itself."""

    hash: str
    image: str
    version: int
    inputs: str


def _source(source: Mapping[str, object]) -> JSON:
    """Where a model comes from. A long file list stands in it as one hash: identities are kept as
    annotations.
    """
    wire = {key: value for key, value in source.items() if key != "files"}
    files = source.get("files")
    if files:
        wire["files"] = hashlib.sha256(canonical(files).encode()).hexdigest()
    return pruned(wire)


def _model(model: Model) -> JSON:
    return pruned(
        {
            "name": model.name,
            "uid": model.uid,
            "version": model.version,
            "digest": model.digest,
            "framework": model.framework,
            "source": _source(model.source),
            "checksum": model.checksum,
            "secret": model.secret,
            "caSecret": model.ca_secret,
            "caKey": model.ca_key if model.ca_secret else "",
            "priority": model.priority,
            "latencySLA": model.latency_sla or None,
            "batching": dict(model.batching),
            "warmUp": dict(model.warm_up),
            "inputs": list(model.inputs),
            "outputs": list(model.outputs),
        }
    )


def _place(model: Model) -> JSON:
    """Of a model that is changed in the running pod: what a pod cannot change."""
    claim = text(model.source.get("claim")) or text(model.source.get("bucket"))
    return pruned(
        {
            "name": model.name,
            "uid": model.uid,
            "secret": model.secret,
            "caSecret": model.ca_secret,
            "caKey": model.ca_key if model.ca_secret else "",
            "claim": claim if model.source.get("scheme") == "pvc" else "",
        }
    )


def release_of(desired: Desired) -> str:
    """The hash of what running pods are to take: the models, and how they are loaded."""
    models = [_model(model) for model in sorted(desired.models, key=lambda item: item.name)]
    return digest(canonical(pruned({"models": models, "warmUp": dict(desired.warm_up)})))


def _inputs_1(desired: Desired, image: str) -> JSON:
    described = _place if desired.in_place else _model
    return pruned(
        {
            "inPlace": desired.in_place or None,
            "image": image,
            "engine": desired.engine,
            "workers": desired.workers,
            "threads": desired.threads,
            "resources": dict(desired.resources),
            "gpu": dict(desired.gpu),
            "warmUp": {} if desired.in_place else dict(desired.warm_up),
            "pod": dict(desired.pod),
            # Models are a map by name in the API: their order means nothing.
            "models": [described(model) for model in sorted(desired.models, key=lambda item: item.name)],
        }
    )


_INPUTS: Final[Mapping[int, Callable[[Desired, str], JSON]]] = {1: _inputs_1}


def digest(inputs: str) -> str:
    """The short hash of canonical inputs: eight lower-case letters and digits."""
    value = int.from_bytes(hashlib.sha256(inputs.encode()).digest(), "big")
    letters = []
    for _ in range(LENGTH):
        value, index = divmod(value, len(ALPHABET))
        letters.append(ALPHABET[index])
    return "".join(letters)


def identify(
    desired: Desired, *, image: str, version: int = HASH_VERSION, collisions: int = 0
) -> Identity | None:
    """The identity of `desired` run with `image`; None for a hash version this operator does not know."""
    build = _INPUTS.get(version)
    if build is None:
        return None
    inputs = build(desired, image)
    inputs["hashVersion"] = version
    if collisions:
        inputs["collisions"] = collisions
    text = canonical(inputs)
    return Identity(hash=digest(text), image=image, version=version, inputs=text)


def same(recorded: Recorded, desired: Desired) -> bool:
    """True if `desired` is what the recorded revision already runs."""
    image = desired.image or recorded.image
    found = identify(desired, image=image, version=recorded.version, collisions=_collisions(recorded.inputs))
    return found is not None and found.inputs == recorded.inputs


def choose(
    desired: Desired, existing: Iterable[Recorded], *, default_image: str, preferred: Iterable[str] = ()
) -> Identity:
    """The revision that `desired` is: an existing one if one matches, else a new one.

    preferred: hashes to try first (the current revision, then the stable one): where a spec without an image
    matches two revisions that differ in nothing else, it stays where it is.
    """
    known = list(existing)
    order = {name: rank for rank, name in enumerate(preferred)}
    for recorded in sorted(known, key=lambda item: order.get(item.hash, len(order))):
        if same(recorded, desired):
            return Identity(recorded.hash, recorded.image, recorded.version, recorded.inputs)
    taken = {recorded.hash for recorded in known}
    collisions = 0
    while True:
        made = identify(desired, image=desired.image or default_image, collisions=collisions)
        assert made is not None, "the current hash version is always known"
        if made.hash not in taken:
            return made
        collisions += 1


def _collisions(inputs: str) -> int:
    try:
        value = json.loads(inputs)
    except ValueError:
        return 0
    count = value.get("collisions", 0) if isinstance(value, dict) else 0
    return count if isinstance(count, int) else 0
