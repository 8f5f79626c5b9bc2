"""Composing CRDs from named schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.generate.compose import ComposeError, compose, descriptions, to_yaml, version_schema


def crd(schema: dict[str, Any], plural: str = "things") -> dict[str, Any]:
    return {
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": "example.org",
            "names": {"plural": plural, "singular": plural[:-1], "kind": "Thing"},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}],
        },
    }


def composed(folder: Path, schema: dict[str, Any], **files: dict[str, Any]) -> dict[str, Any]:
    """The schema of the only CRD of `folder` after writing it and `files` (by name without suffix)."""
    for name, content in {"crd": crd(schema), **files}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return version_schema(compose(folder)["things"])


def test_a_reference_becomes_the_schema(tmp_path: Path) -> None:
    shared = {"Name": {"type": "string", "maxLength": 9, "description": "Shared."}}
    schema = composed(tmp_path, {"properties": {"a": {"$ref": "shared.yaml#Name"}}}, shared=shared)
    assert schema["properties"] == {"a": shared["Name"]}


def test_what_stands_beside_a_reference_wins_and_rules_add_up(tmp_path: Path) -> None:
    shared = {"Name": {"description": "Shared.", "x-kubernetes-validations": [{"rule": "one"}]}}
    use = {
        "$ref": "shared.yaml#Name",
        "description": "Own.",
        "default": "x",
        "x-kubernetes-validations": [{"rule": "two"}],
    }
    schema = composed(tmp_path, {"properties": {"a": use}}, shared=shared)
    assert schema["properties"]["a"] == {
        "description": "Own.",
        "default": "x",
        "x-kubernetes-validations": [{"rule": "one"}, {"rule": "two"}],
    }


def test_merging_joins_fields_required_names_and_rules(tmp_path: Path) -> None:
    shared = {
        "A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        "B": {
            "type": "object",
            "properties": {"b": {"$ref": "shared.yaml#Text"}},
            "required": ["b"],
            "x-kubernetes-validations": [{"rule": "of b"}],
        },
        "Text": {"type": "string"},
    }
    whole = {
        "title": "Whole",
        "$merge": ["shared.yaml#A", "shared.yaml#B"],
        "properties": {"own": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "own"}],
    }
    schema = composed(tmp_path, {"properties": {"w": whole}}, shared=shared)
    assert schema["properties"]["w"] == {
        "title": "Whole",
        "type": "object",
        "properties": {"own": {"type": "string"}, "a": {"type": "string"}, "b": {"type": "string"}},
        "required": ["a", "b"],
        "x-kubernetes-validations": [{"rule": "of b"}, {"rule": "own"}],
    }


def test_one_use_does_not_change_another(tmp_path: Path) -> None:
    shared = {"Inner": {"properties": {"x": {"type": "string"}}}}
    schema = composed(
        tmp_path,
        {"properties": {"a": {"$ref": "shared.yaml#Inner"}, "b": {"$ref": "shared.yaml#Inner"}}},
        shared=shared,
    )
    schema["properties"]["a"]["properties"]["x"]["type"] = "integer"
    assert schema["properties"]["b"]["properties"]["x"]["type"] == "string"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "shared.yaml#Nothing"}, "define Nothing in config/crd/src/shared.yaml"),
        ({"$ref": "nowhere.yaml#A"}, "define A in config/crd/src/nowhere.yaml"),
        ({"$ref": "A"}, "must be <file>#<Name>"),
        ({"$merge": "shared.yaml#A"}, r"\$merge must be a list"),
        ({"$merge": ["shared.yaml#A", "shared.yaml#A"]}, "properties given twice: a"),
        ({"$ref": "shared.yaml#Loop"}, "shared.yaml#Loop contains itself"),
    ],
)
def test_wrong_markers_are_named(tmp_path: Path, schema: dict[str, Any], message: str) -> None:
    shared = {
        "A": {"properties": {"a": {"type": "string"}}},
        "Loop": {"properties": {"again": {"$ref": "shared.yaml#Loop"}}},
    }
    with pytest.raises(ComposeError, match=message):
        composed(tmp_path, {"properties": {"x": schema}}, shared=shared)


def test_a_folder_without_crds_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("A: {type: string}\n")
    with pytest.raises(ComposeError, match="no CustomResourceDefinition"):
        compose(tmp_path)


def test_a_file_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ComposeError, match=r"list\.yaml: expected a mapping"):
        compose(tmp_path)


def test_the_type_keeps_its_description_whatever_its_uses_say(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("A: {title: Alpha, description: Of the type.}\nB: {type: string}\n")
    assert descriptions(tmp_path) == {"Alpha": "Of the type."}


def test_yaml_has_no_anchors_and_reads_back_the_same() -> None:
    shared = {"description": "A text that is long enough to be folded by a writer with a narrow page. " * 3}
    manifest: dict[str, Any] = {"b": shared, "a": shared}
    text = to_yaml(manifest)
    assert "&" not in text
    assert "Do not edit" in text.splitlines()[0]
    assert yaml.safe_load(text) == manifest
    assert text.index("b:") < text.index("a:")
