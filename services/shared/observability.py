"""Logging: one event per line with its fields, for machines (JSON) or for people (plain).

An event has a constant name in the past tense and its facts as fields:
`log.info("batch_committed", extra={"rows": 500})`. Secrets are never fields; settings are logged nowhere.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from services.shared.settings import LogSettings

# What every LogRecord carries by itself; all other attributes are fields of the event.
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, service, logger, event, then the fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON; values JSON does not know are written as text."""
        line: dict[str, Any] = {
            "time": _instant(record),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """`time LEVEL event field=value …`, and the traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line for a person, with a traceback below where there is one."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_instant(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(settings: LogSettings, *, service: str, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to standard error (or `stream`), replacing earlier set-ups."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service) if settings.format == "json" else PlainFormatter())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
