"""Builds what changed, and remembers what was built from what."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.images import base, inputs, names
from hack.images.buildah import BuildError, Store
from hack.images.specs import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A finished image: the hash of its inputs and the digest of its manifest."""

    name: str
    key: str
    digest: str
    size: int

    @property
    def pinned(self) -> str:
        """The tag that names this content for good."""
        return f"{names.repository(self.name)}:{names.TAG}-{self.digest.removeprefix('sha256:')[:12]}"


class State:
    """What was built, kept as JSON in the cache folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Built]:
        try:
            raw = json.loads(self.path.read_text())
            return {name: Built(**entry) for name, entry in raw.items()}
        except (OSError, ValueError, TypeError):
            return {}

    def save(self, built: Iterable[Built]) -> None:
        merged = {**self.load(), **{entry.name: entry for entry in built}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(
            json.dumps({name: asdict(entry) for name, entry in sorted(merged.items())}, indent=1)
        )
        temporary.replace(self.path)


def state(store: Store | None = None) -> State:
    return State((store or Store()).folder / "state.json")


def pinned(name: str) -> str:
    """The content-named tag of the newest build of `name`; `name` itself where it was never built here."""
    entry = state().load().get(name)
    return entry.pinned if entry else name


def choose_base(store: Store, *, rebuild: bool = False) -> str:
    """BASE_IMAGE if set, else our own Debian base (made here when the store has none)."""
    return os.environ.get("BASE_IMAGE") or base.ensure(store, rebuild=rebuild)


def size(store: Store, digest: str) -> int:
    manifest = json.loads(store.blob(digest).read_text())
    return sum(int(layer["size"]) for layer in manifest["layers"])


def build(store: Store, image: Image, *, base_image: str, rebuild: bool = False) -> Built:
    """Builds one image, or returns the last build when nothing that it is made of changed."""
    key = image.key(base_image)
    last = state(store).load().get(image.name)
    if last and last.key == key and not rebuild and store.blob(last.digest).is_file():
        return last
    started = time.monotonic()
    print(f"images: {image.name} ...", flush=True)
    dockerfile = inputs.ROOT / image.dockerfile
    arguments = {"BASE_IMAGE": base_image, **image.arguments}
    stages: dict[str, str] = {}
    if image.code:
        deps = f"{names.repository(image.name)}-deps:{image.deps_key(base_image)}"
        if rebuild or not store.exists(deps):
            print(
                f"images: {image.name}: packages (about 1 min; {store.folder / 'build.log'})",
                flush=True,
            )
            store.build(
                dockerfile=dockerfile,
                context=inputs.ROOT,
                target="deps",
                tags=[deps],
                arguments=arguments,
                layers=True,
            )
            store.keep_only(deps)
        stages = {"deps": deps, "builder": builder(store, image, dockerfile, arguments)}
    store.build(
        dockerfile=dockerfile,
        context=inputs.ROOT,
        target=image.target,
        tags=[image.name],
        arguments=arguments,
        stages=stages,
    )
    digest = store.publish(image.name)
    built = Built(name=image.name, key=key, digest=digest, size=size(store, digest))
    state(store).save([built])
    seconds = time.monotonic() - started
    print(f"images: {image.name} built in {seconds:.1f} s, {built.size / 1e6:.0f} MB", flush=True)
    return built


def builder(store: Store, image: Image, dockerfile: Path, arguments: dict[str, str]) -> str:
    """The `builder` stage as an image of its own, so that a code change does not make it again."""
    text = inputs.dependency_part(dockerfile.read_text()).partition(" AS builder")
    stage = text[2].partition("\nFROM ")[0]
    key = inputs.digest(paths=["hack/images/site_packages.py"], texts=[arguments["BASE_IMAGE"], stage])
    name = f"{names.REGISTRY}/paddle-builder:{key}"
    if not store.exists(name):
        store.build(
            dockerfile=dockerfile,
            context=inputs.ROOT,
            target="builder",
            tags=[name],
            arguments=arguments,
            layers=True,
        )
        store.keep_only(name)
    return name


def build_all(store: Store, images: Iterable[Image], *, rebuild: bool = False) -> list[Built]:
    """Builds the given images one after the other on one base."""
    base_image = choose_base(store, rebuild=rebuild)
    built: list[Built] = []
    for image in images:
        try:
            built.append(build(store, image, base_image=base_image, rebuild=rebuild))
        except BuildError as error:
            raise BuildError(f"{image.name}: {error}") from None
    return built
