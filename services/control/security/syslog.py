"""Messages of syslog (RFC 5424) and how they are framed on a stream (RFC 6587 section 3.4.1, RFC 5425). Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from services.control.security.events import SecurityEvent

APP_NAME = "loa-control"
# Structured data of ours: we have no enterprise number of our own, and this one is for such use (RFC 5612).
SD_ID = "loa@32473"
# What every receiver over UDP should take (RFC 5426, section 3.2).
UDP_BYTES = 2048

_NIL = "-"
_NAME = re.compile(r'[^!-~]|[=\]"]')  # what no name of a parameter may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is the same in every message of a process."""

    facility: int
    host: str
    process: int


def message(event: SecurityEvent, header: Header, *, limit: int | None = None) -> bytes:
    """The event as one message; facts are structured data, and the text says it once more as JSON.

    Beyond `limit` bytes the text goes first, then facts from the end: what is left is still well formed.
    """
    priority = header.facility * 8 + event.severity
    time = event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fixed = f"<{priority}>1 {time} {_printable(header.host, 255)} {APP_NAME} {header.process} {event.name} "
    facts = [
        f'{_NAME.sub("_", name)[:32]}="{_escaped(str(value))}"'
        for name, value in event.facts.items()
        if value is not None
    ]
    # The mark in front says that the text is UTF-8 (section 6.4).
    text = b" \xef\xbb\xbf" + json.dumps(event.as_dict(), ensure_ascii=False).encode("utf-8", "replace")
    whole = _with(fixed, facts) + text
    if limit is None or len(whole) <= limit:
        return whole
    while facts and len(_with(fixed, facts)) > limit:
        facts.pop()
    return _with(fixed, facts)


def framed(messages: list[bytes]) -> bytes:
    """Messages for a stream, each behind its length."""
    return b"".join(b"%d %b" % (len(each), each) for each in messages)


def _with(fixed: str, facts: list[str]) -> bytes:
    data = f"[{SD_ID} {' '.join(facts)}]" if facts else _NIL
    return f"{fixed}{data}".encode("utf-8", "replace")


def _escaped(value: str) -> str:
    # No character of a value begins a new line for who reads the log.
    plain = "".join(each if each.isprintable() else "\ufffd" for each in value)
    return re.sub(r'(["\\\]])', r"\\\1", plain)


def _printable(value: str, longest: int) -> str:
    return re.sub(r"[^!-~]", "", value)[:longest] or _NIL
