"""What planning looks at, out of rows of the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from asyncpg import Record

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.plans import ContentKind
from services.control.planning.model import (
    EVERY_DAY,
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Fill,
    Fit,
    GroupId,
    GroupTarget,
    Item,
    KindTarget,
    Media,
    Pause,
    Recurrence,
    RelayItem,
    RelaySource,
    SourceId,
    Target,
    UnitTarget,
)
from services.control.units import UnitHistory


def let_pass(pairs: Iterable[tuple[str, UnitId]], units: UnitHistory) -> frozenset[tuple[str, UnitId]]:
    """What approvers let pass: rules of the units that were asked, and of those that stand for them after a reform."""
    found = set(pairs)
    news = found
    while news:
        news = {
            (rule, heir.heir_id) for heir in units.heirs for rule, unit_id in news if heir.unit_id == unit_id
        } - found
        found = found | news
    return frozenset(found)


def allowed(row: Record, units: UnitHistory) -> frozenset[tuple[str, UnitId]]:
    """The rules that approvers let pass for a broadcast, each with whose rule it is."""
    return let_pass(zip(row["allowed_rules"], map(UnitId, row["allowed_by"]), strict=True), units)


def broadcast(row: Record, items: Sequence[Record], targets: Sequence[Record], units: UnitHistory) -> Broadcast:
    """A broadcast with its items and targets."""
    return Broadcast(
        broadcast_id=BroadcastId(row["broadcast_id"]),
        unit_id=UnitId(row["unit_id"]),
        title=row["title"],
        level=Level[row["level"].upper()],
        recurrence=_recurrence(row),
        time_zone=row["time_zone"],
        items=tuple(_item(each) for each in items),
        targets=tuple(_target(each) for each in targets),
        issued_at=row["issued_at"],
        volume_percent=row["volume_percent"],
        resume=ResumePolicy[row["resume"].upper()],
        length=_span(row["length_ms"]),
        fit=Fit(row["fit"]),
        fill=Fill(row["fill"]),
        patience=_span(row["patience_ms"]),
        severity=row["severity"],
        allowed_rules=allowed(row, units),
        is_awaiting=row["is_awaiting"],
    )


def _recurrence(row: Record) -> Recurrence:
    return Recurrence(
        starts_on=row["starts_on"],
        ends_on=row["ends_on"],
        times=tuple(row["local_times"]),
        sessions=tuple(row["sessions"]),
        rrule=EVERY_DAY if row["recurrence"] == "daily" else row["rrule"],
        rdates=tuple(map(parse_local, row["rdates"])),
        exdates=tuple(map(parse_local, row["exdates"])),
    )


def parse_local(text: str) -> date | datetime:
    """A local day, or a local day and time of it, as it is stored: ISO 8601 without an offset."""
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def _item(row: Record) -> Item:
    if row["bulletin_id"] is not None:
        return BulletinItem(number=row["item"], bulletin_id=BulletinId(row["bulletin_id"]), is_jingle=row["is_jingle"])
    if row["pause_ms"] is not None:
        return Pause(number=row["item"], length=timedelta(milliseconds=row["pause_ms"]))
    return RelayItem(
        number=row["item"],
        source_id=SourceId(row["relay_source_id"]),
        length=timedelta(milliseconds=row["length_ms"]),
        starts_after=_span(row["starts_after_ms"]),
        is_live=row["is_live"],
    )


def _target(row: Record) -> Target:
    is_excluded = row["is_excluded"]
    if row["unit_id"] is not None:
        return UnitTarget(unit_id=UnitId(row["unit_id"]), is_excluded=is_excluded)
    if row["group_id"] is not None:
        return GroupTarget(group_id=GroupId(row["group_id"]), is_excluded=is_excluded)
    if row["device_kind"] is not None:
        return KindTarget(kind=DeviceKind[row["device_kind"].upper()], is_excluded=is_excluded)
    return DeviceTarget(device_no=DeviceNo(row["device_no"]), is_excluded=is_excluded)


def bulletin(row: Record) -> Bulletin:
    """A bulletin with its media."""
    return Bulletin(
        bulletin_id=BulletinId(row["bulletin_id"]),
        title=row["title"],
        is_approved=row["state"] == "approved",
        media=media(row),
        board_text=row["board_text"],
        board_style=content(row["board_style"]),
        board_media=board_media(row),
        board_length=_span(row["board_length_ms"]),
        expires_at=row["expires_at"],
        max_plays=row["max_plays"],
    )


def source(row: Record) -> RelaySource:
    """A live source with its fallback."""
    is_direct = row["is_direct"]
    return RelaySource(
        source_id=SourceId(row["source_id"]),
        name=row["name"],
        path=None if is_direct else f"relays/{row['source_id']}",
        url=row["url"] if is_direct else None,
        fallback=media(row),
    )


def _span(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def media(row: Record) -> Media | None:
    """The media file in a row that joins bulletin and media, if the bulletin has one."""
    if row["media_sha256"] is None:
        return None
    return Media(sha256=row["media_sha256"], size=row["size"], mime=row["mime"], duration=_span(row["duration_ms"]))


def board_media(row: Record) -> Media | None:
    """The picture or film in a row that joins bulletin and media, if the bulletin has one."""
    if row["board_media_sha256"] is None:
        return None
    return Media(
        sha256=row["board_media_sha256"],
        size=row["board_size"],
        mime=row["board_mime"],
        duration=_span(row["board_duration_ms"]),
    )


def content(text: str) -> ContentKind:
    """What the word in a row stands for."""
    return ContentKind[text.upper()]


def device(row: Record) -> DeviceRef:
    """A device in service."""
    return DeviceRef(
        device_no=DeviceNo(row["device_no"]),
        device_id=DeviceId(row["device_id"]),
        kind=DeviceKind[row["kind"].upper()],
        unit_id=UnitId(row["unit_id"]),
        registered_at=row["registered_at"],
        retired_at=row["retired_at"],
        ownership=Ownership[row["ownership"].upper()],
        public_share=None if row["public_share_minutes"] is None else timedelta(minutes=row["public_share_minutes"]),
        volume_percent=row["volume_percent"],
    )
