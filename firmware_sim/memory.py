"""What a device writes down to survive a power cut, and how.

Three files hold signed orders exactly as they came (`keys`, `config`, `plan`): they are verified again at every start,
so a tampered flash is no way around a signature; `alerts` holds signed alerts in the same way (`standing`). One small file, `notes`, holds what no order says. An order is written
before the notes that mention it, so a crash in between costs nothing: the serial is taken from the order itself.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firmware_sim.programme import Play
from schemas.events import MessageKind
from schemas.fields import PlayReference, PlaySource
from schemas.identifiers import CommandId

KEYS, CONFIG, PLAN, NOTES, ALERTS = "keys", "config", "plan", "notes", "alerts"
FILES = (KEYS, CONFIG, PLAN, NOTES, ALERTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a device remembers besides its orders; see `firmware_sim.device.DeviceState` for the meaning of each."""

    serials: Mapping[MessageKind, int] = field(default_factory=dict)
    floor_ms: int = 0
    plan_accepted_at_ms: int = 0
    connection_number: int = 0
    is_silenced: bool = False
    volume_override: int | None = None
    executed: tuple[CommandId, ...] = ()
    unfinished: tuple[CommandId, ...] = ()
    settled: Mapping[PlayReference, int] = field(default_factory=dict)
    plays: tuple[Play, ...] = ()
    expired_serial: int | None = None
    fallback_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection:
    """What the flash holds at a start. `media` are files found complete, by hash, with their sizes."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    media: Mapping[bytes, int] = field(default_factory=dict)
    last_up_at_ms: int | None = None


def dump(notes: Notes) -> bytes:
    """The notes as bytes for the flash."""
    return json.dumps(
        {
            "serials": {kind.name: serial for kind, serial in notes.serials.items()},
            "floor_ms": notes.floor_ms,
            "plan_accepted_at_ms": notes.plan_accepted_at_ms,
            "connection_number": notes.connection_number,
            "is_silenced": notes.is_silenced,
            "volume_override": notes.volume_override,
            "executed": [str(each) for each in notes.executed],
            "unfinished": [str(each) for each in notes.unfinished],
            "settled": [[_reference_out(reference), until] for reference, until in notes.settled.items()],
            "plays": [_play_out(play) for play in notes.plays],
            "expired_serial": notes.expired_serial,
            "fallback_at_ms": notes.fallback_at_ms,
        },
        separators=(",", ":"),
    ).encode()


def load(content: bytes | None) -> Notes:
    """The notes in `content`. Unreadable notes are no notes: what they guard is guarded by the signed orders as well."""
    if content is None:
        return Notes()
    try:
        data = json.loads(content)
        return Notes(
            serials={MessageKind[name]: int(serial) for name, serial in data["serials"].items()},
            floor_ms=int(data["floor_ms"]),
            plan_accepted_at_ms=int(data["plan_accepted_at_ms"]),
            connection_number=int(data["connection_number"]),
            is_silenced=bool(data["is_silenced"]),
            volume_override=data["volume_override"],
            executed=tuple(CommandId(uuid.UUID(each)) for each in data["executed"]),
            unfinished=tuple(CommandId(uuid.UUID(each)) for each in data["unfinished"]),
            settled={_reference_in(reference): int(until) for reference, until in data["settled"]},
            plays=tuple(_play_in(play) for play in data["plays"]),
            # An earlier firmware wrote neither; forgetting the rest for it would have things played twice.
            expired_serial=data.get("expired_serial"),
            fallback_at_ms=int(data.get("fallback_at_ms", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Notes()


def _reference_out(reference: PlayReference) -> list[Any]:
    return [int(reference.source), reference.id.hex, reference.occurrence_at_ms, reference.item]


def _reference_in(data: list[Any]) -> PlayReference:
    source, identity, occurrence_at_ms, item = data
    return PlayReference(
        source=PlaySource(source), id=uuid.UUID(hex=identity), occurrence_at_ms=occurrence_at_ms, item=item
    )


def _play_out(play: Play) -> dict[str, Any]:
    return {
        "reference": _reference_out(play.reference),
        "media": None if play.media is None else play.media.hex(),
        "volume_percent": play.volume_percent,
        "started_at_ms": play.started_at_ms,
        "sounded_ms": play.sounded_ms,
        "samples": play.samples,
        "sample_rate_hz": play.sample_rate_hz,
        "interruptions": play.interruptions,
        "cut_by": None if play.cut_by is None else _reference_out(play.cut_by),
        "paused_at_ms": play.paused_at_ms,
        "shifted_ms": play.shifted_ms,
        "source_id": None if play.source_id is None else play.source_id.hex,
        "fallback_ms": play.fallback_ms,
        "is_silent": play.is_silent,
    }


def _play_in(data: dict[str, Any]) -> Play:
    return Play(
        reference=_reference_in(data["reference"]),
        token=None,  # whatever the player held, it holds no longer
        media=None if data["media"] is None else bytes.fromhex(data["media"]),
        volume_percent=data["volume_percent"],
        started_at_ms=data["started_at_ms"],
        sounded_ms=int(data["sounded_ms"]),
        samples=data["samples"],
        sample_rate_hz=data["sample_rate_hz"],
        interruptions=int(data["interruptions"]),
        cut_by=None if data["cut_by"] is None else _reference_in(data["cut_by"]),
        paused_at_ms=data["paused_at_ms"],
        shifted_ms=int(data["shifted_ms"]),
        source_id=None if data.get("source_id") is None else uuid.UUID(hex=data["source_id"]),
        fallback_ms=int(data.get("fallback_ms", 0)),
        is_silent=bool(data.get("is_silent", False)),
    )
