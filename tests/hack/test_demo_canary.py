"""The demo's canary: what it asks for is what the API server and the runtime understand."""

from collections.abc import Mapping

import pytest

from api.v1alpha1.paddlemodel import PaddleModelSpec
from hack.demo import canary
from runtime.faults import Fault, parse


def field(value: object, *path: str) -> object:
    for name in path:
        assert isinstance(value, Mapping)
        value = value[name]
    return value


def test_a_good_version_is_asked_for_without_faults_and_a_slow_one_with() -> None:
    good = canary.change("v1.1.0", "ocr/a/", demo="d")
    slow = canary.change("v1.2.0", "ocr/b/", demo="d", faults=canary.SLOW)
    demo, faults = {"name": "DEMO", "value": "d"}, {"name": "PADDLE_FAULTS", "value": canary.SLOW}
    assert field(good, "spec", "serving", "pod", "env") == [demo]
    assert field(slow, "spec", "serving", "pod", "env") == [demo, faults]
    assert field(slow, "spec", "storage", "key") == "ocr/b/"
    assert parse(canary.SLOW) == Fault(latency=1.2)
    assert parse(canary.SLOW).latency * 1000 > canary.SLA


def test_the_strategy_is_one_that_the_types_know() -> None:
    spec = {"framework": "paddle", "version": "v1.1.0", "modelPath": "s3://bucket/model"}
    serving = field(canary.change("v1.1.0", "k", demo="d"), "spec", "serving")
    assert isinstance(serving, Mapping)
    wire = PaddleModelSpec.model_validate({**spec, "serving": serving})
    parsed = wire.model_dump(by_alias=True, exclude_none=True)
    strategy = field(parsed, "serving", "updateStrategy")
    assert field(strategy, "type") == "Canary"
    assert field(strategy, "canary", "stableForSeconds") == 5


def test_the_view_stands_two_columns_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    out = canary._Indented()
    out.write("12:00:00 Analysing\n")
    out.flush()
    assert capsys.readouterr().out == "    12:00:00 Analysing\n"
