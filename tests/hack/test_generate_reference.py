"""The reference pages."""

from __future__ import annotations

from typing import Any

import pytest

from hack.generate.compose import ComposeError
from hack.generate.reference import generate_reference, rules, walk

from .test_generate_compose import crd

SPEC: dict[str, Any] = {
    "type": "object",
    "description": "What is wanted.",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 9, "pattern": "^a|b$", "description": "A | <B>."},
        "count": {"type": "integer", "minimum": 1, "default": 2, "description": "How many."},
        "mode": {"type": "string", "enum": ["x", "y"], "description": "Mode."},
        "when": {"type": "string", "format": "date-time", "description": "When."},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "description": "Free."},
        "size": {"x-kubernetes-int-or-string": True, "title": "Quantity", "description": "Size."},
        "surge": {"x-kubernetes-int-or-string": True, "description": "Surge."},
        "labels": {
            "type": "object",
            "maxProperties": 3,
            "description": "Labels.",
            "additionalProperties": {"type": "string", "maxLength": 5},
        },
        "items": {
            "type": "array",
            "maxItems": 4,
            "description": "Items.",
            "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string", "description": "Identity."}},
                "x-kubernetes-validations": [{"rule": "r", "message": "an item is wrong"}],
            },
        },
    },
    "x-kubernetes-validations": [{"rule": "r", "message": "the spec is wrong: use `b`"}],
}
STATUS = {"type": "object", "description": "What is.", "properties": {}}


def page() -> str:
    document = crd(
        {
            "type": "object",
            "description": "A thing.",
            "properties": {"spec": SPEC, "status": STATUS},
            "x-kubernetes-validations": [{"rule": "r", "message": "the name is wrong"}],
        }
    )
    document["spec"]["scope"] = "Namespaced"
    document["spec"]["names"] |= {"shortNames": ["th"], "categories": ["all"]}
    document["spec"]["versions"][0] |= {
        "subresources": {"status": {}, "scale": {}},
        "additionalPrinterColumns": [
            {"name": "Mode", "jsonPath": ".spec.mode", "description": "Its mode."},
            {"name": "When", "jsonPath": ".spec.when", "priority": 1, "description": "Its time."},
        ],
    }
    return generate_reference({"things": document})["thing.md"]


@pytest.mark.parametrize(
    "row",
    [
        "| `spec.name` (required) | string |  | at most 9 characters, matches `^a\\|b$` | A \\| &lt;B>. |",
        "| `spec.count` | integer | `2` | at least 1 | How many. |",
        "| `spec.mode` | one of `x`, `y` |  |  | Mode. |",
        "| `spec.when` | time (RFC 3339) |  |  | When. |",
        "| `spec.free` | any object |  |  | Free. |",
        "| `spec.size` | quantity |  |  | Size. |",
        "| `spec.surge` | integer or string |  |  | Surge. |",
        "| `spec.labels` | map of string |  | at most 3 entries, each value at most 5 characters | Labels. |",
        "| `spec.items` | list of object, by `id` |  | at most 4 items | Items. |",
        "| `spec.items[].id` (required) | string |  |  | Identity. |",
        "| MODE | always | `.spec.mode` | Its mode. |",
        "| WHEN | with `-o wide` | `.spec.when` | Its time. |",
        "| `the object` | the name is wrong |",
        "| `spec` | the spec is wrong: use `b` |",
        "| `spec.items[]` | an item is wrong |",
    ],
)
def test_the_page_has_the_row(row: str) -> None:
    assert row in page().splitlines()


def test_the_head_tells_how_to_name_it() -> None:
    text = page()
    assert "`apiVersion: example.org/v1`, `kind: Thing`, namespaced." in text
    assert "Short name `th`, category `all`, subresources `/status`, `/scale`." in text


def test_every_row_of_a_table_has_as_many_cells() -> None:
    rows = [line.replace("\\|", "") for line in page().splitlines() if line.startswith("|")]
    widths = {row.count("|") for row in rows}
    assert widths == {3, 5, 6}


def test_walk_yields_parents_before_children_and_once() -> None:
    paths = [field.path for field in walk(SPEC, "spec")]
    assert paths[0] == "spec"
    assert paths.index("spec.items") < paths.index("spec.items[].id")
    assert len(paths) == len(set(paths))


def test_rules_are_found_at_every_depth() -> None:
    assert list(rules(SPEC, "spec")) == [
        ("spec", "the spec is wrong: use `b`"),
        ("spec.items[]", "an item is wrong"),
    ]


def test_a_field_without_type_is_an_error() -> None:
    document = crd(
        {"description": "A thing.", "properties": {"spec": {"properties": {"a": {}}}, "status": STATUS}}
    )
    document["spec"]["scope"] = "Namespaced"
    document["spec"]["names"] |= {"shortNames": [], "categories": []}
    document["spec"]["versions"][0] |= {"subresources": {}, "additionalPrinterColumns": []}
    document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"] = "x"
    with pytest.raises(ComposeError, match="need a type"):
        generate_reference({"things": document})
