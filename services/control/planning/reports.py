"""From what ingest stored of an event to a report that can be weighed. Pure.

Bodies are `schemas.wire.to_json` of an event: field names, enumeration names in lower case, bytes in hex.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.events import BootReason, MissReason, PlayOutcome
from schemas.fields import PlayReference, PlaySource, PowerSource
from schemas.identifiers import BroadcastId
from services.control.planning.model import SlotKey, from_ms
from services.control.planning.reconcile import Ended, NotPlayed, Report, Standing, Started

PLAY_STARTED, PLAY_ENDED, PLAY_MISSED = "play_started", "play_ended", "play_missed"
BOOTED, POWER_CHANGED = "booted", "power_changed"
PLAYS = frozenset({PLAY_STARTED, PLAY_ENDED, PLAY_MISSED})

Body = Mapping[str, Any]


def emission_key(body: Body) -> SlotKey | None:
    """The slot that a report about a play is about; None when what played was no emission, or the body is not read."""
    try:
        reference = body["reference"]
        if reference["source"] != PlaySource.EMISSION.name.lower():
            return None
        return (
            BroadcastId(uuid.UUID(reference["id"])),
            from_ms(reference["occurrence_at_ms"]),
            int(reference["item"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_report(kind: str, body: Body, *, event_no: int, standing: Standing, is_clock_trusted: bool) -> Report | None:
    """The report in an event's body; None when this version cannot read it."""
    try:
        if kind == PLAY_STARTED:
            return Started(
                event_no=event_no,
                standing=standing,
                is_clock_trusted=is_clock_trusted,
                started_at=_instant(body, "started_at_ms"),
            )
        if kind == PLAY_ENDED:
            return Ended(
                event_no=event_no,
                standing=standing,
                is_clock_trusted=is_clock_trusted,
                started_at=_instant(body, "started_at_ms"),
                ended_at=_instant(body, "ended_at_ms"),
                outcome=PlayOutcome[body["outcome"].upper()],
                sounded=timedelta(milliseconds=body["sounded_ms"]),
                samples=body.get("samples"),
                sample_rate_hz=body.get("sample_rate_hz"),
                media_sha256=bytes.fromhex(body["media"]) if "media" in body else None,
                volume_percent=body.get("volume_percent"),
                cut_by=_reference(body.get("cut_by")),
                interruptions=body.get("interruptions", 0),
                fallback=timedelta(milliseconds=body.get("fallback_ms", 0)),
            )
        if kind == PLAY_MISSED:
            return NotPlayed(
                event_no=event_no,
                standing=standing,
                is_clock_trusted=is_clock_trusted,
                reason=MissReason[body["reason"].upper()],
                cut_by=_reference(body.get("cut_by")),
            )
    except (KeyError, TypeError, ValueError):
        # A newer ingest may know words that we do not: what we cannot read is no report, and is counted by the caller.
        return None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReport:
    """What a device said about its power. A boot says until when it had been up, and whether power brought it back."""

    is_boot: bool
    is_mains: bool
    up_until: datetime | None = None


def read_power(kind: str, body: Body) -> PowerReport | None:
    """What an event says about power; None when it says nothing, or this version cannot read it."""
    try:
        if kind == BOOTED:
            up_until = body.get("last_up_at_ms")
            return PowerReport(
                is_boot=True,
                is_mains=BootReason[body["reason"].upper()] is BootReason.POWER_ON,
                up_until=from_ms(int(up_until)) if up_until is not None else None,
            )
        if kind == POWER_CHANGED:
            # The sun is where some clusters live; only a battery means that mains are gone.
            return PowerReport(is_boot=False, is_mains=PowerSource[body["source"].upper()] is not PowerSource.BATTERY)
    except (KeyError, TypeError, ValueError):
        return None
    return None


def _instant(body: Body, name: str) -> datetime:
    return from_ms(int(body[name]))


def _reference(found: Body | None) -> PlayReference | None:
    if found is None:
        return None
    return PlayReference(
        source=PlaySource[found["source"].upper()],
        id=uuid.UUID(found["id"]),
        occurrence_at_ms=found.get("occurrence_at_ms"),
        item=found.get("item"),
    )
