"""The CRDs as files: complete, described, bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.generate.reference import rules

from .objects import KINDS, Tree, crd, schema
from .refusals import MODELS_REFUSED, SERVICES_REFUSED, SERVING_REFUSED

PLURALS = sorted(KINDS.values())


def nodes(node: Tree, path: str = "") -> Iterator[tuple[str, Tree]]:
    """Every schema below `node` with its path, the root and the constants apart."""
    for name, child in node.get("properties", {}).items():
        if path or name in ("spec", "status"):
            below = f"{path}.{name}" if path else name
            yield below, child
            yield from nodes(child, below)
    for key in ("items", "additionalProperties"):
        if key in node:
            yield f"{path}[]", node[key]
            yield from nodes(node[key], f"{path}[]")


@pytest.mark.parametrize("plural", PLURALS)
def test_every_field_has_a_description(plural: str) -> None:
    missing = [path for path, node in nodes(schema(plural)) if not node.get("description", "").strip()]
    assert missing == []


@pytest.mark.parametrize("plural", PLURALS)
def test_every_description_is_a_sentence(plural: str) -> None:
    wrong = [path for path, node in nodes(schema(plural)) if node["description"][-1] != "."]
    assert wrong == []


@pytest.mark.parametrize("plural", PLURALS)
def test_every_string_list_and_map_is_bounded(plural: str) -> None:
    def unbounded(node: Tree) -> bool:
        if "enum" in node or node.get("format") == "date-time":
            return False
        limit = {"string": "maxLength", "array": "maxItems"}.get(node.get("type", ""))
        if node.get("type") == "object" and "additionalProperties" in node:
            limit = "maxProperties"
        if node.get("x-kubernetes-int-or-string"):
            limit = "maxLength"
        return limit is not None and limit not in node

    assert [path for path, node in nodes(schema(plural)) if unbounded(node)] == []


@pytest.mark.parametrize("plural", PLURALS)
def test_every_list_says_how_it_is_merged(plural: str) -> None:
    lists = {path: node for path, node in nodes(schema(plural)) if node.get("type") == "array"}
    assert [path for path, node in lists.items() if "x-kubernetes-list-type" not in node] == []
    for path, node in lists.items():
        if node["x-kubernetes-list-type"] == "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"]), path


@pytest.mark.parametrize("plural", PLURALS)
def test_every_rule_is_watched_on_the_api_server(plural: str) -> None:
    watched = [str(case[-1]) for case in (*MODELS_REFUSED, *SERVING_REFUSED, *SERVICES_REFUSED)]
    apart = ("new content needs a new version: ",)  # has tests of its own
    unwatched = [
        (path, message)
        for path, message in rules(schema(plural))
        if not message.startswith(apart) and not any(message[:40] in words for words in watched)
    ]
    assert unwatched == []


@pytest.mark.parametrize("plural", PLURALS)
def test_what_is_not_supported_yet_has_no_defaults(plural: str) -> None:
    refused = [
        (path, node)
        for path, node in nodes(schema(plural))
        if any(rule["rule"] == "false" for rule in node.get("x-kubernetes-validations", []))
    ]
    assert len(refused) >= 2
    for path, node in refused:
        assert "not supported yet" in node["description"].lower(), path
        assert [below for below, child in nodes(node, path) if "default" in child] == []
        assert "default" not in node
        # A missing field would be told before the rule that refuses the block.
        assert "required" not in node, path


def test_serving_of_a_model_is_the_spec_of_a_service_without_its_models() -> None:
    serving = schema("paddlemodels")["properties"]["spec"]["properties"]["serving"]["properties"]
    spec = schema("paddleservices")["properties"]["spec"]["properties"]
    assert {name: spec[name] for name in spec if name != "models"} == {
        name: serving[name] for name in serving if name in spec
    }
    assert set(serving) - set(spec) == {"enabled", "priority", "latencySLAMilliseconds", "batching"}
    item = spec["models"]["items"]["properties"]
    for name in ("priority", "latencySLAMilliseconds", "batching"):
        assert serving[name] == item[name]


@pytest.mark.parametrize(("plural", "short"), [("paddlemodels", "pm"), ("paddleservices", "psvc")])
def test_names(plural: str, short: str) -> None:
    names = crd(plural)["spec"]["names"]
    assert names["shortNames"] == [short]
    assert names["categories"] == ["paddle"]


def test_replicas_has_no_default_because_an_autoscaler_may_own_it() -> None:
    assert "default" not in schema("paddleservices")["properties"]["spec"]["properties"]["replicas"]
