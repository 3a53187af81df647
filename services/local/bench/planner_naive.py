"""What planning would be without thinking: for each device, each broadcast that means it, each of its dates, each item.

Only times are worked out, with dateutil as its manual shows; who may speak, what a unit accepted or allows, and what
cannot be put out are not looked at, so it does less than `planning.programme`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from dateutil.rrule import rruleset, rrulestr

from schemas.identifiers import BulletinId, UnitId
from services.control.planning.model import (
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceRef,
    RelayItem,
    Snapshot,
    UnitTarget,
    Window,
)

# Broadcast, beginning and item, and when it begins.
Emission = tuple[UUID, datetime, int, datetime]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot by what the loop looks up: broadcasts by the unit they mean, and what lies above a unit."""

    snapshot: Snapshot
    bulletins: Mapping[BulletinId, Bulletin]
    by_unit: Mapping[UnitId, list[Broadcast]]
    session_begins: Mapping[str, time]


def prepare(snapshot: Snapshot) -> Prepared:
    """Look up once what even a plain loop would."""
    by_unit: dict[UnitId, list[Broadcast]] = defaultdict(list)
    for broadcast in snapshot.broadcasts:
        for target in broadcast.targets:
            if isinstance(target, UnitTarget) and not target.is_excluded:
                by_unit[target.unit_id].append(broadcast)
    return Prepared(
        snapshot=snapshot,
        bulletins={bulletin.bulletin_id: bulletin for bulletin in snapshot.bulletins},
        by_unit=by_unit,
        session_begins={each.code: each.begin for policy in snapshot.policies.values() for each in policy.sessions},
    )


def programme(prepared: Prepared, device: DeviceRef, window: Window) -> list[Emission]:
    """The emissions of one device, in order."""
    tree = prepared.snapshot.units.on(window.first)
    emissions = [
        emission
        for unit_id in tree.path(device.unit_id)
        for broadcast in prepared.by_unit.get(unit_id, ())
        for emission in _emissions(prepared, broadcast, window)
    ]
    emissions.sort(key=lambda emission: emission[3])
    return emissions


def _emissions(prepared: Prepared, broadcast: Broadcast, window: Window) -> Iterator[Emission]:
    zone = ZoneInfo(broadcast.time_zone)
    asked = broadcast.recurrence
    first = datetime.combine(window.first, time(0))
    end = datetime.combine(window.end, time(0)) - timedelta(microseconds=1)
    for begins in (*asked.times, *(prepared.session_begins[code] for code in asked.sessions)):
        dates = rruleset()
        dates.rrule(rrulestr(asked.rrule or "FREQ=DAILY;COUNT=1", dtstart=datetime.combine(asked.starts_on, begins)))  # type: ignore[arg-type]
        for left_out in asked.exdates:
            dates.exdate(datetime.combine(left_out, begins))
        for local in dates.between(first, end, inc=True):
            at = local.replace(tzinfo=zone).astimezone(UTC)
            offset = timedelta(0)
            for item in broadcast.items:
                yield broadcast.broadcast_id, at, item.number, at + offset
                offset += _length(prepared, item)


def _length(prepared: Prepared, item: object) -> timedelta:
    match item:
        case BulletinItem(bulletin_id=bulletin_id):
            media = prepared.bulletins[bulletin_id].media
            return timedelta(0) if media is None or media.duration is None else media.duration
        case RelayItem(length=length):
            return length
        case _:
            return timedelta(0)
