"""Where a list was left off, as a text that clients hand back unread. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from services.control.emission_store import EmissionRecord, Place
from services.control.errors import Fault, Invalid
from services.control.planning.model import EPOCH

_PLACE = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,3})", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = 253_000_000_000_000_000  # microseconds until about the year 9987


def format_place(record: EmissionRecord) -> str:
    """The place behind a record."""
    return f"{(record.starts_at - EPOCH) // _MICROSECOND}.{record.device_no}.{record.item}"


def parse_place(text: str) -> Place:
    """The place a client hands back. Raises `Invalid`."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match.group(1)) > _LATEST:
        raise Invalid(Fault("after", "bad_place"))
    return Place(
        starts_at=EPOCH + int(match.group(1)) * _MICROSECOND,
        device_no=int(match.group(2)),
        item=int(match.group(3)),
    )
