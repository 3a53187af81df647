"""Making the proof sheet of a unit and a month from what is on record."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import proof_sheet_store
from services.control.errors import Fault, Invalid
from services.control.planning.recurrence import start_of
from services.control.proof_sheet_store import Held
from services.control.proof_sheets import Month, Sheet
from services.control.units import UnitHistory
from services.shared.database.pool import Connection


async def sheet_of(
    connection: Connection, unit_id: UnitId, month: Month, *, history: UnitHistory, zone: ZoneInfo
) -> Sheet:
    """The sheet as it stands now, for a unit of today or of a tree of the past.

    On each day count the units that lay below it on that day, and after a reform those closed ones that are taken for
    them. Raises `Invalid` when the unit was in the tree on no day of the month.
    """
    spans = [
        (first, end, history.on(first))
        for first, end in history.spans(month.first, month.end)
        if history.on(first).stands(unit_id)
    ]
    if not spans:
        raise Invalid(Fault("month", "unit_not_in_month", {"month": str(month)}))
    held = [
        Held(begins_at=start_of(first, zone), ends_at=start_of(end, zone), unit_ids=tree.subtree(unit_id))
        for first, end, tree in spans
    ]
    (first, _, _), (_, end, tree) = spans[0], spans[-1]
    unit = tree.get(unit_id)
    assert unit is not None
    added = await proof_sheet_store.add_up(connection, held, time_zone=zone.key, tree=tree, history=history)
    units = frozenset(each for span in held for each in span.unit_ids)
    return Sheet(
        unit_id=unit_id,
        code=unit.code,
        name=unit.name,
        path=tuple(above.name for each in tree.ancestors(unit_id) if (above := tree.get(each)) is not None),
        month=month,
        time_zone=zone.key,
        days_held=(first, end),
        days=added.days,
        broadcasts=added.broadcasts,
        devices=added.devices,
        reasons=added.reasons,
        bulletins=added.bulletins,
        problems=await proof_sheet_store.problems(connection, units, first=first, end=end),
        uptake=await proof_sheet_store.uptake(
            connection, units, begins_at=start_of(first, zone), ends_at=start_of(end, zone)
        ),
        own_units=units,
    )


def check_digest(text: str) -> bytes:
    """The digest as it is printed on a sheet, blanks allowed. Raises `Invalid`."""
    try:
        digest = bytes.fromhex("".join(text.split()))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Invalid(Fault("digest", "not_a_digest"))
    return digest


def is_over(month: Month, zone: ZoneInfo, *, now: datetime) -> bool:
    """Whether every day of the month is over."""
    return start_of(month.end, zone) <= now
