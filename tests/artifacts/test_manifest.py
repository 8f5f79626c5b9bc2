from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import ArtifactError, File, Manifest, PinnedSource, digest_of, parse_checksum, parse_uri
from artifacts._fields import Fields

HEX = "ab" * 32
FILES = st.lists(
    st.builds(
        File,
        key=st.text(max_size=8),
        path=st.text(st.characters(exclude_characters="\t\n"), min_size=1, max_size=12),
        size=st.integers(0, 2**50),
        etag=st.text(st.characters(exclude_characters="\t\n"), min_size=1, max_size=8),
        sha256=st.sampled_from(["", HEX, "cd" * 32]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda f: f.path,
)


def test_the_formula() -> None:
    files = [File("k/b", "b", 2, "e2", ""), File("k/a", "a", 1, "", HEX)]
    expected = hashlib.sha256(f"a\t1\t{HEX}\nb\t2\te2\n".encode()).hexdigest()
    assert digest_of(files) == f"etag:{expected}"
    assert digest_of([]) == ""


@given(FILES, st.randoms())
def test_order_and_keys_do_not_matter(files: list[File], random: object) -> None:
    moved = [replace(f, key="elsewhere/" + f.key) for f in files]
    getattr(random, "shuffle")(moved)  # noqa: B009
    assert digest_of(moved) == digest_of(files)


@given(FILES, st.integers(0, 5), st.sampled_from(["path", "size", "content"]))
def test_everything_else_does(files: list[File], index: int, what: str) -> None:
    chosen = index % len(files)
    file = files[chosen]
    changed = {
        "path": replace(file, path=file.path + "x" * 13),
        "size": replace(file, size=file.size + 1),
        "content": replace(file, sha256="ef" * 32) if file.sha256 else replace(file, etag=file.etag + "'"),
    }[what]
    assert digest_of([*files[:chosen], changed, *files[chosen + 1 :]]) != digest_of(files)


@given(FILES)
def test_the_prefix_says_what_it_rests_on(files: list[File]) -> None:
    kind = "sha256:" if all(f.sha256 for f in files) else "etag:"
    assert digest_of(files).startswith(kind)


def test_checksums() -> None:
    assert parse_checksum(f"sha256:{HEX}") == parse_checksum(HEX.upper()) == HEX
    assert parse_checksum("") == ""
    with pytest.raises(ArtifactError, match=r"spec\.checksum: 'sha256:xyz'"):
        parse_checksum("sha256:xyz")


def test_manifest_to_wire_and_back() -> None:
    source = parse_uri("minio://models/r", default_endpoint="http://h:1")
    manifest = Manifest.of(source, [File("r/b", "b", 2, "e"), File("r/a", "a", 1, "", HEX)])
    assert [f.path for f in manifest.files] == ["a", "b"]
    assert manifest.size == 3
    assert manifest.resolved
    wire = manifest.to_wire()
    assert PinnedSource.from_fields(Fields(wire, "source")) == manifest.pin()
    assert manifest.with_sha256("b", HEX).digest.startswith("sha256:")


def test_local_manifests_wait_for_a_pod() -> None:
    manifest = Manifest(parse_uri("pvc://c/k"), "none", (), "", 0)
    assert not manifest.resolved
    assert manifest.to_wire()["root"] == "/mnt/pvc/c/k"
    assert manifest.to_wire(root="/data")["root"] == "/data"


def _wire(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "scheme": "s3",
        "endpoint": "http://h:1",
        "bucket": "models",
        "files": [{"key": "a", "path": "a", "size": 1, "etag": "e"}],
    }
    return {**base, **changes}


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        (_wire(scheme="ftp"), "source.scheme"),
        (_wire(bucket=""), "source.bucket"),
        (_wire(endpoint=""), "source.endpoint"),
        (_wire(files=[]), "source.files"),
        (_wire(files={}), "source.files"),
        (_wire(files=["x"]), "source.files[0]"),
        (_wire(files=[{"key": "a", "path": "../a", "size": 1}]), "source.files[0].path"),
        (_wire(files=[{"key": "a", "path": ".artifact.json", "size": 1}]), "source.files[0].path"),
        (_wire(files=[{"key": "a", "path": "a", "size": -1}]), "source.files[0].size"),
        (_wire(files=[{"key": "a", "path": "a", "size": True}]), "source.files[0].size"),
        (_wire(files=[{"key": "a", "path": "a", "size": 1, "sha256": "x"}]), "source.files[0].sha256"),
        (_wire(files=[{"key": "a", "path": "a", "size": 1, "md5": "x"}]), "source.files[0].md5"),
        (_wire(files=[{"key": k, "path": "a", "size": 1} for k in "ab"]), "source.files"),
        (_wire(archive="tar", files=[{"key": k, "path": k, "size": 1} for k in "ab"]), "source.files"),
        (_wire(archive="zip"), "source.archive"),
        (_wire(pathStyle="yes"), "source.pathStyle"),
        ({"scheme": "file", "root": "relative"}, "source.root"),
    ],
)
def test_bad_wire_names_the_field(wire: dict[str, object], field: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        PinnedSource.from_fields(Fields(wire, "source"))
    assert caught.value.message.startswith(f"{field}: ")
