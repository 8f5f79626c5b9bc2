"""The document at /openapi.json is true, and nothing that it allows or forbids breaks the server."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi import checks

from tests.runtime.conftest import Running

# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "4"))
# The document cannot say which shapes a model takes, so what fits it may still be refused (400), and fields
# that nobody knows are passed over, as the protocol wants: neither is held against the server.
EXCLUDED = [
    checks.positive_data_acceptance,
    checks.negative_data_rejection,
    checks.missing_required_header,
]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_answers_are_as_described(mode: schemathesis.GenerationMode, server: Running) -> None:
    """What fits the document, and what does not, to every operation."""
    schema = schemathesis.openapi.from_url("http://{}:{}/openapi.json".format(*server.http))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 16
    if mode is schemathesis.GenerationMode.NEGATIVE:  # what takes nothing can be given nothing wrong
        operations = [op for op in operations if len(op.body) or len(op.path_parameters) or len(op.headers)]
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
        def answers(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=EXCLUDED, timeout=60)

        answers()
    assert server.get("/healthz").status == 200
    assert not server.events("worker died")
    assert not server.events("request handler failed")


def test_the_examples_work(server: Running) -> None:
    document = server.get("/openapi.json").json
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]  # type: ignore[index]
    assert set(body["examples"]) == {"lin", "two"}
    for example in body["examples"].values():
        assert server.post("/predict", example["value"]).status == 200


def test_the_checks_that_count_are_run() -> None:
    names = {check.__name__ for check in CHECKS.get_all()} - {check.__name__ for check in EXCLUDED}
    assert {
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "unsupported_method",
    } <= names
