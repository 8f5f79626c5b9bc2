"""The CRD on a real API server: what it takes, fills in and refuses."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

import controller_runtime as ctrl
from api.v1alpha1 import CanaryAnalysis, wire
from controllers.kinds import CANARY_ANALYSIS
from tests.api.objects import schema
from tests.api.strategies import objects
from tests.api.test_schema import nodes

from .objects import Tree, analysis

if TYPE_CHECKING:
    from controller_runtime.testing import Envtest

REFUSED: tuple[tuple[Tree, str], ...] = (
    ({"run": 0}, "spec.run"),
    ({"step": -1}, "spec.step"),
    ({"weight": 0}, "spec.weight"),
    ({"weight": 101}, "spec.weight"),
    ({"interval": 4}, "spec.interval"),
    ({"models": []}, "spec.models"),
    ({"windowStart": "now"}, "spec.windowStart"),
    ({"baseline": None}, "spec.baseline"),
    ({"candidate": "cccccccc"}, "metadata.name must be <service>-<candidate>-<run>-<step>-<attempt>"),
)


def test_every_field_is_described_and_bounded() -> None:
    for path, node in nodes(schema("canaryanalyses")):
        assert node.get("description", "").endswith("."), path
        free = "enum" in node or node.get("format") == "date-time"
        limit = {"string": "maxLength", "array": "maxItems"}.get(node.get("type", ""))
        assert free or limit is None or limit in node, path
        if node.get("type") == "array":
            assert "x-kubernetes-list-type" in node, path


@settings(max_examples=40, deadline=None)
@given(
    document=objects(
        {
            **schema("canaryanalyses"),
            "properties": {
                name: schema("canaryanalyses")["properties"][name] for name in ("metadata", "spec", "status")
            },
        }
    )
)
def test_types_survive_a_round_trip(document: Tree) -> None:
    once = wire(CanaryAnalysis.model_validate(document))
    assert wire(CanaryAnalysis.model_validate(once)) == once


@pytest.mark.apiserver
async def test_what_the_server_takes_and_refuses(apiserver: Envtest, namespace: str) -> None:
    async with apiserver.client() as client:
        path = CANARY_ANALYSIS.path(namespace)
        for fields, words in REFUSED:
            with pytest.raises(ctrl.Invalid, match=words):
                await client.request("POST", path, body=analysis() | {"spec": analysis(**fields)["spec"]})
        made = await client.create(ctrl.Object(_in(namespace, analysis()), CANARY_ANALYSIS))
        assert (made.spec["interval"], made.spec["requiredPasses"], made.spec["prometheus"]) == (
            60,
            3,
            "default",
        )

        changed = copy.deepcopy(made.raw)
        changed["spec"]["weight"] = 50
        with pytest.raises(ctrl.Invalid, match="never changes"):
            await client.update(ctrl.Object(changed, CANARY_ANALYSIS))


def _in(namespace: str, document: Tree) -> Tree:
    return document | {"metadata": document["metadata"] | {"namespace": namespace}}
