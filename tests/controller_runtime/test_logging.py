import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from controller_runtime import Key
from controller_runtime._logging import ReconcileScope, add_reconcile, configure_logging, current_reconcile


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_are_json_with_the_running_reconcile() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    log = structlog.get_logger("mine")
    log.info("outside")
    scope = ReconcileScope("paint", "example.org", "Fence", Key("ns", "a"))
    token = current_reconcile.set(scope)
    log.warning("inside", count=3, odd={1, 2}.__class__, name="kept")
    current_reconcile.reset(token)
    log.debug("not at this level")
    outside, inside = lines(stream)
    assert (outside["event"], outside["level"]) == ("outside", "info")
    assert "controller" not in outside
    assert outside["timestamp"].endswith("Z")
    assert inside["controller"] == "paint"
    assert inside["controllerGroup"] == "example.org"
    assert inside["controllerKind"] == "Fence"
    assert inside["namespace"] == "ns"
    assert inside["name"] == "kept"
    assert inside["reconcileID"] == scope.reconcile_id
    assert inside["count"] == 3


def test_the_standard_library_speaks_the_same_format() -> None:
    stream = io.StringIO()
    configure_logging(level="warning", stream=stream)
    token = current_reconcile.set(ReconcileScope("c", "", "", Key("", "a")))
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("some.library").exception("failed %s", "badly")
    current_reconcile.reset(token)
    logging.getLogger("some.library").info("silent")
    (line,) = lines(stream)
    assert line["event"] == "failed badly"
    assert line["logger"] == "some.library"
    assert line["controller"] == "c"
    assert "controllerKind" not in line
    assert "namespace" not in line
    assert "KeyError: 'x'" in line["exception"]


def test_exceptions_of_structlog_are_text() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger().error("failed", exc_info=ValueError("why"))
    assert "ValueError: why" in lines(stream)[0]["exception"]


def test_console_format_and_unknown_levels() -> None:
    stream = io.StringIO()
    configure_logging(format="console", stream=stream)
    structlog.get_logger().info("hello", who="world")
    assert "hello" in stream.getvalue()
    with pytest.raises(ValueError, match="level='loud'"):
        configure_logging(level="loud")


def test_the_processor_costs_no_id_until_something_is_logged() -> None:
    scope = ReconcileScope("c", "g", "K", Key("ns", "a"))
    assert scope._id == ""
    token = current_reconcile.set(scope)
    event = add_reconcile(None, "info", {})
    current_reconcile.reset(token)
    assert event["reconcileID"] == scope._id != ""
