"""Structured logs, and the reconcile that each line belongs to.

A reconcile costs nothing here until something logs: the worker sets one context variable, and the processor
`add_reconcile` reads it when a line is written.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Literal, TextIO

import orjson
import structlog

from ._objects import Key


class ReconcileScope:
    """What is being reconciled by the current task and by the tasks it started."""

    __slots__ = ("_id", "controller", "group", "key", "kind")

    def __init__(self, controller: str, group: str, kind: str, key: Key) -> None:
        self.controller = controller
        self.group = group
        self.kind = kind
        self.key = key
        self._id = ""

    @property
    def reconcile_id(self) -> str:
        """A UUID of this one reconcile, made when it is first asked for."""
        if not self._id:
            self._id = str(uuid.uuid4())
        return self._id


current_reconcile: ContextVar[ReconcileScope | None] = ContextVar("current_reconcile", default=None)


def add_reconcile(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: adds controller, controllerGroup, controllerKind, namespace, name, reconcileID.

    Fields that the line already has are kept.
    """
    scope = current_reconcile.get()
    if scope is not None:
        event.setdefault("controller", scope.controller)
        if scope.kind:
            event.setdefault("controllerGroup", scope.group)
            event.setdefault("controllerKind", scope.kind)
        if scope.key.namespace:
            event.setdefault("namespace", scope.key.namespace)
        event.setdefault("name", scope.key.name)
        event.setdefault("reconcileID", scope.reconcile_id)
    return event


def _dumps(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(
    *,
    level: str = "info",
    format: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send the whole process's logs, the standard library's included, to `stream` (default stderr).

    One JSON object a line: `timestamp` (RFC 3339, UTC), `level`, `event`, the fields of the call, those of
    the running reconcile, and `exception` with a traceback. Raises ValueError for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"level={level!r}: use debug, info, warning or error")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_reconcile,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    out = sys.stderr if stream is None else stream
    finish: list[Any]
    if format == "json":
        finish = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
    else:
        finish = [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    # One line a request is the access log's business, not an operator's.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
