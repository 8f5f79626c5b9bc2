"""status.artifact and status.versions: what was found, pinned until the spec asks for another. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from api.v1alpha1 import PaddleModelSpec
from artifacts import Manifest

from ..conditions import timestamp
from ..options import Options
from ..reasons import Reason
from .source import Wanted

MAX_VERSIONS = 10
#: Files of one artefact that status can name and stay small (16 KiB); more belong in a tar.
MAX_FILES = 64
#: A version record keeps its file list up to this length, so that ten of them stay small.
MAX_RECORD_FILES = 8


def pinned(status: Mapping[str, object], wanted: Wanted) -> dict[str, object] | None:
    """The artefact in `status` when it answers `wanted` already."""
    artifact = status.get("artifact")
    if isinstance(artifact, Mapping) and artifact.get("sourceHash") == wanted.identity:
        return dict(artifact)
    return None


def found(manifest: Manifest, wanted: Wanted, *, generation: int, now: datetime) -> dict[str, object]:
    """status.artifact for what the store answered."""
    resolved = dict(manifest.to_wire())
    if manifest.source.scheme == "pvc":
        resolved["claim"] = manifest.source.bucket
    artifact: dict[str, object] = {
        "version": wanted.version,
        "source": str(manifest.source),
        "scheme": manifest.source.scheme,
        "sourceHash": wanted.identity,
        "resolvedGeneration": generation,
        "resolvedTime": timestamp(now),
        "resolved": {key: value for key, value in resolved.items() if value not in ("", None)},
    }
    if manifest.resolved:
        artifact |= {"digest": manifest.digest, "size": manifest.size, "files": len(manifest.files)}
    return artifact


def drifted(artifact: Mapping[str, object], manifest: Manifest) -> str:
    """What the store holds now, when it is not what is pinned; "" while they agree.

    ETags are compared beside the digest: a checksum that the user demands is part of the digest whatever the
    store holds.
    """
    resolved = artifact.get("resolved")
    files = resolved.get("files") if isinstance(resolved, Mapping) else None
    held = {(file.path, file.size, file.etag) for file in manifest.files}
    known = {
        (str(item.get("path")), item.get("size"), str(item.get("etag") or ""))
        for item in (files if isinstance(files, Sequence) else ())
        if isinstance(item, Mapping)
    }
    if manifest.digest == artifact.get("digest") and held == known:
        return ""
    return manifest.digest or "other files"


def too_many(manifest: Manifest) -> str:
    """Why the manifest cannot be pinned, or ""."""
    if len(manifest.files) <= MAX_FILES:
        return ""
    return (
        f"{manifest.source} has {len(manifest.files)} files, more than {MAX_FILES}: "
        "name a folder that holds only the model, or pack it as a tar"
    )


def remembered(versions: object, artifact: Mapping[str, object]) -> list[dict[str, object]]:
    """The last ten resolved versions, newest first, with `artifact` among them."""
    resolved = artifact.get("resolved")
    files = resolved.get("files") if isinstance(resolved, Mapping) else None
    record = {
        key: artifact[key] for key in ("version", "digest", "source", "resolvedTime") if key in artifact
    }
    if isinstance(files, Sequence) and len(files) <= MAX_RECORD_FILES:
        record["resolved"] = resolved
    before = [dict(item) for item in versions] if isinstance(versions, Sequence) else []
    if before and _same(before[0], record):
        return before
    return [record, *(item for item in before if not _same(item, record))][:MAX_VERSIONS]


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("version", "digest", "source"))


def incompatible(
    spec: PaddleModelSpec, artifact: Mapping[str, object] | None, options: Options
) -> tuple[Reason, str] | None:
    """Why the runtime can never serve this model, or None. Checked before there is a pod."""
    serving = spec.serving
    own_image = serving.runtime.image if serving.runtime else None
    declared = spec.compatibility
    version = Version(options.runtime_version)
    if declared and declared.runtime and not own_image and version not in SpecifierSet(declared.runtime):
        return Reason.Incompatible, (
            f'spec.compatibility.runtime "{declared.runtime}" excludes the runtime\'s Paddle {version}: '
            "set serving.runtime.image to an image with a version in that range"
        )
    if declared and declared.hardware:
        needed = "gpu" if serving.gpu else "cpu"
        allowed = [str(item) for item in declared.hardware]
        if needed not in allowed:
            remedy = "set serving.gpu" if needed == "cpu" else "remove serving.gpu"
            return Reason.Incompatible, (
                f"spec.compatibility.hardware is {allowed}, but the pods would run on {needed}: {remedy}"
            )
    if version.major < 3 and not own_image and _has_pir(artifact):
        return Reason.Incompatible, (
            f"the model is a PIR program (.json), which the runtime's Paddle {version} cannot read: "
            "export it as .pdmodel or set serving.runtime.image to one with Paddle 3"
        )
    return None


def _has_pir(artifact: Mapping[str, object] | None) -> bool:
    resolved = artifact.get("resolved") if artifact else None
    files = resolved.get("files") if isinstance(resolved, Mapping) else None
    paths = [str(item.get("path", "")) for item in files if isinstance(item, Mapping)] if files else []
    return any(path.endswith(".json") for path in paths) and not any(
        path.endswith(".pdmodel") for path in paths
    )
