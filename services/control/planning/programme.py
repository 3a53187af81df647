"""What should sound where: the front door of planning.

`plan` answers for a window of local days. Every occurrence that a broadcast asks for there ends as slots on devices or
as a problem that names it. Overlaps are not resolved here: both emissions are planned, each with its rank, and the
device decides at play time by `schemas.arbitration`, as the server does when it explains. So what one broadcast gets
never depends on another broadcast.

Slots are made once per occurrence and item and shared by all devices that put out the same content; devices with equal
programmes share one tuple. A nation's week then costs one list entry per device and occurrence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from schemas.identifiers import BulletinId
from schemas.orders import Rank
from schemas.plans import ContentKind
from services.control.planning import recurrence
from services.control.planning.model import (
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    Media,
    Occurrence,
    Pause,
    Plan,
    Problem,
    ProblemKind,
    Programme,
    RelayItem,
    Slot,
    Snapshot,
    Window,
    to_ms,
)
from services.control.planning.targets import PLAYS, Fleet, Resolution, resolve

# How long a board shows a text that has no sound to last as long as.
TEXT_LENGTH = timedelta(minutes=1)
# An occurrence stays within a day, so that whoever looks two days back has seen all that can still sound.
MAX_OCCURRENCE_LENGTH = timedelta(hours=24)
# Who is ready later than half-way through an item leaves it: the rest of a notice tells nobody anything.
JOINABLE_PARTS = 2
# A unit deeper than the wire can say ranks with the deepest it can.
MAX_ISSUER_DEPTH = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A bulletin at its place in the line-up of one broadcast."""

    item: int
    offset: timedelta
    length: timedelta
    bulletin: Bulletin

    def media(self, content: ContentKind) -> Media | None:
        return self.bulletin.media if content is ContentKind.AUDIO else None

    def text(self, content: ContentKind) -> str | None:
        return self.bulletin.board_text if content is ContentKind.TEXT else None

    def can_be(self, content: ContentKind) -> bool:
        return self.media(content) is not None or bool(self.text(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lineup:
    """What one occurrence of a broadcast consists of, whenever it begins."""

    pieces: tuple[_Piece, ...]
    gaps: tuple[tuple[int, ProblemKind], ...]
    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """The slots of one occurrence for one content, and who gets them."""

    slots: tuple[Slot, ...]
    devices: tuple[DeviceRef, ...]


def plan(snapshot: Snapshot, window: Window) -> Plan:
    """Return what should sound on every device that can play, on the days of `window`, and what is wrong."""
    fleet = Fleet(snapshot.devices)
    bulletins = {bulletin.bulletin_id: bulletin for bulletin in snapshot.bulletins}
    shares: list[_Share] = []
    problems: list[Problem] = []
    for broadcast in snapshot.broadcasts:
        found, wrong = _plan_broadcast(broadcast, bulletins, snapshot, fleet, window)
        shares.extend(found)
        problems.extend(wrong)
    return Plan(
        programmes=_programmes(shares, fleet),
        problems=tuple(sorted(problems, key=lambda problem: problem.order)),
    )


def _plan_broadcast(
    broadcast: Broadcast, bulletins: Mapping[BulletinId, Bulletin], snapshot: Snapshot, fleet: Fleet, window: Window
) -> tuple[list[_Share], list[Problem]]:
    expansion = recurrence.expand(broadcast, window)
    shares: list[_Share] = []
    problems = list(expansion.problems)
    lineup = _line_up(broadcast, bulletins)
    resolutions: dict[int, Resolution] = {}
    for occurrence in expansion.occurrences:
        tree = snapshot.units.on(occurrence.local_day)
        depth = tree.depth(broadcast.unit_id)
        if (kind := _obstacle(broadcast, occurrence, lineup, depth)) is not None:
            problems.append(_problem(kind, occurrence))
            continue
        assert depth is not None
        # One tree object stands for all days between two changes of the tree (UnitHistory.on).
        resolution = resolutions.get(id(tree))
        if resolution is None:
            resolution = resolutions[id(tree)] = resolve(
                broadcast.targets, broadcast.unit_id, tree, fleet, snapshot.groups
            )
        shared = _shares(broadcast, occurrence, lineup, resolution, depth)
        shares.extend(shared)
        problems.extend(_gaps(occurrence, lineup, resolution, shared))
    return shares, problems


def _obstacle(broadcast: Broadcast, occurrence: Occurrence, lineup: _Lineup, depth: int | None) -> ProblemKind | None:
    """What keeps the whole occurrence from being emitted."""
    if occurrence.at < broadcast.issued_at:
        return ProblemKind.BEFORE_ISSUE
    if depth is None:
        return ProblemKind.ISSUER_CLOSED
    if lineup.length > MAX_OCCURRENCE_LENGTH:
        return ProblemKind.TOO_LONG
    return None


def _line_up(broadcast: Broadcast, bulletins: Mapping[BulletinId, Bulletin]) -> _Lineup:
    """Place the items one after another. What cannot be emitted takes no time, so it leaves no silence behind."""
    pieces: list[_Piece] = []
    gaps: list[tuple[int, ProblemKind]] = []
    offset = timedelta(0)
    for item in broadcast.items:
        match item:
            case Pause(length=length):
                offset += length
            case BulletinItem(number=number, bulletin_id=bulletin_id):
                bulletin = bulletins.get(bulletin_id)
                if bulletin is None:
                    gaps.append((number, ProblemKind.BULLETIN_MISSING))
                elif not bulletin.is_approved:
                    gaps.append((number, ProblemKind.BULLETIN_NOT_APPROVED))
                else:
                    length = (bulletin.media.duration if bulletin.media is not None else None) or TEXT_LENGTH
                    pieces.append(_Piece(item=number, offset=offset, length=length, bulletin=bulletin))
                    offset += length
            case RelayItem(number=number):
                gaps.append((number, ProblemKind.SOURCE_MISSING))
            case _:
                assert_never(item)
    return _Lineup(pieces=tuple(pieces), gaps=tuple(gaps), length=offset)


def _shares(
    broadcast: Broadcast, occurrence: Occurrence, lineup: _Lineup, resolution: Resolution, depth: int
) -> list[_Share]:
    rank = Rank(
        level=broadcast.level,
        issuer_depth=min(depth, MAX_ISSUER_DEPTH),
        issued_at_ms=to_ms(broadcast.issued_at),
    )
    shares: list[_Share] = []
    for content in PLAYS.values():
        devices = resolution.audience[content]
        slots = tuple(
            _slot(broadcast, occurrence, piece, content, rank) for piece in lineup.pieces if piece.can_be(content)
        )
        shares.extend(_share(slots, devices))
    return shares


def _share(slots: tuple[Slot, ...], devices: Sequence[DeviceRef]) -> Iterable[_Share]:
    """Give `slots` to `devices`; those that come or go in between get the slots that begin while they are there."""
    if not slots or not devices:
        return
    first, last = slots[0].starts_at, slots[-1].starts_at
    whole = tuple(device for device in devices if device.is_there(first) and device.is_there(last))
    if whole:
        yield _Share(slots=slots, devices=whole)
    if len(whole) < len(devices):
        for device in devices:
            if not (device.is_there(first) and device.is_there(last)):
                some = tuple(slot for slot in slots if device.is_there(slot.starts_at))
                if some:
                    yield _Share(slots=some, devices=(device,))


def _slot(broadcast: Broadcast, occurrence: Occurrence, piece: _Piece, content: ContentKind, rank: Rank) -> Slot:
    starts_at = occurrence.at + piece.offset
    return Slot(
        broadcast_id=broadcast.broadcast_id,
        occurrence_at=occurrence.at,
        item=piece.item,
        starts_at=starts_at,
        ends_at=starts_at + piece.length,
        latest_start_at=starts_at + piece.length / JOINABLE_PARTS,
        rank=rank,
        content=content,
        bulletin_id=piece.bulletin.bulletin_id,
        title=piece.bulletin.title,
        media=piece.media(content),
        text=piece.text(content),
        volume_percent=broadcast.volume_percent,
        resume=broadcast.resume,
    )


def _gaps(
    occurrence: Occurrence, lineup: _Lineup, resolution: Resolution, shares: Iterable[_Share]
) -> Iterable[Problem]:
    """What of this occurrence is not emitted although somebody asked for it."""
    for item, kind in lineup.gaps:
        yield _problem(kind, occurrence, item=item)
    for fault in resolution.faults:
        yield _problem(fault.kind, occurrence, device_no=fault.device_no, detail=fault.detail)
    emitted = {slot.item for share in shares for slot in share.slots}
    for piece in lineup.pieces:
        if piece.item not in emitted:
            yield _problem(ProblemKind.NO_DEVICE, occurrence, item=piece.item)
    for device in resolution.named:
        content = PLAYS.get(device.kind)
        for piece in lineup.pieces:
            if content is None or not piece.can_be(content):
                yield _problem(
                    ProblemKind.CANNOT_PLAY,
                    occurrence,
                    item=piece.item,
                    device_no=device.device_no,
                    detail=device.kind.name.lower(),
                )
            elif not device.is_there(occurrence.at + piece.offset):
                yield _problem(ProblemKind.TARGET_DEVICE_GONE, occurrence, item=piece.item, device_no=device.device_no)
    if not lineup.pieces and not lineup.gaps:
        yield _problem(ProblemKind.BULLETIN_MISSING, occurrence)


def _problem(
    kind: ProblemKind,
    occurrence: Occurrence,
    *,
    item: int | None = None,
    device_no: DeviceNo | None = None,
    detail: str = "",
) -> Problem:
    return Problem(
        kind=kind,
        broadcast_id=occurrence.broadcast_id,
        local_day=occurrence.local_day,
        local_time=occurrence.local_time,
        occurrence_at=occurrence.at,
        item=item,
        device_no=device_no,
        detail=detail,
    )


def _programmes(shares: Sequence[_Share], fleet: Fleet) -> Mapping[DeviceNo, Programme]:
    """Give each device its slots in order; devices that got the same shares get the same tuple."""
    parts: dict[DeviceNo, list[int]] = {device.device_no: [] for device in fleet.by_no.values() if device.kind in PLAYS}
    for index, share in enumerate(shares):
        for device in share.devices:
            parts[device.device_no].append(index)
    known: dict[tuple[int, ...], Programme] = {}
    programmes: dict[DeviceNo, Programme] = {}
    for device_no, indexes in parts.items():
        key = tuple(indexes)
        programme = known.get(key)
        if programme is None:
            slots = [slot for index in key for slot in shares[index].slots]
            programme = known[key] = tuple(sorted(slots, key=lambda slot: slot.order))
        programmes[device_no] = programme
    return programmes
