"""Where a list was left off: as a text that clients hand back unread, or as a link to the next page."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query, Request, Response

from services.control.emission_store import EmissionRecord, Place
from services.control.errors import Fault, Invalid
from services.control.planning.model import EPOCH

_PLACE = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,3})", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = 253_000_000_000_000_000  # microseconds until about the year 9987


BeforeId = Annotated[
    uuid.UUID | None, Query(description="with `before`: also those of that very instant that stand behind this id")
]


def link_next(request: Request, response: Response, before: datetime, before_id: uuid.UUID, **more: object) -> None:
    """Name the page that goes on behind what was shown last (RFC 8288); the rest of the query stays as it is.

    `more` tells apart what has the instant and the id in common.
    """
    after = request.url.include_query_params(before=before.isoformat(), before_id=str(before_id), **more)
    # The path alone: which name the client reached us by is its own affair.
    response.headers["Link"] = f'<{after.path}?{after.query}>; rel="next"'


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
