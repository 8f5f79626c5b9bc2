"""JSON lines on stdout through structlog; orjson writes them and nothing is formatted twice."""

from __future__ import annotations

import logging
import sys
from typing import BinaryIO, Protocol

import orjson
import structlog


class Logger(Protocol):
    """The part of a bound structlog logger that this package uses."""

    def bind(self, **values: object) -> Logger: ...
    def is_enabled_for(self, level: int) -> bool: ...
    def debug(self, event: str, **values: object) -> object: ...
    def info(self, event: str, **values: object) -> object: ...
    def warning(self, event: str, **values: object) -> object: ...
    def error(self, event: str, **values: object) -> object: ...


def configure(level: str = "info", stream: BinaryIO | None = None) -> Logger:
    """Sets structlog up for this process and returns the root logger; `level` as logging has it."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=stream or sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    logger: Logger = structlog.get_logger()
    return logger


def _dumps(value: object, **_: object) -> bytes:
    return orjson.dumps(value, default=str)
