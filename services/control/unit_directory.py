"""The tree of units held in memory, read anew whenever it has changed; and importing a file into it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import audit, planning_queue, unit_changes, unit_files, unit_store
from services.control.errors import Conflict, Fault
from services.control.permissions import Actor
from services.control.planning.recurrence import start_of
from services.control.unit_store import StrandedUnit
from services.control.units import UnitHistory, UnitTree
from services.shared.database.pool import Connection

_STRANDED_SHOWN = 20


class UnitDirectory:
    """The history of units as last read; `zone` decides which day it is."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._revision: int | None = None
        self._history = UnitHistory(())

    async def history(self, connection: Connection) -> UnitHistory:
        """Every version of every unit, as committed now."""
        revision = await unit_store.revision(connection)
        if revision != self._revision:
            # Read after the number: what is read may be newer than the number says, never older.
            self._history = await unit_store.load_units(connection)
            self._revision = revision
        return self._history

    async def tree(self, connection: Connection, *, now: datetime) -> UnitTree:
        """The tree of the local day of `now`."""
        return (await self.history(connection)).on(self.today(now=now))

    def today(self, *, now: datetime) -> date:
        """The local day of `now`."""
        return now.astimezone(self.zone).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did."""

    valid_from: date
    units: int
    opened: int
    closed: int
    kept: int
    root_id: UnitId
    stranded: tuple[StrandedUnit, ...]


async def import_units(
    connection: Connection,
    content: bytes,
    *,
    valid_from: date,
    zone: ZoneInfo,
    may_strand: bool,
    actor: Actor | None,
    origin: str | None,
    now: datetime,
) -> Imported:
    """Make the file the whole tree from `valid_from` on; `connection` is in a transaction.

    Raises `Invalid` for a faulty file, `Conflict` when a newer tree is already there, or when a unit that is closed by
    it still has devices or accounts and `may_strand` does not say that this is meant. Importing the same file for the
    same day again changes nothing.
    """
    rows = unit_files.parse(content)
    await unit_store.lock_units(connection)
    history = await unit_store.load_units(connection)
    newest = unit_changes.newest_day(history)
    if newest is not None and valid_from < newest:
        raise Conflict(
            "unit_tree_is_newer",
            faults=[Fault("valid_from", "before_newest_tree", {"newest": newest.isoformat()})],
            facts={"newest": newest.isoformat()},
        )
    changes = unit_changes.changes(history, rows, valid_from=valid_from, new_id=uuid.uuid4)
    stranded = await unit_store.stranded(connection, changes.closed, history.heirs)
    if not may_strand:
        check_nobody_stranded(stranded)
    if not changes.are_none:
        await unit_store.apply(connection, changes, at=now)
        await unit_store.end_heirs(connection, changes.closed, day=valid_from, starts_at=start_of(valid_from, zone))
        digest = hashlib.sha256(content).digest()
        by = actor.account_id if actor else None
        await unit_store.record_import(
            connection, valid_from=valid_from, file_sha256=digest, units=len(rows), at=now, by=by
        )
        await planning_queue.request_everything(connection, at=now)
    root = (await unit_store.load_units(connection)).on(valid_from).roots[0]
    imported = Imported(
        valid_from=valid_from,
        units=len(rows),
        opened=len(changes.opened),
        closed=len(changes.closed),
        kept=changes.kept,
        root_id=root.unit_id,
        stranded=stranded,
    )
    await audit.record(
        connection,
        audit.Entry(
            action="units_imported",
            unit_id=root.unit_id,
            subject=f"units:{valid_from.isoformat()}",
            before={"newest_tree": newest.isoformat() if newest else None},
            after={
                "valid_from": valid_from.isoformat(),
                "units": len(rows),
                "opened": len(changes.opened),
                "closed": len(changes.closed),
                "sha256": hashlib.sha256(content).hexdigest(),
            },
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return imported


def check_nobody_stranded(stranded: Sequence[StrandedUnit]) -> None:
    """Raise `Conflict` when units that are to be closed still have devices or accounts."""
    if stranded:
        raise Conflict(
            "units_in_use",
            facts={
                "units": len(stranded),
                "devices": sum(each.devices for each in stranded),
                "accounts": sum(each.accounts for each in stranded),
            },
            members={
                "units": [
                    {"unit_id": str(each.unit_id), "devices": each.devices, "accounts": each.accounts}
                    for each in stranded[:_STRANDED_SHOWN]
                ]
            },
        )
