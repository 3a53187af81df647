"""What importing a whole tree from a day on changes in the history of units. Pure.

Identity: a unit goes on when the file has the same code, level and name as its version of that day; anything else is a
new unit, because codes are reused for other units (44 of 59 shared codes in the reform of 2025 carry another name).
A file for the day on which the newest tree begins corrects that tree: there the code alone decides, since within one
tree codes are unique, and a corrected name must not make a new unit.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date

from schemas.identifiers import UnitId
from services.control import vietnamese
from services.control.unit_files import UnitRow
from services.control.units import UnitHistory, UnitVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChanges:
    """What to do to the versions: `ended` stop holding at the day, `removed` never held, `added` begin."""

    ended: tuple[UnitVersion, ...]
    removed: tuple[UnitVersion, ...]
    added: tuple[UnitVersion, ...]
    opened: frozenset[UnitId]
    closed: frozenset[UnitId]
    kept: int

    @property
    def are_none(self) -> bool:
        """Whether the history already says what the file says."""
        return not (self.ended or self.removed or self.added)


def newest_day(history: UnitHistory) -> date | None:
    """The day on which the newest version begins; None for an empty history."""
    return max((version.valid_from for version in history.versions), default=None)


def changes(
    history: UnitHistory,
    rows: Iterable[UnitRow],
    *,
    valid_from: date,
    new_id: Callable[[], uuid.UUID],
    apart: Collection[UnitId] = (),
) -> UnitChanges:
    """The changes that make `rows` (parents first) the tree from `valid_from` on.

    `valid_from` must not lie before `newest_day(history)`. Units that are set `apart` do not go on, whatever the file
    calls alike.
    """
    present = [version for version in history.versions if version.is_valid_on(valid_from)]
    is_correction = newest_day(history) == valid_from
    known = {_identity(version, is_correction): version for version in present if version.unit_id not in apart}
    ids: dict[str, UnitId] = {}
    before: dict[UnitId, UnitVersion] = {}
    opened: set[UnitId] = set()
    wanted: dict[UnitId, UnitVersion] = {}
    for row in rows:
        match = known.get(row.code if is_correction else (row.code, row.level, row.name))
        unit_id = match.unit_id if match else UnitId(new_id())
        ids[row.code] = unit_id
        if match:
            before[unit_id] = match
        else:
            opened.add(unit_id)
        wanted[unit_id] = UnitVersion(
            unit_id=unit_id,
            valid_from=valid_from,
            parent_id=ids[row.parent_code] if row.parent_code is not None else None,
            code=row.code,
            level=row.level,
            name=row.name,
            sort_key=vietnamese.sort_key(row.name),
        )
    untouched = {unit_id for unit_id, version in before.items() if _says_the_same(version, wanted[unit_id])}
    overtaken = [version for version in present if version.unit_id not in untouched]
    return UnitChanges(
        ended=tuple(
            replace(version, valid_until=valid_from) for version in overtaken if version.valid_from < valid_from
        ),
        removed=tuple(version for version in overtaken if version.valid_from == valid_from),
        added=tuple(version for unit_id, version in wanted.items() if unit_id not in untouched),
        opened=frozenset(opened),
        closed=frozenset(version.unit_id for version in present) - wanted.keys(),
        kept=len(before),
    )


def applied(history: UnitHistory, change: UnitChanges) -> UnitHistory:
    """The history with the changes carried out."""
    gone = {(version.unit_id, version.valid_from) for version in (*change.ended, *change.removed)}
    kept = (version for version in history.versions if (version.unit_id, version.valid_from) not in gone)
    return UnitHistory((*kept, *change.ended, *change.added), history.heirs)


def _identity(version: UnitVersion, is_correction: bool) -> str | tuple[str, str, str]:
    return version.code if is_correction else (version.code, version.level, version.name)


def _says_the_same(version: UnitVersion, wanted: UnitVersion) -> bool:
    return replace(version, valid_from=wanted.valid_from) == replace(wanted, valid_until=version.valid_until) and (
        version.valid_until is None
    )
