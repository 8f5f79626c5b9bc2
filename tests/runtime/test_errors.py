"""One table of codes for all protocols, and everything that is raised is in it."""

from __future__ import annotations

import ast
from pathlib import Path

import grpc
import pytest

from runtime.errors import STATUS_CODES, Code, RequestError

ROOT = Path(__file__).resolve().parents[2]
GRPC = {status.value[0]: status for status in grpc.StatusCode}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_status_of_each_protocol(code: Code) -> None:
    assert code.grpc in GRPC
    assert (code.http == 200) == (GRPC[code.grpc] is grpc.StatusCode.OK)
    assert Code.of(code.http) is code


def test_a_fault_of_ours_is_a_fault_of_ours_in_both() -> None:
    ours = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    for code in Code:
        if code.http >= 500 and code is not Code.UNSUPPORTED:
            assert GRPC[code.grpc] in ours


def test_codes_that_are_raised_are_in_the_table() -> None:
    """RequestError(<number>) anywhere in the package; each is also in the metrics from the start, but for
    those that no request for a model can end with.
    """
    raised: set[int] = set()
    for file in (ROOT / "runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RequestError" and node.args:
                status = node.args[0]
                if isinstance(status, ast.Constant) and isinstance(status.value, int):
                    raised.add(status.value)
    assert {400, 404, 429, 499, 500, 503, 504} <= raised
    assert raised <= {code.http for code in Code}
    assert {200, 499} | raised - {403, 501} <= set(STATUS_CODES)


def test_an_unknown_status_is_an_internal_error() -> None:
    assert RequestError(418, "teapot").code is Code.INTERNAL
    assert RequestError(429, "full", retry_after=3).code is Code.OVERLOADED


def test_the_documented_table_is_this_one() -> None:
    text = (ROOT / "docs/runtime.md").read_text(encoding="utf-8")
    table = text.partition("<!-- codes:begin -->")[2].partition("<!-- codes:end -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.strip().splitlines()[2:]]
    assert rows == [[str(code.http), f"{GRPC[code.grpc].name} ({code.grpc})"] for code in Code]
