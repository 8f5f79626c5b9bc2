"""Everything that is generated: which files, from what, and whether they are current."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.generate.compose import Schema, compose, descriptions, mapping_at, plural, to_yaml
from hack.generate.models import generate_models
from hack.generate.rbac import Rule, generate_rbac
from hack.generate.reference import generate_reference
from hack.generate.stubs import generate_stubs

# Folders whose files are all generated: one that nothing generates any more is stale.
_OWNED = ("config/rbac", "docs/reference", "runtime/grpc/stubs")
_OWNED_SUFFIXES = frozenset({".yaml", ".md", ".py", ".pyi"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is not what the sources say."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; run make generate"


def outputs(root: Path, rules: Iterable[Rule]) -> dict[Path, str]:
    """Return ``{path relative to root: content}`` of all generated files: from config/crd/src, .proto files
    and `rules`.
    """
    source = root / "config/crd/src"
    crds = compose(source)
    found = {Path("config/crd") / f"{name}.yaml": to_yaml(crd) for name, crd in crds.items()}
    for name, text in generate_models(crds, descriptions(source)).items():
        found[Path("api/v1alpha1") / name] = text
    for name, text in generate_reference(crds).items():
        found[Path("docs/reference") / name] = text
    scalable = [plural(crd) for crd in crds.values() if _scalable(crd)]
    for name, text in generate_rbac(rules, plurals=list(crds), scalable=scalable).items():
        found[Path("config/rbac") / name] = text
    return found | generate_stubs(root)


def differences(root: Path, wanted: Mapping[Path, str]) -> Iterator[Difference]:
    """Yield the files under `root` that are missing, different or stale."""
    for path, text in sorted(wanted.items()):
        file = root / path
        if not file.exists():
            yield Difference(path, "does not exist")
        elif file.read_text(encoding="utf-8") != text:
            yield Difference(path, "differs from what its sources give")
    yield from (Difference(path, "nothing generates it any more") for path in stale(root, wanted))


def write(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Write what differs, remove what is stale, and return those paths."""
    changed = [difference.path for difference in differences(root, wanted)]
    for path in changed:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path], encoding="utf-8")
        else:
            (root / path).unlink()
    return changed


def stale(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Return the files in folders of generated files that are not in `wanted`."""
    files = (
        file for folder in _OWNED for file in (root / folder).rglob("*") if file.suffix in _OWNED_SUFFIXES
    )
    return sorted(path for path in (file.relative_to(root) for file in files) if path not in wanted)


def _scalable(crd: Schema) -> bool:
    versions = mapping_at(crd, "spec")["versions"]
    assert isinstance(versions, list)
    return any(isinstance(v, dict) and "scale" in mapping_at(v, "subresources") for v in versions)
