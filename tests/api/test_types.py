"""The generated types: names, defaults, and that nothing is lost between the wire and Python."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from pydantic import BaseModel, ValidationError

import api.v1alpha1 as v1alpha1
from api.v1alpha1 import (
    API_VERSION,
    PaddleModel,
    PaddleModelSpec,
    PaddleService,
    common,
    paddlemodel,
    paddleservice,
    wire,
)

from .objects import SHA, Tree, model, schema, service
from .strategies import objects


def _wire_schema(plural: str) -> Tree:
    """The schema without apiVersion and kind, which are constants."""
    root = schema(plural)
    properties = {name: root["properties"][name] for name in ("metadata", "spec", "status")}
    return {**root, "properties": properties}


def lost(before: object, after: object, path: str = "") -> list[str]:
    """What `after` no longer says of `before`, by path. More than `before` is allowed: defaults."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            found
            for key, value in before.items()
            for found in ([f"{path}.{key}"] if key not in after else lost(value, after[key], f"{path}.{key}"))
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            found
            for at, pair in enumerate(zip(before, after, strict=True))
            for found in lost(*pair, f"{path}[{at}]")
        ]
    return [] if before == after and isinstance(before, bool) == isinstance(after, bool) else [path]


@settings(max_examples=60, deadline=None)
@given(document=objects(_wire_schema("paddlemodels")))
def test_a_model_survives_the_round_trip_with_unknown_fields(document: Tree) -> None:
    assert lost(document, wire(PaddleModel.model_validate(document))) == []


@settings(max_examples=60, deadline=None)
@given(document=objects(_wire_schema("paddleservices")))
def test_a_service_survives_the_round_trip_with_unknown_fields(document: Tree) -> None:
    assert lost(document, wire(PaddleService.model_validate(document))) == []


def test_a_second_round_trip_changes_nothing() -> None:
    once = wire(PaddleModel.model_validate(model(serving={"replicas": 2, "x-new": {"a": [1]}})))
    assert wire(PaddleModel.model_validate(once)) == once


def test_attributes_are_snake_case_and_the_wire_is_camel_case() -> None:
    by_attribute = PaddleModelSpec(framework="paddle", version="v1.0.0", model_path="s3://b/k", checksum=SHA)
    by_alias = PaddleModelSpec.model_validate(
        {"framework": "paddle", "version": "v1.0.0", "modelPath": "s3://b/k", "checksum": SHA}
    )
    assert by_attribute == by_alias
    assert by_alias.model_path == "s3://b/k"
    assert wire(by_attribute)["modelPath"] == "s3://b/k"
    assert "model_path" not in wire(by_attribute)


def test_acronyms_become_readable_attributes() -> None:
    spec = PaddleModelSpec.model_validate({**model()["spec"], "serving": {"latencySLAMilliseconds": 200}})
    assert spec.serving.latency_sla_milliseconds == 200


def test_defaults_are_those_of_the_schema() -> None:
    typed = PaddleModel.model_validate(model())
    assert typed.api_version == API_VERSION
    assert typed.spec.serving.enabled
    assert typed.spec.serving.replicas is None
    assert typed.spec.serving.progress_deadline_seconds == 600
    assert typed.spec.serving.revision_history_limit == 10
    assert typed.spec.serving.update_strategy.type == "RollingUpdate"
    assert typed.spec.serving.update_strategy.rolling_update is None
    assert typed.spec.serving.traffic is None


def test_defaults_of_two_objects_are_not_shared() -> None:
    first, second = (PaddleModel.model_validate(model()) for _ in range(2))
    first.spec.serving.update_strategy.type = "Recreate"
    assert second.spec.serving.update_strategy.type == "RollingUpdate"


def test_limits_are_left_to_the_api_server() -> None:
    """An object stored before a limit was tightened is still read."""
    assert PaddleModelSpec(framework="paddle", version="an old version").version == "an old version"


def test_wrong_types_are_refused_with_the_name_of_the_field() -> None:
    with pytest.raises(ValidationError, match=r"serving\.replicas"):
        PaddleModel.model_validate(model(serving={"replicas": "many"}))


def test_shared_shapes_are_one_class() -> None:
    typed = PaddleService.model_validate(
        service(gpu={"count": 2}, resources={"limits": {"cpu": 2, "memory": "1Gi"}})
    )
    assert isinstance(
        typed.spec.gpu, type(PaddleModel.model_validate(model(serving={"gpu": {}})).spec.serving.gpu)
    )
    assert typed.spec.resources is not None
    assert typed.spec.resources.limits == {"cpu": 2, "memory": "1Gi"}


def test_no_class_has_a_numbered_name() -> None:
    classes = [name for name in v1alpha1.__all__ if isinstance(getattr(v1alpha1, name), type)]
    assert {"PaddleModel", "PaddleModelStatus", "PaddleServiceSpec", "UpdateStrategy"} <= set(classes)
    assert [name for name in classes if name[-1].isdigit()] == []


def test_every_class_is_exported_once_and_says_what_it_is() -> None:
    modules = (common, paddlemodel, paddleservice)
    names = [name for module in modules for name in module.__all__]
    assert len(names) == len(set(names))
    for name in names:
        exported = getattr(v1alpha1, name)
        if isinstance(exported, type) and issubclass(exported, BaseModel):
            assert exported.__doc__, name


def test_importing_the_types_needs_nothing_else_of_ours() -> None:
    rooms = {"artifacts", "controllers", "controller_runtime", "hack", "kubernetes_asyncio", "runtime"}
    code = f"import sys, api.v1alpha1; print({{m.split('.')[0] for m in sys.modules}} & {rooms})"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "set()"
