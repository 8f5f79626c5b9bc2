"""Turning schemas into pydantic types."""

from __future__ import annotations

from typing import Any

import pytest

from hack.generate.compose import ComposeError
from hack.generate.models import generate_models

from .test_generate_compose import crd

TEXT = {"type": "string", "description": "A text.", "maxLength": 9, "pattern": "^a"}


def kind(name: str, **fields: Any) -> dict[str, Any]:
    spec = {"title": f"{name}Spec", "type": "object", "description": "What is wanted.", "properties": fields}
    document = crd(
        {
            "title": name,
            "type": "object",
            "description": "A kind.",
            "required": ["spec"],
            "properties": {"spec": spec},
        },
        plural=f"{name.lower()}s",
    )
    document["spec"]["names"]["kind"] = name
    return document


def titled(title: str = "Inner", **more: Any) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": {"x": TEXT}, **more}


def generated(*kinds: dict[str, Any], descriptions: dict[str, str] | None = None) -> dict[str, str]:
    return generate_models({k["spec"]["names"]["plural"]: k for k in kinds}, descriptions or {})


def test_a_title_of_two_kinds_is_a_class_of_common_and_of_one_kind_is_its_own() -> None:
    sources = generated(
        kind("Apple", shared=titled(description="In an apple."), own=titled("Own")),
        kind("Pear", shared=titled(description="In a pear.")),
        descriptions={"Inner": "The type itself."},
    )
    assert sorted(sources) == ["apple.py", "common.py", "pear.py"]
    assert sources["common.py"].count("class Inner(") == 1
    assert '"""The type itself."""' in sources["common.py"]
    assert "class Own(" in sources["apple.py"]
    assert '"""In a pear."""' in sources["pear.py"]
    assert "class Inner(" not in sources["apple.py"] + sources["pear.py"]


def test_one_title_for_two_shapes_is_an_error() -> None:
    other = titled()
    other["properties"] = {"y": TEXT}
    with pytest.raises(ComposeError, match=r"Apple\.spec\.b: title Inner is used for two different schemas"):
        generated(kind("Apple", a=titled(), b=other))


def test_an_object_without_title_is_an_error() -> None:
    nameless = {"type": "object", "properties": {"x": TEXT}}
    with pytest.raises(ComposeError, match=r"Apple\.spec\.a: give it a title"):
        generated(kind("Apple", a=nameless))


def test_limits_stay_in_the_crd() -> None:
    source = generated(kind("Apple", text=TEXT))["apple.py"]
    assert "text: str | None = None" in source
    assert "max_length" not in source
    assert "pattern" not in source


def test_types_that_have_no_class() -> None:
    number_or_text = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    sources = generated(
        kind(
            "Apple",
            size={**number_or_text, "title": "Quantity", "pattern": "^1"},
            free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            choice={"type": "string", "enum": ["A", "B"], "default": "A"},
            sizes={"type": "object", "additionalProperties": {**number_or_text, "title": "Quantity"}},
        )
    )
    assert 'JSONObject = TypeAliasType("JSONObject", dict[str, Any])' in sources["common.py"]
    assert 'Quantity = TypeAliasType("Quantity", int | str)' in "".join(sources.values())
    assert "free: JSONObject | None = None" in sources["apple.py"]
    assert 'choice: Literal["A", "B"] = "A"' in sources["apple.py"]
    assert "sizes: dict[str, Quantity] | None = None" in sources["apple.py"]


def test_the_same_input_gives_the_same_text() -> None:
    kinds = [kind("Apple", a=titled()), kind("Pear", a=titled())]
    assert generated(*kinds) == generated(*kinds)
